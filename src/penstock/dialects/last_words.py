"""The last block of an answer is what it says.

Clients of Messages and Converse, Claude Code among them, take the last block for the answer. Gemini proves its last
words by a signature behind them, which it recommends to send back and does not ask for (guide "Thought signatures",
read 2026-11): told as a block of its own it would hide them, so it is left out. What proves a call, and what stands
before others, is told.
"""

from msgspec import structs

from penstock.dialects.codec import StreamDecoder
from penstock.domain.chat import Answer, Choice, Part, Text, Thinking
from penstock.domain.stream import Event, Finished, PartBegin, PartDelta, PartEnd, PartMore

END_WITH_WORDS = frozenset({"messages", "invoke", "converse"})
"""Surfaces whose clients do so."""


def _is_proof(part: Part) -> bool:
    return isinstance(part, Thinking) and not (part.text or part.summary or part.sealed)


def ending_with_words(answer: Answer) -> Answer:
    return structs.replace(answer, choices=tuple(map(_ending, answer.choices)))


def _ending(choice: Choice) -> Choice:
    parts = choice.parts
    if len(parts) > 1 and _is_proof(parts[-1]) and isinstance(parts[-2], Text):
        return structs.replace(choice, parts=parts[:-1])
    return choice


class EndingWithWords:
    """`ending_with_words` of a stream: what may be such a proof is held back until more comes."""

    def __init__(self, decoder: StreamDecoder) -> None:
        self._decoder = decoder
        self._held: dict[int, list[Event]] = {}
        self._said: set[int] = set()
        """The choices whose last part is text."""

    def feed(self, data: bytes) -> list[Event]:
        return [told for event in self._decoder.feed(data) for told in self._told(event)]

    def close(self) -> list[Event]:
        return [told for event in self._decoder.close() for told in self._told(event)]

    def _told(self, event: Event) -> list[Event]:
        if isinstance(event, PartBegin):
            held = self._held.pop(event.choice, [])
            if event.choice in self._said and _is_proof(event.part):
                self._held[event.choice] = [event]
                return held
            if isinstance(event.part, Text):
                self._said.add(event.choice)
            else:
                self._said.discard(event.choice)
            return [*held, event]
        if isinstance(event, PartMore | PartEnd) and self._is_held(event.choice, event.index):
            self._held[event.choice].append(event)
            return []
        if isinstance(event, PartDelta) and self._is_held(event.choice, event.index):
            self._said.discard(event.choice)
            return [*self._held.pop(event.choice), event]
        if isinstance(event, Finished):
            self._held.pop(event.choice, None)
        return [event]

    def _is_held(self, choice: int, index: int) -> bool:
        first = next(iter(self._held.get(choice, ())), None)
        return isinstance(first, PartBegin) and first.index == index
