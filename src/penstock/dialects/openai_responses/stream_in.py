"""A target's stream of typed events, read into events of the conversation.

An item is a part, but for messages, whose contents are. What a vendor tells only when an item is done (or only with the
whole response) is told then.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from penstock.dialects import sse
from penstock.dialects.logprobs import of_the_form
from penstock.dialects.members import Members, reply_members
from penstock.dialects.openai_errors import status_in_words, status_of
from penstock.dialects.openai_responses.answer import bare, decode_answer, end_of, item_parts, usage_of
from penstock.dialects.openai_responses.items import (
    NAME,
    SUMMARY_BREAK,
    CallProof,
    call_of,
    citation_of,
    part_of,
    raw_kind,
    thoughts_of,
)
from penstock.domain.chat import Part, Refusal, Text, Thinking, ToolCall
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
    events_of,
    text_of,
    without_text,
)
from penstock.errors import UpstreamMalformed, UpstreamReset

_MAX_PARTS = 16_384
_ENDINGS = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")

_TEXT_DELTA = b'{"type":"response.output_text.delta"'


class _Delta(Struct):
    """More of a text, which nearly all events are."""

    delta: str
    output_index: int = 0
    content_index: int = 0


_delta_decoder = msgspec.json.Decoder(_Delta)

_Key = tuple[int, int]
"""An item's place in the output, and a content's in the item (-1: the item itself; -2: the summary of reasoning)."""


class _Part:
    """A part while it comes. `paragraph`: of a summary."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.told = False
        self.paragraph = 0


class ResponsesDecoder:
    """Sans-I/O. Raises `UpstreamMalformed` for what is no event."""

    def __init__(self) -> None:
        self._splitter = sse.Splitter()
        self._open: dict[_Key, _Part] = {}
        self._parts = 0
        self._contents: dict[_Key, int] = {}
        self._cited: set[_Key] = set()
        self._calls = False
        self._begun = False
        self._over = False

    def feed(self, data: bytes) -> list[Event]:
        out: list[Event] = []
        for event in sse.events(self._splitter.feed(data)):
            self._read(sse.data_of(event), out)
        return out

    def close(self) -> list[Event]:
        out: list[Event] = []
        rest = self._splitter.rest()
        if rest.strip() and not self._over:
            if not self._begun and rest.lstrip().startswith(b"{"):
                self._over = True
                return list(events_of(decode_answer(rest)))
            self._read(sse.data_of(rest + b"\n\n"), out)
        if not self._over:
            raise UpstreamReset("The provider's stream broke off before its end.")
        return out

    def _read(self, data: bytes, out: list[Event]) -> None:
        if self._over or not data or data.strip() == b"[DONE]":
            return
        if self._begun and data.startswith(_TEXT_DELTA):
            try:
                delta = _delta_decoder.decode(data)
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass
            else:
                self._say((delta.output_index, delta.content_index), Text(""), delta.delta, out)
                return
        event = reply_members(data)
        kind = event.text("type")
        if kind == "error" or (not kind and event.has("error")):  # servers that raise an error name no type
            self._fail(_error_of(event), out)
        elif kind in _ENDINGS:
            self._end(kind, event.object("response"), out)
        elif kind == "response.created":
            self._begin(event.object("response"), out)
        elif (handle := _HANDLERS.get(kind)) is not None:
            if not self._begun:
                self._begin(Members({}, event.fault), out)
            handle(self, event, out)

    def _begin(self, response: Members, out: list[Event]) -> None:
        if not self._begun:
            self._begun = True
            id, model = response.json_text("id"), response.json_text("model")
            out.append(Begin(NAME, id, model, response.moment("created_at")))

    def _fail(self, error: Members, out: list[Event]) -> None:
        self._over = True
        kind = error.json_text("code") or error.text("type")
        status = status_of(kind) or status_in_words(kind)
        out.append(Failed(error.text("message") or "The provider reported an error.", status, kind))

    # -- parts --------------------------------------------------------------------------------------------------------

    def _key(self, event: Members, content: bool) -> _Key:
        return event.take("output_index", int) or 0, (event.take("content_index", int) or 0) if content else -1

    def _start(self, key: _Key, part: Part, out: list[Event]) -> _Part:
        if self._parts >= _MAX_PARTS:
            raise UpstreamMalformed("The provider's answer has more parts than any answer.")
        self._open[key] = found = _Part(self._parts)
        self._contents[key] = found.index
        self._parts += 1
        self._calls = self._calls or isinstance(part, ToolCall)
        out.append(PartBegin(0, found.index, part))
        return found

    def _say(self, key: _Key, start: Part, text: str, out: list[Event]) -> _Part:
        part = self._open.get(key) or self._start(key, start, out)
        if text:
            part.told = True
            out.append(PartDelta(0, part.index, text))
        return part

    def _finish(self, key: _Key, out: list[Event]) -> None:
        if (part := self._open.pop(key, None)) is not None:
            out.append(PartEnd(0, part.index))

    def _item_added(self, event: Members, out: list[Event]) -> None:
        key, item = self._key(event, content=False), event.object("item")
        if raw_kind(item) in ("function_call", "custom_tool_call") and item.peek("name"):
            if item.peek("status") == "completed" and item.peek("arguments"):
                return  # told when it is done: Perplexity begins its own tools' results as whole calls
            call = call_of(item)
            self._start(key, structs.replace(call, arguments=""), out)

    def _content_added(self, event: Members, out: list[Event]) -> None:
        key, kind = self._key(event, content=True), event.object("part").text("type")
        if kind in ("output_text", "refusal"):
            self._say(key, Text("") if kind == "output_text" else Refusal(""), "", out)

    def _text_delta(self, event: Members, out: list[Event]) -> None:
        self._say(self._key(event, content=True), Text(""), event.text("delta"), out)

    def _refusal_delta(self, event: Members, out: list[Event]) -> None:
        self._say(self._key(event, content=True), Refusal(""), event.text("delta"), out)

    def _text_done(self, event: Members, out: list[Event]) -> None:
        key, text = self._key(event, content=True), event.text("text")
        part = self._open.get(key)
        if part is None or not part.told:
            self._say(key, Text(""), text, out)
        if logprobs := of_the_form(event.take("logprobs", list[Raw]) or ()):
            out.append(Logprobs(0, logprobs))

    def _refusal_done(self, event: Members, out: list[Event]) -> None:
        key, text = self._key(event, content=True), event.text("refusal")
        part = self._open.get(key)
        if part is None or not part.told:
            self._say(key, Refusal(""), text, out)

    def _content_done(self, event: Members, out: list[Event]) -> None:
        """What of a text or a refusal was not told piece by piece, and its end."""
        key, done = self._key(event, content=True), event.object("part")
        part = self._open.get(key)
        if part is not None:
            whole = part_of(done)
            if not part.told:
                self._say(key, whole, text_of(whole), out)
            self._cite_uncited(key, whole, out)
        self._finish(key, out)

    def _annotated(self, event: Members, out: list[Event]) -> None:
        """What a text cites, which may be done by now."""
        key = self._key(event, content=True)
        if (index := self._contents.get(key)) is None:
            index = self._say(key, Text(""), "", out).index
        self._cited.add(key)
        out.append(PartMore(0, index, citation=citation_of(event.object("annotation"))))

    def _arguments_delta(self, event: Members, out: list[Event]) -> None:
        key = self._key(event, content=False)
        if key in self._open:
            self._say(key, Text(""), event.text("delta"), out)

    def _arguments_done(self, event: Members, out: list[Event]) -> None:
        key = self._key(event, content=False)
        part = self._open.get(key)
        if part is not None and not part.told:
            self._say(key, Text(""), event.text("arguments") or event.text("input"), out)

    def _summary_delta(self, event: Members, out: list[Event]) -> None:
        self._think("summary", event.take("summary_index", int) or 0, event, out)

    def _reasoning_delta(self, event: Members, out: list[Event]) -> None:
        self._think("text", 0, event, out)

    def _think(self, kind: str, paragraph: int, event: Members, out: list[Event]) -> None:
        """More of a thought: of its text, or of its summary, which is a part of its own."""
        key, delta = _thought_key(self._key(event, content=False), kind), event.text("delta")
        part = self._open.get(key)
        if part is None:
            start = Thinking(summary=kind == "summary", origin=NAME, id=event.text("item_id"))
            part = self._start(key, start, out)
            part.paragraph = paragraph
        if paragraph != part.paragraph:
            part.paragraph, delta = paragraph, SUMMARY_BREAK + delta
        self._say(key, Text(""), delta, out)

    def _item_done(self, event: Members, out: list[Event]) -> None:
        """What the deltas left out, and the end of the item."""
        key, item = self._key(event, content=False), event.object("item")
        kind, part = raw_kind(item), self._open.get(key)
        if kind == "reasoning":
            self._reasoning_done(key, item, out)
        elif kind in ("function_call", "custom_tool_call"):
            call = call_of(item)
            part = part or self._start(key, structs.replace(call, arguments=""), out)
            if not part.told:
                self._say(key, call, call.arguments, out)
        elif kind == "message":
            self._message_done(key[0], item, out)
        else:
            for whole in item_parts(item, []):
                self._start(key, whole, out)
        for open_key in [open_key for open_key in self._open if open_key[0] == key[0]]:
            self._finish(open_key, out)

    def _message_done(self, place: int, item: Members, out: list[Event]) -> None:
        """What of a message was not told before: all of it, or what its texts cite."""
        for at, told in enumerate(item_parts(item, [])):
            if (place, at) in self._contents:
                self._cite_uncited((place, at), told, out)
                continue
            part = self._say((place, at), without_text(told), text_of(told), out)
            if isinstance(told, Text):
                out += [PartMore(0, part.index, citation=citation) for citation in told.citations]

    def _cite_uncited(self, key: _Key, whole: Part, out: list[Event]) -> None:
        """What a text cites, where none of it was told."""
        if isinstance(whole, Text) and whole.citations and key not in self._cited:
            self._cited.add(key)
            out += [PartMore(0, self._contents[key], citation=citation) for citation in whole.citations]

    def _reasoning_done(self, key: _Key, item: Members, out: list[Event]) -> None:
        found = thoughts_of(item, bare)
        if isinstance(found, CallProof):
            return
        told = [open_key for open_key in self._open if open_key[0] == key[0]]
        for thinking in found:
            at = _thought_key(key, "summary" if thinking.summary else "text")
            at = told[0] if len(told) == len(found) == 1 else at
            part = self._open.get(at) or self._start(at, structs.replace(thinking, text="", sealed=""), out)
            if not part.told:
                self._say(at, thinking, thinking.text, out)
            if thinking.sealed:
                out.append(PartMore(0, part.index, sealed=thinking.sealed))

    # -- the end ------------------------------------------------------------------------------------------------------

    def _end(self, kind: str, response: Members, out: list[Event]) -> None:
        self._begin(response, out)
        self._over = True
        usage, tier = usage_of(response), response.word("service_tier")
        if usage is not None:
            out.append(Reported(usage, tier))
        if kind == "response.failed":
            self._fail(response.object("error"), out)
            return
        if self._parts == 0:
            for place, item in enumerate(response.objects("output")):
                self._item_done(Members({"item": item.whole(), "output_index": Raw(b"%d" % place)}, item.fault), out)
        for key in sorted(self._open):
            self._finish(key, out)
        end = end_of(response, self._calls)
        out.append(Finished(0, end.finish, end.native))
        out.append(Ended())


def _thought_key(item: _Key, kind: str) -> _Key:
    return (item[0], -2 if kind == "summary" else -1)


def _error_of(event: Members) -> Members:
    """The members that tell an error: those of the event, or of what is in it, which may be no more than a message."""
    raw = event.raw("error")
    if raw is None:
        return event
    event.put("error", raw)
    return Members({"message": raw}, event.fault) if bytes(raw).startswith(b'"') else event.object("error")


_HANDLERS: dict[str, Any] = {
    "response.output_item.added": ResponsesDecoder._item_added,
    "response.content_part.added": ResponsesDecoder._content_added,
    "response.output_text.delta": ResponsesDecoder._text_delta,
    "response.output_text.annotation.added": ResponsesDecoder._annotated,
    "response.output_text.done": ResponsesDecoder._text_done,
    "response.refusal.delta": ResponsesDecoder._refusal_delta,
    "response.refusal.done": ResponsesDecoder._refusal_done,
    "response.content_part.done": ResponsesDecoder._content_done,
    "response.reasoning_summary_text.delta": ResponsesDecoder._summary_delta,
    "response.reasoning_text.delta": ResponsesDecoder._reasoning_delta,
    "response.function_call_arguments.delta": ResponsesDecoder._arguments_delta,
    "response.custom_tool_call_input.delta": ResponsesDecoder._arguments_delta,
    "response.function_call_arguments.done": ResponsesDecoder._arguments_done,
    "response.custom_tool_call_input.done": ResponsesDecoder._arguments_done,
    "response.output_item.done": ResponsesDecoder._item_done,
}
