"""The events of a Messages stream, in both directions.

Source: Anthropic API reference, "Streaming messages": message_start, then for each block content_block_start, deltas
and content_block_stop, then message_delta (the stop reason, and usage that is cumulative) and message_stop; pings
anywhere; an `error` event where it breaks. New types of events are passed over, as the reference asks. What was there
before the model went on, such as the results of code that waited for a tool, may stand in message_start, and with it
the stop reason, where there was nothing to go on with (langchain-ai/langchain issue 34406, vercel/ai). Servers that
speak the dialect may tell the same message_start again (NVIDIA/NemoClaw issue 6289, MoonshotAI/Kimi-K2.5 issue 33).
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct, UnsetType, structs

from penstock.dialects import sse
from penstock.dialects.anthropic import errors
from penstock.dialects.anthropic.answer import (
    FINISHES,
    OF_THE_END,
    encode_citation,
    encode_part,
    explanation_of,
    proof_block,
    stop_of,
    text_in,
)
from penstock.dialects.anthropic.blocks import (
    NAME,
    NULL,
    decode_block,
    decode_citation,
    members,
    raw_list,
    rest,
)
from penstock.dialects.anthropic.target import arguments
from penstock.dialects.anthropic.usage import merge, normalise, report, served_tier
from penstock.dialects.base import Forgiving
from penstock.dialects.codec import Heading
from penstock.dialects.endings import fault_told, is_fault
from penstock.dialects.in_turn import InTurn
from penstock.dialects.proofs import packed
from penstock.dialects.tiers import in_openais_words
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
    text_of,
    with_more,
    without_text,
)
from penstock.domain.usage import Usage
from penstock.errors import InvalidRequest, UpstreamMalformed, UpstreamReset

MAX_OPEN_BLOCKS = 1024
MAX_WHOLE_BLOCK_BYTES = 32 * 1024 * 1024
"""Of a block that is told whole, because only this dialect has it."""


# -- from a target ----------------------------------------------------------------------------------------------------


class _Stop(Struct):
    """Why it ended, in a delta or in a message that is told whole."""

    stop_reason: Any = None
    stop_sequence: Any = None
    stop_details: Raw = NULL
    container: Raw = NULL


class _Delta(_Stop):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    citation: Raw = NULL
    content: str | None = None
    encrypted_content: str | None = None


class _Event(Struct):
    type: str = ""
    index: int = 0
    message: Raw = NULL
    content_block: Raw = NULL
    delta: _Delta | UnsetType = msgspec.UNSET
    usage: Any = None
    context_management: Raw = NULL
    error: Any = None


_event_decoder = Forgiving(_Event)
_stop_decoder = msgspec.json.Decoder(_Stop)


class _Open:
    """A block between its start and its stop. `whole`: the members of one that is told at its stop."""

    def __init__(self, index: int, part: Part | None, whole: dict[str, Raw]) -> None:
        self.index = index
        self.part = part
        self.whole = whole
        self.pieces: dict[str, list[str]] = {}
        self.has_text = False


class Decoder:
    """Sans-I/O: a target's stream -> events."""

    def __init__(self) -> None:
        self._splitter = sse.Splitter()
        self._begun = False
        self._id = ""
        self._finished = False
        self._over = False
        self._open: dict[int, _Open] = {}
        self._said: dict[int, int] = {}
        self._parts = 0
        self._kept_bytes = 0
        self._reported: dict[str, Any] = {}
        self._at_start = _Stop()

    def feed(self, data: bytes) -> list[Event]:
        run = self._splitter.feed(data)
        return self._read(run) if run else []

    def close(self) -> list[Event]:
        rest_of_it = self._splitter.rest()
        try:
            events = self._read(rest_of_it + b"\n\n") if rest_of_it.strip() else []
        except UpstreamMalformed:
            events = []
        if not self._over:
            raise UpstreamReset("The provider's stream broke off before its end.")
        return events

    def _read(self, run: bytes) -> list[Event]:
        told: list[Event] = []
        for event in sse.events(run):
            if self._over:
                break
            data = sse.data_of(event) or (event.strip() if event.lstrip().startswith(b"{") else b"")
            if data:
                self._take(data, told)
        return told

    def _take(self, data: bytes, told: list[Event]) -> None:
        try:
            event = _event_decoder.decode(data)
            self._tell(event, told)
        except (msgspec.DecodeError, InvalidRequest, RecursionError, UnicodeDecodeError):
            raise UpstreamMalformed("The provider's stream is not what its API allows.") from None

    def _tell(self, event: _Event, told: list[Event]) -> None:
        kind = event.type
        if kind == "content_block_delta":
            self._grow(event, told)
        elif kind == "content_block_start":
            self._start(event, told)
        elif kind == "content_block_stop":
            self._stop(self._block(event.index), event.index, told)
        elif kind == "message_start":
            self._begin(event, told)
        elif kind == "message_delta":
            self._finish(event, told)
        elif kind == "message_stop":
            self._end(told)
        elif kind == "error" or (not kind and event.error):
            message, status = errors.read_error(event.error)
            name = event.error.get("type") if isinstance(event.error, dict) else ""
            self._over = True
            told.append(Failed(message or "The provider reported an error.", status, str(name or "")))

    def _begin(self, event: _Event, told: list[Event]) -> None:
        message = members(event.message)
        id_, model = _string(message.pop("id", None)), _string(message.pop("model", None))
        if self._begun:
            if id_ != self._id:
                raise UpstreamMalformed("The provider's stream began twice.")
            return
        self._begun, self._id = True, id_
        self._reported = merge({}, msgspec.json.decode(message.pop("usage", NULL)))
        content = message.pop("content", NULL)
        self._at_start = _stop_decoder.decode(event.message)
        for name in ("type", "role", "stop_reason", "stop_sequence", *OF_THE_END):
            message.pop(name, None)
        usage = normalise(self._reported) if self._reported else None
        told.append(Begin(NAME, id_, model, 0, usage, rest(message)))
        for index, block in enumerate(raw_list(content) if content != NULL else ()):
            self._start(_Event(index=index, content_block=block), told)
            self._stop(self._block(index), index, told)

    def _start(self, event: _Event, told: list[Event]) -> None:
        if not self._begun or event.index in self._open or len(self._open) >= MAX_OPEN_BLOCKS:
            raise UpstreamMalformed("A block of the provider's stream started out of order.")
        part = decode_block(event.content_block, sealed=False)
        index, self._parts = self._parts, self._parts + 1
        if isinstance(part, Opaque | Media):
            self._open[event.index] = _Open(index, None, members(event.content_block))
            self._keep(len(bytes(event.content_block)))
            return
        block = self._open[event.index] = _Open(index, part, {})
        told.append(PartBegin(0, index, without_text(part)))
        text = text_of(part)
        if text and not (isinstance(part, ToolCall) and text == "{}"):
            block.has_text = True
            told.append(PartDelta(0, index, text))
        if isinstance(part, Thinking) and (part.signature or part.sealed):
            told.append(PartMore(0, index, part.signature, part.sealed))
        if isinstance(part, Text):
            told += [PartMore(0, index, citation=citation) for citation in part.citations]

    def _block(self, index: int) -> _Open:
        block = self._open.get(index)
        if block is None:
            raise UpstreamMalformed("The provider's stream goes on with a block that it has not started.")
        return block

    def _grow(self, event: _Event, told: list[Event]) -> None:
        block, delta = self._open.get(event.index), event.delta
        if block is None:
            self._cite_late(event, told)
            return
        if delta is msgspec.UNSET:
            return
        assert isinstance(delta, _Delta)
        if block.part is None:
            for name, piece in (("input", delta.partial_json), ("text", delta.text), ("content", delta.content)):
                if piece:
                    self._keep(len(piece))
                    block.pieces.setdefault(name, []).append(piece)
            if delta.encrypted_content:
                block.pieces["encrypted_content"] = [delta.encrypted_content]
            return
        text = delta.text or delta.thinking or delta.partial_json
        if text:
            block.has_text = True
            told.append(PartDelta(0, block.index, text))
        if delta.signature:
            told.append(PartMore(0, block.index, delta.signature))
        if delta.citation != NULL:
            told.append(PartMore(0, block.index, citation=decode_citation(delta.citation)))

    def _cite_late(self, event: _Event, told: list[Event]) -> None:
        """What a text cites that is closed already: nothing else can come of it."""
        part, delta = self._said.get(event.index), event.delta
        if part is None or not isinstance(delta, _Delta) or delta.citation == NULL:
            raise UpstreamMalformed("The provider's stream goes on with a block that is not open.")
        told.append(PartMore(0, part, citation=decode_citation(delta.citation)))

    def _keep(self, size: int) -> None:
        self._kept_bytes += size
        if self._kept_bytes > MAX_WHOLE_BLOCK_BYTES:
            raise UpstreamMalformed("The provider sent a block that is too large.")

    def _stop(self, block: _Open, wire_index: int, told: list[Event]) -> None:
        del self._open[wire_index]
        if isinstance(block.part, Text):
            self._said[wire_index] = block.index
        if block.part is None:
            told.append(PartBegin(0, block.index, decode_block(_whole(block), sealed=False)))
            self._kept_bytes = 0
        elif isinstance(block.part, ToolCall) and not block.has_text:
            told.append(PartDelta(0, block.index, "{}"))
        told.append(PartEnd(0, block.index))

    def _finish(self, event: _Event, told: list[Event]) -> None:
        if not self._begun:
            raise UpstreamMalformed("The provider's stream ended before it began.")
        if isinstance(event.delta, _Delta):
            self._stop_message(event.delta, event.context_management, told)
        if event.usage is not None:
            self._reported = merge(self._reported, event.usage)
        self._report(told)

    def _stop_message(self, stop: _Stop, context_management: Raw, told: list[Event]) -> None:
        reason, sequence = text_in(stop.stop_reason), text_in(stop.stop_sequence)
        if not reason:
            return
        self._finished = True
        at_end = {"stop_details": stop.stop_details, "container": stop.container}
        at_end["context_management"] = context_management
        end = Finished(0, FINISHES.get(reason, "stop"), reason, sequence, rest(at_end))
        told.append(structs.replace(end, explanation=explanation_of(at_end)))

    def _report(self, told: list[Event]) -> None:
        usage = normalise(self._reported) if self._reported else None
        if usage is not None:
            told.append(Reported(usage, in_openais_words(served_tier(self._reported))))

    def _end(self, told: list[Event]) -> None:
        if not self._finished and self._at_start.stop_reason:
            self._stop_message(self._at_start, NULL, told)
            self._report(told)
        if not self._finished or self._open:
            raise UpstreamMalformed("The provider's stream ended before its message did.")
        self._over = True
        told.append(Ended())


def _string(raw: Raw | None) -> str:
    return "" if raw is None else text_in(msgspec.json.decode(raw))


def _whole(block: _Open) -> Raw:
    """A block with what its deltas brought."""
    for name, pieces in block.pieces.items():
        text = "".join(pieces)
        if name == "input":
            block.whole[name] = arguments(text)
        else:
            block.whole[name] = Raw(msgspec.json.encode(text))
    return Raw(msgspec.json.encode(block.whole))


# -- to a caller ------------------------------------------------------------------------------------------------------

_START = b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b",%b:%b}}\n\n'
_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
_ENDING = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

_json = msgspec.json.encode


class Encoder:
    """Events -> a caller's stream. Blocks are told one after the other, as the API does: of parts that overlap, the
    later ones wait."""

    def __init__(self, heading: Heading) -> None:
        self._heading = heading
        self._begin = Begin("")
        self._index = -1
        self._in_turn = InTurn()
        self._part: Part | None = None
        self._is_told = False
        self._texts: dict[int, int] = {}
        self._refusal: list[str] = []
        self._finished = Finished(0, "error")
        self._reported: Reported | None = None

    def encode(self, event: Event) -> bytes:
        if isinstance(event, PartDelta | PartBegin | PartMore | PartEnd):
            return b"".join(map(self._write, self._in_turn.take(event))) if event.choice == 0 else b""
        if isinstance(event, Begin):
            return self._start_message(event)
        if isinstance(event, Finished):
            if event.choice == 0:
                self._finished = event
        elif isinstance(event, Reported):
            self._reported = event
        elif isinstance(event, Failed):
            return _failure(event.message, event.status)
        elif isinstance(event, Ended):
            return self._end_message()
        return b""

    def _start_message(self, event: Begin) -> bytes:
        self._begin = event
        message: dict[str, Any] = {
            "id": event.id or self._heading.id,
            "type": "message",
            "role": "assistant",
            "model": self._heading.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            **(event.extras if event.origin == NAME else {}),
            "usage": report(event.usage or Usage()),
        }
        return _event_of("message_start", {"type": "message_start", "message": message})

    def _end_message(self) -> bytes:
        end, reported = self._finished, self._reported
        if is_fault(end, has_content=self._index >= 0):
            return _failure(fault_told(end), 500)
        extras = dict(end.extras) if self._begin.origin == NAME else {}
        managed = {"context_management": extras.pop("context_management")} if "context_management" in extras else {}
        usage = report(reported.usage, reported.service_tier) if reported else report(self._begin.usage or Usage())
        told = {
            "type": "message_delta",
            "delta": stop_of(end, self._heading.request, extras, self._refusal),
            "usage": usage,
            **managed,
        }
        return _event_of("message_delta", told) + _ENDING

    # -- blocks -----------------------------------------------------------------------------------------------------

    def _write(self, event: PartEvent) -> bytes:
        if isinstance(event, PartDelta):
            return self._grow(event.text)
        if isinstance(event, PartBegin):
            return self._start_block(event)
        if isinstance(event, PartMore) and event.citation is not None:
            return self._cite(event.index, event.citation)
        if self._part is None:  # a part that the API has no block for
            return b""
        return self._stop_block() if isinstance(event, PartEnd) else self._add(event)

    def _start_block(self, event: PartBegin) -> bytes:
        self._part, self._is_told = event.part, False
        part = event.part
        if isinstance(part, Thinking) and part.origin == NAME:
            return b""  # thinking, or redacted: what comes next says which
        if isinstance(part, Text):
            self._texts[event.index] = self._index + 1
        block = {"type": "thinking", "thinking": "", "signature": ""} if isinstance(part, Thinking) else None
        return self._tell(block or encode_part(part, is_own=self._begin.origin == NAME))

    def _cite(self, index: int, citation: Citation) -> bytes:
        """What a text cites, in its block, which may be closed by now: clients go by the number."""
        at = self._texts.get(index)
        return b"" if at is None else _DELTA % (at, b"citations_delta", b'"citation"', _json(encode_citation(citation)))

    def _tell(self, block: Any) -> bytes:
        if block is None:
            self._part = None
            return b""
        self._index += 1
        self._is_told = True
        return _START % (self._index, _json(block))

    def _grow(self, text: str) -> bytes:
        part = self._part
        if isinstance(part, Text):  # nearly all are
            return _DELTA % (self._index, b"text_delta", b'"text"', _json(text))
        if isinstance(part, ToolCall):
            kind, name = b"input_json_delta", b'"partial_json"'
        elif isinstance(part, Thinking):
            kind, name = b"thinking_delta", b'"thinking"'
        elif isinstance(part, Refusal):
            kind, name = b"text_delta", b'"text"'
            self._refusal.append(text)
        else:  # a part that the API has no block for
            return b""
        return self._told_thinking() + _DELTA % (self._index, kind, name, _json(text))

    def _told_thinking(self) -> bytes:
        """The start of a block of thinking that was held back."""
        if self._is_told or not isinstance(self._part, Thinking):
            return b""
        return self._tell({"type": "thinking", "thinking": "", "signature": "", **self._part.extras})

    def _add(self, more: PartMore) -> bytes:
        part = self._part
        assert part is not None
        self._part = with_more(part, more)
        if not isinstance(part, Thinking) or part.origin != NAME:
            return b""
        if more.sealed and not self._is_told:
            return self._tell({"type": "redacted_thinking", "data": more.sealed, **part.extras})
        if not more.signature:
            return b""
        return self._told_thinking() + _DELTA % (self._index, b"signature_delta", b'"signature"', _json(more.signature))

    def _stop_block(self) -> bytes:
        part = self._part
        if isinstance(part, Thinking) and part.origin != NAME:
            proof = _DELTA % (self._index, b"signature_delta", b'"signature"', _json(packed(part, NAME)))
            return proof + _STOP % self._index
        stopped = self._told_thinking() + _STOP % self._index
        if isinstance(part, ToolCall) and part.signature:
            stopped += self._tell(proof_block(part)) + _STOP % self._index
        return stopped


def _failure(message: str, status: int) -> bytes:
    return _event_of("error", {"type": "error", "error": {"type": errors.type_of(status or 500), "message": message}})


def _event_of(name: str, told: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _json(told))
