"""The events of a ConverseStream, in both directions.

Source: Amazon Bedrock API reference, `ConverseStreamOutput`: messageStart, then for each block contentBlockStart (of
tools alone: other blocks begin with their first delta), contentBlockDelta and contentBlockStop, then messageStop and
metadata; an exception in a frame of its own where it breaks.
"""

import base64
from typing import Any

import msgspec
from msgspec import Raw, Struct

from penstock.dialects import eventstream
from penstock.dialects.anthropic.target import arguments
from penstock.dialects.base import Forgiving
from penstock.dialects.bedrock import errors
from penstock.dialects.bedrock.answer import (
    FINISHES,
    encode_citation,
    encode_part,
    met_of,
    proof_block,
    report_of,
    stop_of,
)
from penstock.dialects.bedrock.blocks import CALLERS_OWN, NAME, NULL, decode_blocks, decode_citation
from penstock.dialects.bedrock.usage import normalise
from penstock.dialects.codec import Heading
from penstock.dialects.endings import refusal_events
from penstock.dialects.eventstream import Frame
from penstock.dialects.in_turn import InTurn
from penstock.dialects.proofs import packed
from penstock.domain.chat import Citation, Media, Opaque, Part, Refusal, Text, Thinking, ToolCall
from penstock.domain.stream import (
    Begin,
    Ended,
    Event,
    Failed,
    Finished,
    PartBegin,
    PartDelta,
    PartEnd,
    PartEvent,
    PartMore,
    Reported,
    with_more,
)
from penstock.errors import InvalidRequest, UpstreamMalformed, UpstreamReset

MAX_OPEN_BLOCKS = 1024
MAX_WHOLE_BLOCK_BYTES = 64 * 1024 * 1024
"""Of a block that is told whole: an image, or one that only this dialect has."""


# -- from a target ----------------------------------------------------------------------------------------------------


class _Named(Struct):
    toolUseId: str = ""  # noqa: N815  the wire's name
    name: str = ""
    type: str | None = None


class _Start(Struct):
    toolUse: Raw = NULL  # noqa: N815  the wire's name
    toolResult: Raw = NULL  # noqa: N815  the wire's name
    image: Raw = NULL


class _Reasoning(Struct):
    text: str | None = None
    signature: str | None = None
    redactedContent: str | None = None  # noqa: N815  the wire's name


class _Input(Struct):
    input: str = ""


class _Delta(Struct):
    text: str | None = None
    toolUse: _Input | None = None  # noqa: N815  the wire's name
    reasoningContent: _Reasoning | None = None  # noqa: N815  the wire's name
    citation: Raw = NULL
    toolResult: list[Raw] | None = None  # noqa: N815  the wire's name
    image: Raw = NULL


class _Event(Struct):
    contentBlockIndex: int = 0  # noqa: N815  the wire's name
    start: _Start | None = None
    delta: _Delta | None = None
    stopReason: str = ""  # noqa: N815  the wire's name
    additionalModelResponseFields: Raw = NULL  # noqa: N815  the wire's name
    usage: Any = None
    serviceTier: Any = None  # noqa: N815  the wire's name


_event_decoder = Forgiving(_Event)
_named_decoder = msgspec.json.Decoder(_Named)


class _Open:
    """A block that has begun. `whole`: the kind and the members of one that is told when it ends."""

    def __init__(self, index: int, part: Part | None, kind: str = "", whole: dict[str, Any] | None = None) -> None:
        self.index = index
        self.part = part
        self.kind = kind
        self.whole = whole or {}
        self.pieces: list[str] = []
        self.has_text = False


class Decoder:
    """Sans-I/O: a target's stream -> events."""

    def __init__(self) -> None:
        self._splitter = eventstream.Splitter()
        self._begun = False
        self._finished = False
        self._is_counted = False
        self._over = False
        self._open: dict[int, _Open] = {}
        self._said: dict[int, int] = {}
        self._parts = 0
        self._kept_bytes = 0

    def feed(self, data: bytes) -> list[Event]:
        told: list[Event] = []
        for frame in self._splitter.feed(data):
            if not self._over:
                self._take(frame, told)
        return told

    def close(self) -> list[Event]:
        if not self._over or not self._splitter.is_between():
            raise UpstreamReset("The provider's stream broke off before its end.")
        return []

    def _take(self, frame: Frame, told: list[Event]) -> None:
        if frame.is_exception:
            self._over = True
            message, status = errors.told_by(frame)
            told.append(Failed(message, status, frame.kind))
            return
        try:
            self._tell(frame.kind, _event_decoder.decode(frame.payload), told)
        except (msgspec.DecodeError, InvalidRequest, RecursionError, UnicodeDecodeError):
            raise UpstreamMalformed("The provider's stream is not what its API allows.") from None

    def _tell(self, kind: str, event: _Event, told: list[Event]) -> None:
        if kind == "messageStart":
            if self._begun:
                raise UpstreamMalformed("The provider's stream began twice.")
            self._begun = True
            told.append(Begin(NAME))
        elif kind in ("contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"):
            if not self._begun:
                raise UpstreamMalformed("The provider's stream goes on before it began.")
            self._go_on(kind, event, told)

    def _go_on(self, kind: str, event: _Event, told: list[Event]) -> None:
        if kind == "contentBlockStart" and event.start is not None:
            self._start(event.contentBlockIndex, event.start, told)
        elif kind == "contentBlockDelta" and event.delta is not None:
            self._grow(event.contentBlockIndex, event.delta, told)
        elif kind == "contentBlockStop":
            self._stop(event.contentBlockIndex, told)
        elif kind == "messageStop":
            self._finished = True
            extras = {"additionalModelResponseFields": event.additionalModelResponseFields}
            finish = FINISHES.get(event.stopReason, "stop")
            own = {name: value for name, value in extras.items() if value != NULL}
            met = met_of(event.additionalModelResponseFields)
            told.append(Finished(0, finish, event.stopReason, met, own))
            if self._is_counted:
                self._end(told)
        elif kind == "metadata":
            self._is_counted = True
            self._report(event, told)
            if self._finished:
                self._end(told)

    def _add(self, wire_index: int, part: Part | None, kind: str = "", whole: dict[str, Any] | None = None) -> _Open:
        if wire_index in self._open or len(self._open) >= MAX_OPEN_BLOCKS:
            raise UpstreamMalformed("A block of the provider's stream started out of order.")
        block = self._open[wire_index] = _Open(self._parts, part, kind, whole)
        self._parts += 1
        return block

    def _start(self, wire_index: int, start: _Start, told: list[Event]) -> None:
        for kind, raw in (("toolUse", start.toolUse), ("toolResult", start.toolResult), ("image", start.image)):
            if raw == NULL:
                continue
            named = _named_decoder.decode(raw)
            if kind == "toolUse" and named.type in (None, CALLERS_OWN):
                part = ToolCall(named.toolUseId, named.name)
                told.append(PartBegin(0, self._add(wire_index, part).index, part))
            else:
                self._add(wire_index, None, kind, msgspec.json.decode(raw, type=dict[str, Raw]))

    def _grow(self, wire_index: int, delta: _Delta, told: list[Event]) -> None:
        if delta.citation != NULL and wire_index in self._said and wire_index not in self._open:  # its text is closed
            told.append(PartMore(0, self._said[wire_index], citation=decode_citation(delta.citation)))
            return
        block = self._open.get(wire_index) or self._begin_block(wire_index, delta, told)
        if block.part is None:
            self._keep(block, delta)
            return
        reasoning = delta.reasoningContent or _Reasoning()
        text = delta.text or reasoning.text or (delta.toolUse.input if delta.toolUse else "")
        if text:
            block.has_text = True
            told.append(PartDelta(0, block.index, text))
        if reasoning.signature:
            told.append(PartMore(0, block.index, reasoning.signature))
        if reasoning.redactedContent:
            self._count(len(reasoning.redactedContent))
            block.pieces.append(reasoning.redactedContent)
        if delta.citation != NULL:
            told.append(PartMore(0, block.index, citation=decode_citation(delta.citation)))

    def _begin_block(self, wire_index: int, delta: _Delta, told: list[Event]) -> _Open:
        """A block that begins with its first delta."""
        if delta.toolUse is not None or delta.toolResult is not None or delta.image != NULL:
            raise UpstreamMalformed("The provider's stream goes on with a block that it has not started.")
        part: Part = Text("") if delta.reasoningContent is None else Thinking(origin=NAME)
        block = self._add(wire_index, part)
        told.append(PartBegin(0, block.index, part))
        return block

    def _keep(self, block: _Open, delta: _Delta) -> None:
        """What a block that is told whole gets."""
        if delta.toolUse is not None:
            block.pieces.append(delta.toolUse.input)
            self._count(len(delta.toolUse.input))
        if delta.toolResult is not None:
            block.whole.setdefault("content", []).extend(delta.toolResult)
            self._count(sum([len(bytes(raw)) for raw in delta.toolResult]))
        if delta.image != NULL:
            block.whole |= msgspec.json.decode(delta.image, type=dict[str, Raw])
            self._count(len(bytes(delta.image)))

    def _count(self, size: int) -> None:
        self._kept_bytes += size
        if self._kept_bytes > MAX_WHOLE_BLOCK_BYTES:
            raise UpstreamMalformed("The provider sent a block that is too large.")

    def _stop(self, wire_index: int, told: list[Event]) -> None:
        block = self._open.pop(wire_index, None)
        if block is None:  # a block without a word
            return
        if isinstance(block.part, Text):
            self._said[wire_index] = block.index
        if block.part is None:
            if block.kind == "toolUse":
                block.whole["input"] = arguments("".join(block.pieces))
            raw = Raw(msgspec.json.encode({block.kind: block.whole}))
            (part,) = decode_blocks([raw], sealed=False)
            told.append(PartBegin(0, block.index, part))
            self._kept_bytes = 0
        elif isinstance(block.part, ToolCall) and not block.has_text:
            told.append(PartDelta(0, block.index, "{}"))
        elif isinstance(block.part, Thinking) and block.pieces:
            told.append(PartMore(0, block.index, sealed=_joined(block.pieces)))
            self._kept_bytes = 0
        told.append(PartEnd(0, block.index))

    def _report(self, event: _Event, told: list[Event]) -> None:
        usage = normalise(event.usage)
        tier = event.serviceTier.get("type") if isinstance(event.serviceTier, dict) else ""
        if usage is not None:
            told.append(Reported(usage, tier if isinstance(tier, str) else ""))

    def _end(self, told: list[Event]) -> None:
        if self._open:
            raise UpstreamMalformed("The provider's stream ended before its message did.")
        self._over = True
        told.append(Ended())


def _joined(pieces: list[str]) -> str:
    """Bytes that came in pieces, each of which is base64 of its own."""
    if len(pieces) == 1:
        return pieces[0]
    try:
        return base64.b64encode(b"".join(map(base64.b64decode, pieces))).decode()
    except ValueError:
        raise UpstreamMalformed("The provider's stream is not what its API allows.") from None


# -- to a caller ------------------------------------------------------------------------------------------------------


class Encoder:
    """Events -> a caller's stream."""

    def __init__(self, heading: Heading) -> None:
        self._origin = ""
        self._index = -1
        self._part: Part | None = None
        self._texts: dict[int, int] = {}
        self._in_turn = InTurn()
        self._finished = Finished(0, "error")
        self._reported: Reported | None = None

    def encode(self, event: Event) -> bytes:
        if isinstance(event, PartDelta | PartBegin | PartMore | PartEnd):
            return b"".join(map(self._write, self._in_turn.take(event))) if event.choice == 0 else b""
        if isinstance(event, Begin):
            self._origin = event.origin
            return _frame("messageStart", {"role": "assistant"})
        if isinstance(event, Finished):
            if event.choice == 0:
                self._finished = event
                return b"".join(map(self._write, refusal_events(event)))
        elif isinstance(event, Reported):
            self._reported = event
        elif isinstance(event, Failed):
            return errors.exception_frame(event.message, event.status or 500, event.kind)
        elif isinstance(event, Ended):
            return self._end_message()
        return b""

    def _end_message(self) -> bytes:
        end, reported = self._finished, self._reported
        stop = stop_of(end.finish, end.native, end.extras if self._origin == NAME else {})
        usage, tier = (reported.usage, reported.service_tier) if reported else (None, "")
        return _frame("messageStop", stop) + _frame("metadata", report_of(usage, tier))

    def _write(self, event: PartEvent) -> bytes:
        if isinstance(event, PartDelta):
            return b"" if self._part is None else self._delta(_grown(self._part, event.text))
        if isinstance(event, PartBegin):
            return self._start(event.index, event.part)
        if isinstance(event, PartMore) and event.citation is not None:
            return self._cite(event.index, event.citation)
        if self._part is None:  # a part that the API has no block for
            return b""
        return self._stop() if isinstance(event, PartEnd) else self._add(event)

    def _start(self, index: int, part: Part) -> bytes:
        self._part = part
        if isinstance(part, Opaque | Media):
            return self._whole(part)
        self._index += 1
        if isinstance(part, Text):
            self._texts[index] = self._index
        if not isinstance(part, ToolCall):
            return b""
        named = {"toolUseId": part.id, "name": part.name}
        return _frame("contentBlockStart", {"start": {"toolUse": named}, "contentBlockIndex": self._index})

    def _whole(self, part: Part) -> bytes:
        """A block that has come whole, in a start and a delta."""
        blocks = encode_part(part)
        if not blocks:
            self._part = None
            return b""
        block = blocks[0] if isinstance(blocks[0], dict) else msgspec.json.decode(blocks[0], type=dict[str, Any])
        ((kind, told),) = block.items()
        start, delta = _in_two(kind, told)
        if not start:
            self._part = None
            return b""
        self._index += 1
        began = _frame("contentBlockStart", {"start": {kind: start}, "contentBlockIndex": self._index})
        return began + (self._delta({kind: delta}) if delta else b"")

    def _delta(self, delta: dict[str, Any], at: int | None = None) -> bytes:
        where = self._index if at is None else at
        return _frame("contentBlockDelta", {"delta": delta, "contentBlockIndex": where})

    def _cite(self, index: int, citation: Citation) -> bytes:
        """What a text cites, in its block, which may be closed by now: clients go by the number."""
        at = self._texts.get(index)
        return b"" if at is None else self._delta({"citation": encode_citation(citation)}, at)

    def _add(self, more: PartMore) -> bytes:
        part = self._part
        assert part is not None
        self._part = with_more(part, more)
        if not isinstance(part, Thinking) or part.origin != NAME:
            return b""
        sealed = self._delta({"reasoningContent": {"redactedContent": more.sealed}}) if more.sealed else b""
        return sealed + (self._delta({"reasoningContent": {"signature": more.signature}}) if more.signature else b"")

    def _stop(self) -> bytes:
        part = self._part
        before = b""
        if isinstance(part, Thinking) and part.origin != NAME:
            before = self._delta({"reasoningContent": {"signature": packed(part, NAME)}})
        stopped = before + _frame("contentBlockStop", {"contentBlockIndex": self._index})
        if isinstance(part, ToolCall) and part.signature:
            self._index += 1
            stopped += self._delta(proof_block(part))
            stopped += _frame("contentBlockStop", {"contentBlockIndex": self._index})
        return stopped


def _grown(part: Part, text: str) -> dict[str, Any]:
    if isinstance(part, ToolCall):
        return {"toolUse": {"input": text}}
    if isinstance(part, Thinking):
        return {"reasoningContent": {"text": text}}
    assert isinstance(part, Text | Refusal)
    return {"text": text}


def _in_two(kind: str, told: Any) -> tuple[dict[str, Any], Any]:
    """A whole block as what starts it and what a delta brings. Empty where a stream has no such block."""
    told = dict(told) if isinstance(told, dict) else {}
    if kind == "image":
        return {"format": told.get("format")}, {"source": told.get("source")}
    if kind == "toolUse":
        given = told.pop("input", {})
        return told, {"input": msgspec.json.encode(given).decode()}
    if kind == "toolResult":
        content = told.pop("content", [])
        return told, content
    return {}, None


def _frame(kind: str, told: dict[str, Any]) -> bytes:
    return eventstream.encode(Frame(kind, msgspec.json.encode(told)))
