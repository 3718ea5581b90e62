"""Events written as a caller's stream of chat completion chunks."""

from typing import Any

import msgspec
from msgspec import structs

from penstock.dialects.codec import Heading
from penstock.dialects.custom_tools import Wrapping, is_emulated, is_unknown, unwrapped
from penstock.dialects.endings import fault_told, is_fault, refusal_events, stop_met
from penstock.dialects.openai_chat_codec import functions
from penstock.dialects.openai_chat_codec.answer import End, end_members, logprobs_object, media_members
from penstock.dialects.openai_chat_codec.parts import (
    NAME,
    annotation,
    details_of,
    signature_member,
    tool_call_object,
)
from penstock.dialects.openai_chat_codec.places import Place
from penstock.dialects.openai_usage import chat_usage
from penstock.dialects.tiers import TOLD_BY_OPENAI
from penstock.domain.chat import Citation, Extras, Media, Part, Refusal, Text, Thinking, ToolCall
from penstock.domain.stream import (
    Begin,
    Ended,
    Event,
    Failed,
    Finished,
    Logprobs,
    PartBegin,
    PartDelta,
    PartEnd,
    PartMore,
    Reported,
)

_encode = msgspec.json.Encoder().encode


class _Choice:
    """One choice while it is written: its parts by their index, the places of its tool calls and thoughts, which
    thoughts have had their id, the pieces of calls that can only be told when they are whole, and how much of its
    content is told. `texts`: where in it each open text begins, and what it cites; `said`: where each that is whole
    begins, and its length."""

    def __init__(self) -> None:
        self.parts: dict[int, Part] = {}
        self.places: dict[int, int] = {}
        self.stood: dict[int, Place] = {}
        self.calls = 0
        self.thoughts = 0
        self.named: set[int] = set()
        self.images = 0
        self.annotations = 0
        self.pieces: dict[int, list[str]] = {}
        self.characters = 0
        self.texts: dict[int, tuple[int, list[Citation]]] = {}
        self.said: dict[int, tuple[int, int]] = {}


class ChatEncoder:
    """The first chunk of a choice names the role; usage comes in a chunk of its own, where it was asked for. What is
    listed in a delta has an index: the SDK adds up the deltas by it."""

    def __init__(self, heading: Heading) -> None:
        self._heading = heading
        self._head = b""
        self._tail = b""
        self._choices: dict[int, _Choice] = {}
        self._reported: Reported | None = None
        self._is_own = False
        self._is_one = heading.request.sampling.choices == 1
        self._failed = False
        self._wrappings: dict[tuple[int, int], Wrapping] = {}

    def encode(self, event: Event) -> bytes:
        if isinstance(event, PartDelta) and not self._wrappings:  # nearly all are
            return self._more_text(event)
        if isinstance(event, PartBegin) and not self._is_own and is_unknown(event.part, self._heading.request):
            self._wrappings[event.choice, event.index] = Wrapping()
        if self._wrappings and isinstance(event, PartBegin | PartDelta | PartEnd):
            wrapping = self._wrappings.get((event.choice, event.index))
            if wrapping is not None:
                return b"".join(map(self._tell, wrapping.take(event)))
        return self._tell(event)

    def _tell(self, event: Event) -> bytes:
        if isinstance(event, PartDelta):
            return self._more_text(event)
        if isinstance(event, Begin):
            self._begin(event)
            return b""
        if isinstance(event, PartBegin):
            return self._part(event)
        if isinstance(event, PartMore):
            return self._proof(event)
        if isinstance(event, PartEnd):
            return self._part_end(event)
        if isinstance(event, Logprobs):
            told = logprobs_object(event.content, event.refusal)
            return self._opening(event.choice) + self._chunk(event.choice, {}, {"logprobs": told})
        if isinstance(event, Finished):
            if self._is_one and event.choice not in self._choices and is_fault(event, has_content=True):
                self._failed = True
                return _failure(Failed(fault_told(event)))
            end = End(event.finish, event.native, stop_met(event, self._heading.request))
            own = event.extras if self._is_own else {}
            refused = b"".join(map(self._tell, refusal_events(event)))
            return self._opening(event.choice) + refused + self._chunk(event.choice, {}, {**end_members(end), **own})
        if isinstance(event, Reported):
            self._reported = event
            return b""
        if isinstance(event, Failed):
            return _failure(event)
        return self._ending() if isinstance(event, Ended) and not self._failed else b""

    def _begin(self, event: Begin) -> None:
        """What every chunk says."""
        heading = self._heading
        self._is_own = event.origin == NAME
        head: dict[str, Any] = {
            "id": event.id or heading.id,
            "object": "chat.completion.chunk",
            "created": event.created or heading.created,
            "model": event.model or heading.model,
            **(event.extras if self._is_own else {}),
        }
        self._head = b"data: " + _encode(head)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if heading.wants_usage else b"]}\n\n"

    def _chunk(self, number: int, delta: dict[str, Any], more: dict[str, Any] | None = None) -> bytes:
        if self._heading.form == functions.FORM:
            older = functions.told(delta)
            if older is None:
                return b""
            delta, more = older, functions.ending(more or {})
        choice = {"index": number, "delta": delta, "logprobs": None, "finish_reason": None, **(more or {})}
        return self._head + _encode(choice) + self._tail

    def _opening(self, number: int) -> bytes:
        """The chunk that opens a choice, once."""
        if number in self._choices:
            return b""
        self._choices[number] = _Choice()
        return self._chunk(number, {"role": "assistant", "content": "", "refusal": None})

    def _part(self, event: PartBegin) -> bytes:
        opening = self._opening(event.choice)
        choice, part = self._choices[event.choice], event.part
        choice.parts[event.index] = part
        if isinstance(part, ToolCall):
            choice.places[event.index], choice.calls = choice.calls, choice.calls + 1
            if is_emulated(part, self._heading.request):
                choice.pieces[event.index] = []
                part = choice.parts[event.index] = structs.replace(part, custom=True)
            own = part if self._is_own else structs.replace(part, extras={})
            call = {"index": choice.places[event.index], **tool_call_object(own)}
            return opening + self._chunk(event.choice, {"tool_calls": [call]})
        if isinstance(part, Thinking):
            choice.places[event.index], choice.thoughts = choice.thoughts, choice.thoughts + 1
            choice.stood[event.index] = Place(choice.characters, choice.calls)
            delta = self._thought(choice, event.index, part) if part != structs.replace(part, text="") else {}
            return opening + (self._chunk(event.choice, delta) if delta else b"")
        if isinstance(part, Media):
            told = part if self._is_own else structs.replace(part, extras={})
            return opening + self._chunk(event.choice, _numbered_image(media_members(told, []), choice))
        if isinstance(part, Text):
            choice.texts[event.index] = (choice.characters, [])
        if isinstance(part, Text | Refusal) and part.text:
            return opening + self._more_text(PartDelta(event.choice, event.index, part.text))
        return opening

    def _more_text(self, event: PartDelta) -> bytes:
        choice = self._choices[event.choice]
        part = choice.parts[event.index]
        if isinstance(part, Text):
            choice.characters += len(event.text)
            return b'%b{"index":%d,"delta":{"content":%b},"logprobs":null,"finish_reason":null}%b' % (
                self._head,
                event.choice,
                _encode(event.text),
                self._tail,
            )
        if (pieces := choice.pieces.get(event.index)) is not None:
            pieces.append(event.text)
            return b""
        if isinstance(part, ToolCall):
            kind, name = ("custom", "input") if part.custom else ("function", "arguments")
            call = {"index": choice.places[event.index], kind: {name: event.text}}
            return self._chunk(event.choice, {"tool_calls": [call]})
        if isinstance(part, Thinking):
            told = structs.replace(part, text=event.text)
            return self._chunk(event.choice, self._thought(choice, event.index, told))
        return self._chunk(event.choice, {"refusal": event.text})

    def _thought(self, choice: _Choice, index: int, told: Thinking) -> dict[str, Any]:
        """More reasoning. Of another dialect's a proof may follow, so all of it is told as details, too."""
        delta: dict[str, Any] = {"reasoning_content": told.text} if told.text else {}
        is_bare = told.origin in ("", NAME) and not (told.summary or told.id or told.extras)
        return delta if is_bare else {**delta, "reasoning_details": self._details(choice, index, told)}

    @staticmethod
    def _details(choice: _Choice, index: int, told: Thinking) -> list[dict[str, Any]]:
        """An id is told once: clients put texts together that come again."""
        told = structs.replace(told, id="") if index in choice.named else told
        choice.named.add(index)
        return details_of(told, choice.places[index], choice.stood[index])

    def _proof(self, event: PartMore) -> bytes:
        choice = self._choices[event.choice]
        part = choice.parts[event.index]
        delta: dict[str, Any] = {}
        if isinstance(part, ToolCall) and event.signature:
            signed = structs.replace(part, signature=event.signature)
            own: Extras = signature_member(signed if self._is_own else structs.replace(signed, extras={}))
            nothing = (
                {"custom": {"input": ""}} if part.custom else {"function": {"arguments": ""}}
            )  # clients look there
            delta["tool_calls"] = [{"index": choice.places[event.index], **nothing, **own}]
        elif isinstance(part, Thinking):
            proof = structs.replace(part, text="", signature=event.signature, sealed=event.sealed)
            delta["reasoning_details"] = self._details(choice, event.index, proof)
        elif event.citation is not None and event.index in choice.texts:
            choice.texts[event.index][1].append(event.citation)
        elif event.citation is not None and event.index in choice.said:
            return self._annotated(event.choice, *choice.said[event.index], [event.citation])
        return self._chunk(event.choice, delta) if delta else b""

    def _part_end(self, event: PartEnd) -> bytes:
        choice = self._choices[event.choice]
        if event.index in choice.texts:
            start, cited = choice.texts.pop(event.index)
            choice.said[event.index] = (start, choice.characters - start)
            return self._annotated(event.choice, *choice.said[event.index], cited)
        pieces = choice.pieces.pop(event.index, None)
        return (
            b"" if pieces is None else self._more_text(PartDelta(event.choice, event.index, unwrapped("".join(pieces))))
        )

    def _annotated(self, number: int, start: int, length: int, cited: list[Citation]) -> bytes:
        """What a text cites, when it is whole: only then is it known which characters these are. Entries of a list
        have their number, by which clients put streams together."""
        if not cited:
            return b""
        choice = self._choices[number]
        before = 0 if self._is_own else start
        first, choice.annotations = choice.annotations, choice.annotations + len(cited)
        told = [{"index": first + at, **annotation(one, before, length)} for at, one in enumerate(cited)]
        return self._chunk(number, {"annotations": told})

    def _ending(self) -> bytes:
        if not self._heading.wants_usage or self._reported is None:
            return b"data: [DONE]\n\n"
        told: dict[str, Any] = {"usage": chat_usage(self._reported.usage)}
        if (tier := self._reported.service_tier) and (self._is_own or tier in TOLD_BY_OPENAI):
            told["service_tier"] = tier
        return self._head + b"]," + _encode(told)[1:] + b"\n\ndata: [DONE]\n\n"


def _numbered_image(members: dict[str, Any], choice: _Choice) -> dict[str, Any]:
    """An image with its number among those of the choice."""
    if "images" not in members:
        return members
    index, choice.images = choice.images, choice.images + 1
    return {"images": [{"index": index, **members["images"][0]}]}


def _failure(event: Failed) -> bytes:
    error = {"message": event.message, "type": "api_error", "param": None, "code": event.kind or "upstream_error"}
    return b"data: " + _encode({"error": error}) + b"\n\n"
