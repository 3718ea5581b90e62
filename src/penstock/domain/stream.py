"""A model's answer as it comes: the events of a stream, and how they make a whole.

A plain answer and a stream are the same thing: `collect(events_of(answer)) == answer`. The events of one choice keep
their order; those of several choices, and the parts of one, may overlap.
"""

from collections.abc import Iterable, Iterator

from msgspec import Raw, Struct, field, structs

from penstock.domain.chat import (
    Answer,
    Choice,
    Citation,
    Extras,
    Finish,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from penstock.domain.usage import Usage


class Begin(Struct, frozen=True, tag=True):
    """The first event. `usage`: what is known of the input already (Anthropic)."""

    origin: str
    id: str = ""
    model: str = ""
    created: int = 0
    usage: Usage | None = None
    extras: Extras = field(default_factory=dict)


class PartBegin(Struct, frozen=True, tag=True):
    """A part starts, with what is known of it: `Text("")`, `ToolCall(id, name)`, a whole `Media` or `Opaque`. `index`
    counts the parts of a choice from 0, in order; parts of one choice may overlap (parallel tool calls)."""

    choice: int
    index: int
    part: Part


class PartDelta(Struct, frozen=True, tag=True):
    """More of a part: of a text, of reasoning, of a tool call's arguments."""

    choice: int
    index: int
    text: str


class PartMore(Struct, frozen=True, tag=True):
    """What a part gets besides its text: a proof of reasoning (or of a call), sealed reasoning, a citation."""

    choice: int
    index: int
    signature: str = ""
    sealed: str = ""
    citation: Citation | None = None


class PartEnd(Struct, frozen=True, tag=True):
    """The part is whole."""

    choice: int
    index: int


class Logprobs(Struct, frozen=True, tag=True):
    """Log-probabilities of tokens that have come, of the text and of a refusal, each in OpenAI's chat form."""

    choice: int
    content: tuple[Raw, ...] = ()
    refusal: tuple[Raw, ...] = ()


class Finished(Struct, frozen=True, tag=True):
    choice: int
    finish: Finish
    native: str = ""
    stop_sequence: str = ""
    extras: Extras = field(default_factory=dict)
    explanation: str = ""


class Reported(Struct, frozen=True, tag=True):
    """The usage so far; the last one is what counts."""

    usage: Usage
    service_tier: str = ""


class Failed(Struct, frozen=True, tag=True):
    """The vendor broke off with an error. `status`: the HTTP status that it stands for, 0 when not told."""

    message: str
    status: int = 0
    kind: str = ""


class Ended(Struct, frozen=True, tag=True):
    """The normal ending: the last event of a stream that is whole."""


PartEvent = PartBegin | PartDelta | PartMore | PartEnd
Event = Begin | PartBegin | PartDelta | PartMore | PartEnd | Logprobs | Finished | Reported | Failed | Ended


def with_text(part: Part, text: str) -> Part:
    """The part with more text behind what it has."""
    if isinstance(part, Text | Thinking | Refusal):
        return structs.replace(part, text=part.text + text)
    if isinstance(part, ToolCall):
        return structs.replace(part, arguments=part.arguments + text)
    return part


def with_more(part: Part, more: PartMore) -> Part:
    """The part with what came besides its text."""
    if isinstance(part, Thinking):
        return structs.replace(part, signature=part.signature + more.signature, sealed=part.sealed + more.sealed)
    if isinstance(part, ToolCall):
        return structs.replace(part, signature=part.signature + more.signature)
    if isinstance(part, Text) and more.citation is not None:
        return structs.replace(part, citations=(*part.citations, more.citation))
    return part


def text_of(part: Part) -> str:
    """What grows while a part is streamed."""
    if isinstance(part, Text | Thinking | Refusal):
        return part.text
    return part.arguments if isinstance(part, ToolCall) else ""


def without_text(part: Part) -> Part:
    """The part as it begins in a stream: what grows is left out, what is told besides is not."""
    if isinstance(part, Text):
        return structs.replace(part, text="", citations=())
    if isinstance(part, Thinking):
        return structs.replace(part, text="", signature="", sealed="")
    if isinstance(part, Refusal):
        return Refusal("")
    return structs.replace(part, arguments="", signature="") if isinstance(part, ToolCall) else part


def events_of(answer: Answer) -> Iterator[Event]:
    """The plain answer as a stream would have told it."""
    yield Begin(answer.origin, answer.id, answer.model, answer.created, None, answer.extras)
    for number, choice in enumerate(answer.choices):
        for index, part in enumerate(choice.parts):
            yield PartBegin(number, index, without_text(part))
            if text := text_of(part):
                yield PartDelta(number, index, text)
            yield from _more_of(part, number, index)
            yield PartEnd(number, index)
        if choice.logprobs or choice.refusal_logprobs:
            yield Logprobs(number, choice.logprobs, choice.refusal_logprobs)
        yield Finished(number, choice.finish, choice.native, choice.stop_sequence, choice.extras, choice.explanation)
    if answer.usage is not None:
        yield Reported(answer.usage, answer.service_tier)
    yield Ended()


def _more_of(part: Part, number: int, index: int) -> Iterator[Event]:
    if isinstance(part, Thinking) and (part.signature or part.sealed):
        yield PartMore(number, index, part.signature, part.sealed)
    elif isinstance(part, ToolCall) and part.signature:
        yield PartMore(number, index, part.signature)
    elif isinstance(part, Text):
        for citation in part.citations:
            yield PartMore(number, index, citation=citation)


class _Growing:
    """A choice while it comes."""

    def __init__(self) -> None:
        self.parts: dict[int, Part] = {}
        self.texts: dict[int, list[str]] = {}
        self.logprobs: tuple[Raw, ...] = ()
        self.refusal_logprobs: tuple[Raw, ...] = ()
        self.finished = Finished(0, "error")

    def choice(self) -> Choice:
        end = self.finished
        parts = tuple(with_text(self.parts[index], "".join(self.texts[index])) for index in sorted(self.parts))
        told = (end.finish, end.native, end.stop_sequence)
        return Choice(parts, *told, self.logprobs, self.refusal_logprobs, end.extras, end.explanation)


class Collector:
    """Makes the plain answer of a stream, and keeps what it has while it grows."""

    def __init__(self) -> None:
        self._begin = Begin("")
        self._choices: dict[int, _Growing] = {}
        self._reported: Reported | None = None
        self.failed: Failed | None = None
        self.ended = False

    def take(self, event: Event) -> None:
        if isinstance(event, Begin):
            self._begin = event
        elif isinstance(event, Reported):
            self._reported = event
        elif isinstance(event, Failed):
            self.failed = event
        elif isinstance(event, Ended):
            self.ended = True
        else:
            self._grow(self._choices.setdefault(event.choice, _Growing()), event)

    def answer(self) -> Answer:
        """What has come so far. A choice that nobody finished ends in `error`."""
        begin, reported = self._begin, self._reported
        return Answer(
            begin.origin,
            begin.id,
            begin.model,
            tuple(self._choices[number].choice() for number in sorted(self._choices)),
            begin.created,
            reported.usage if reported else None,
            reported.service_tier if reported else "",
            begin.extras,
        )

    @staticmethod
    def _grow(choice: _Growing, event: PartBegin | PartDelta | PartMore | PartEnd | Logprobs | Finished) -> None:
        if isinstance(event, PartDelta):
            choice.texts[event.index].append(event.text)
        elif isinstance(event, PartBegin):
            choice.parts[event.index] = event.part
            choice.texts[event.index] = []
        elif isinstance(event, PartMore):
            choice.parts[event.index] = with_more(choice.parts[event.index], event)
        elif isinstance(event, Logprobs):
            choice.logprobs += event.content
            choice.refusal_logprobs += event.refusal
        elif isinstance(event, Finished):
            choice.finished = event


def collect(events: Iterable[Event]) -> Answer:
    """The plain answer that these events tell."""
    collector = Collector()
    for event in events:
        collector.take(event)
    return collector.answer()
