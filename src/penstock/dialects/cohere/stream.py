"""The events of a streamed Chat, in both directions.

Source: Cohere API reference, "Chat with Streaming": message-start; for each content block content-start, content-delta
and content-end; tool-plan-delta; for each call tool-call-start, tool-call-delta and tool-call-end; citation-start and
citation-end; message-end with the reason and the usage. `data: [DONE]` follows where the vendor's own stream has it.
"""

from typing import Any

import msgspec

from penstock.dialects import sse
from penstock.dialects.codec import Heading
from penstock.dialects.cohere.answer import content_kind, decode_answer, finish_of, finish_word, usage_of
from penstock.dialects.cohere.parts import (
    NAME,
    NOTHING,
    NOTHING_SAID,
    Logprob,
    citation_object,
    citations_of,
    is_plan,
    is_whole,
    logprob_object,
    logprob_of,
    plan,
    tool_call_object,
    tool_call_of,
)
from penstock.dialects.cohere.usage import report
from penstock.dialects.endings import refusal_events
from penstock.dialects.in_turn import InTurn
from penstock.dialects.members import Members, reply_members
from penstock.domain.chat import Citation, Part, Text, Thinking, ToolCall
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
    PartEvent,
    PartMore,
    Reported,
    events_of,
)
from penstock.errors import UpstreamMalformed, UpstreamReset

# -- from a target ----------------------------------------------------------------------------------------------------

_TELLING = ("content-", "tool-", "citation-", "message-end")
"""How the types of the events begin that tell something of an answer."""

_Key = tuple[str, int]
"""The kind of a part (`text`, `thinking`, `plan`, `call`) and its index among those of its family."""


class Decoder:
    """Sans-I/O: a target's stream -> events. A part ends where the next one begins: the citations of a text may come
    when it is whole."""

    def __init__(self) -> None:
        self._splitter = sse.Splitter()
        self._begun = False
        self._over = False
        self._open: tuple[_Key, Part] | None = None
        self._has_text = False
        self._parts = 0
        self._texts: dict[_Key, int] = {}

    def feed(self, data: bytes) -> list[Event]:
        return self._read(self._splitter.feed(data))

    def close(self) -> list[Event]:
        told = self._read(self._splitter.rest())
        if not self._over:
            raise UpstreamReset("The provider's stream broke off before its end.")
        return told

    def _read(self, run: bytes) -> list[Event]:
        told: list[Event] = []
        for event in sse.events(run) if run else ():
            data = sse.data_of(event) or (event.strip() if event.startswith(b"{") else b"")
            if data and not self._over:
                self._take(data, told)
        return told

    def _take(self, data: bytes, told: list[Event]) -> None:
        if data.strip() == b"[DONE]":
            return
        event = reply_members(data)
        kind = event.text("type")
        delta = event.object("delta")
        if error := event.peek("message"):
            self._fail(error, told)
        elif kind == "message-end" and self._begun:
            self._end(delta, told)
        elif kind == "message-start":
            self._begin(event, told)
        elif kind == "debug":
            return
        elif kind and not self._begun:
            if kind.startswith(_TELLING):
                raise UpstreamMalformed("The provider's stream goes on before it began.")
        elif not kind and event.has("message"):  # a plain answer all the same
            told.extend(events_of(decode_answer(data)))
            self._over = True
        else:
            self._go_on(kind, event, delta.object("message"), told)

    def _begin(self, event: Members, told: list[Event]) -> None:
        if self._begun:
            raise UpstreamMalformed("The provider's stream began twice.")
        self._begun = True
        told.append(Begin(NAME, event.text("id"), extras=event.rest()))

    def _go_on(self, kind: str, event: Members, message: Members, told: list[Event]) -> None:
        index = event.take("index", int) or 0
        if kind in ("content-start", "content-delta"):
            content = message.object("content")
            for name, start in (("thinking", Thinking(origin=NAME)), ("text", Text(""))):
                self._grow((name, index), start, content.text(name), told)
            if (logprob := event.take("logprobs", Logprob)) is not None:
                told.append(Logprobs(0, (logprob_of(logprob),)))
        elif kind == "tool-plan-delta":
            self._grow(("plan", 0), plan(""), message.text("tool_plan"), told)
        elif kind == "tool-call-start":
            call = tool_call_of(message.object("tool_calls"))
            self._start(("call", index), ToolCall(call.id, call.name, origin=NAME, extras=call.extras), told)
            self._grow(("call", index), None, call.arguments, told)
        elif kind == "tool-call-delta":
            arguments = message.object("tool_calls").object("function").json_text("arguments")
            self._grow(("call", index), None, arguments, told)
        elif kind == "citation-start":
            self._cite(message.object("citations"), told)

    def _start(self, key: _Key, part: Part, told: list[Event]) -> None:
        self._close_open(told)
        self._open, self._has_text = (key, part), False
        if isinstance(part, Text):
            self._texts[key] = self._parts
        told.append(PartBegin(0, self._parts, part))
        self._parts += 1

    def _close_open(self, told: list[Event]) -> None:
        if self._open is not None:
            if isinstance(self._open[1], ToolCall) and not self._has_text:
                told.append(PartDelta(0, self._parts - 1, NOTHING))
            told.append(PartEnd(0, self._parts - 1))
            self._open = None

    def _grow(self, key: _Key, start: Part | None, text: str, told: list[Event]) -> None:
        """More of the part, which begins with its first word."""
        if not text:
            return
        if self._open is None or self._open[0] != key:
            if start is None:
                raise UpstreamMalformed("The provider's stream goes on with a call that it has not started.")
            self._start(key, start, told)
        if start is None and not self._has_text and text in NOTHING_SAID:
            return
        self._has_text = True
        told.append(PartDelta(0, self._parts - 1, text))

    def _cite(self, one: Members, told: list[Event]) -> None:
        """A citation goes to the text that it names, else to the one that came last; of no text, it is none."""
        at, is_of_plan, found = citations_of(one)
        named = ("plan", 0) if is_of_plan else ("text", -1 if at is None else at)
        last = max((part for key, part in self._texts.items() if key[0] == "text"), default=None)
        part = self._texts.get(named, last)
        if part is not None:
            told += [PartMore(0, part, citation=citation) for citation in found]

    def _fail(self, message: str, told: list[Event]) -> None:
        self._over = True
        told.append(Failed(message[:1000], 500))

    def _end(self, delta: Members, told: list[Event]) -> None:
        if error := delta.text("error"):
            self._fail(error, told)
            return
        native, usage = delta.text("finish_reason"), usage_of(delta)
        self._close_open(told)
        told.append(Finished(0, finish_of(native), native))
        if usage is not None:
            told.append(Reported(usage))
        told.append(Ended())
        self._over = True


# -- to a caller ------------------------------------------------------------------------------------------------------


class Encoder:
    """Events -> a caller's stream. Parts are told one after the other, as the API does; a content block begins with its
    first word."""

    def __init__(self, heading: Heading) -> None:
        self._heading = heading
        self._is_own = False
        self._in_turn = InTurn()
        self._part: Part | None = None
        self._is_told = False
        self._text: list[str] = []
        self._cited: list[Citation] = []
        self._at = 0
        self._said: dict[int, tuple[int, str]] = {}
        self._blocks = self._calls = self._citations = 0
        self._finished = Finished(0, "error")
        self._reported: Reported | None = None

    def encode(self, event: Event) -> bytes:
        if isinstance(event, PartDelta | PartBegin | PartMore | PartEnd):
            return b"".join(map(self._write, self._in_turn.take(event))) if event.choice == 0 else b""
        if isinstance(event, Begin):
            return self._start_message(event)
        if isinstance(event, Logprobs):
            return b"".join(map(self._logprob, event.content)) if event.choice == 0 else b""
        if isinstance(event, Finished):
            if event.choice == 0:
                self._finished = event
                return b"".join(map(self._write, refusal_events(event)))
        elif isinstance(event, Reported):
            self._reported = event
        elif isinstance(event, Failed):
            return b"data: %b\n\n" % msgspec.json.encode({"message": event.message, "error_type": event.kind})
        elif isinstance(event, Ended):
            return self._end_message()
        return b""

    def _start_message(self, event: Begin) -> bytes:
        self._is_own = event.origin == NAME
        message = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        own = event.extras if self._is_own else {}
        return _event("message-start", {"id": event.id or self._heading.id, **own}, message)

    def _end_message(self) -> bytes:
        delta: dict[str, Any] = {"finish_reason": finish_word(self._finished.finish, self._finished.native)}
        if self._reported is not None:
            delta["usage"] = report(self._reported.usage)
        told = {"type": "message-end", "delta": delta}
        return b"event: message-end\ndata: %b\n\ndata: [DONE]\n\n" % msgspec.json.encode(told)

    def _write(self, event: PartEvent) -> bytes:
        if isinstance(event, PartBegin):
            self._at = event.index
            return self._start_part(event.part)
        if isinstance(event, PartDelta):
            return self._grow(event.text)
        return self._end_part() if isinstance(event, PartEnd) else self._cite(event)

    def _start_part(self, part: Part) -> bytes:
        self._part, self._is_told = part, False
        self._text.clear()
        self._cited.clear()
        if not isinstance(part, ToolCall):
            return b""
        self._is_told = True
        self._calls += 1
        return self._event("tool-call-start", {"tool_calls": tool_call_object(part, is_own=self._is_own)})

    def _event(self, kind: str, message: dict[str, Any] | None = None) -> bytes:
        index = self._calls if kind.startswith("tool-call") else self._blocks
        return _event(kind, {"index": index - 1}, message)

    def _grow(self, text: str) -> bytes:
        part = self._part
        if part is None:
            return b""
        if isinstance(part, ToolCall):
            return self._event("tool-call-delta", {"tool_calls": {"function": {"arguments": text}}})
        if is_plan(part):
            return _event("tool-plan-delta", {}, {"tool_plan": text})
        kind = content_kind(part)
        if not kind:
            return b""
        if kind == "text":
            self._text.append(text)
        return self._started(kind) + self._event("content-delta", {"content": {kind: text}})

    def _started(self, kind: str) -> bytes:
        if self._is_told:
            return b""
        self._is_told = True
        self._blocks += 1
        own = self._part.extras if self._is_own and isinstance(self._part, Text | Thinking) else {}
        return self._event("content-start", {"content": {"type": kind, kind: "", **own}})

    def _cite(self, more: PartMore) -> bytes:
        """Kept until its text is whole: only then is it known which characters it bears on."""
        citation = more.citation
        if citation is not None and more.index in self._said and is_whole(citation):
            block, text = self._said[more.index]
            return self._told(citation, text, block)
        if (
            citation is not None
            and more.index == self._at
            and is_whole(citation)
            and isinstance(self._part, Text)
            and not is_plan(self._part)
        ):
            self._cited.append(citation)
        return b""

    def _citations_told(self) -> bytes:
        if not self._cited:
            return b""
        started, text = self._started("text"), "".join(self._text)
        return started + b"".join(self._told(citation, text, self._blocks - 1) for citation in self._cited)

    def _told(self, citation: Citation, text: str, block: int) -> bytes:
        index, self._citations = {"index": self._citations}, self._citations + 1
        written = citation_object(citation, text, block)
        return _event("citation-start", index, {"citations": written}) + _event("citation-end", index)

    def _logprob(self, raw: msgspec.Raw) -> bytes:
        """Of a token that was told already; none where there is no text that it could be of."""
        if not self._blocks:
            return b""
        told = {"index": self._blocks - 1, "logprobs": logprob_object(raw)}
        return _event("content-delta", told, {"content": {"text": ""}})

    def _end_part(self) -> bytes:
        part, cited = self._part, self._citations_told()
        self._part = None
        if isinstance(part, ToolCall):
            return self._event("tool-call-end")
        if self._is_told and isinstance(part, Text):
            self._said[self._at] = (self._blocks - 1, "".join(self._text))
        return cited + (self._event("content-end") if self._is_told else b"")


def _event(kind: str, members: dict[str, Any], message: dict[str, Any] | None = None) -> bytes:
    delta = {} if message is None else {"delta": {"message": message}}
    told = msgspec.json.encode({"type": kind, **members, **delta})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), told)
