"""Events written as a caller's stream of typed events, each with its number in the sequence.

    response.created, response.in_progress
    response.output_item.added ... response.output_item.done         for each item of the output
        response.content_part.added ... response.content_part.done     for each text of a message
    response.completed | response.incomplete | response.failed

Source: OpenAI API reference, "Streaming events".
"""

from typing import Any

import msgspec
from msgspec import Raw, structs

from penstock.dialects.codec import Heading
from penstock.dialects.custom_tools import is_emulated, unwrapped
from penstock.dialects.endings import refusal_events
from penstock.dialects.openai_responses.answer import (
    Echo,
    End,
    ending,
    logprob,
    media_of_own,
    message_item,
    output_part,
    part_items,
    response_id,
)
from penstock.dialects.openai_responses.items import NAME, annotation, call_item, call_proof_item, reasoning_item
from penstock.dialects.tiers import TOLD_BY_OPENAI
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
    with_more,
    with_text,
)
from penstock.domain.usage import Usage

_encode = msgspec.json.Encoder().encode


class _Message:
    """The message item that is open: what it holds already, and its place in the output."""

    def __init__(self, place: int, id: str) -> None:
        self.place = place
        self.id = id
        self.parts: list[Part] = []


class _Open:
    """A part that is open: what is known of it, its pieces of text, and where it is told."""

    def __init__(self, part: Part, place: int, id: str, content: int = 0) -> None:
        self.part = part
        self.pieces: list[str] = []
        self.place = place
        self.id = id
        self.content = content
        self.begun = False
        self.ended = False
        self.annotated = 0

    def whole(self) -> Part:
        return with_text(self.part, "".join(self.pieces))


class ResponsesEncoder:
    def __init__(self, heading: Heading) -> None:
        self._heading = heading
        self._number = 0
        self._output: list[Any] = []
        self._open: dict[int, _Open] = {}
        self._message: _Message | None = None
        self._said: dict[int, tuple[int, int]] = {}
        self._echo: Echo | None = None
        self._logprobs: tuple[Raw, ...] = ()
        self._end = End("error")
        self._usage: Usage | None = None
        self._tier = ""
        self._is_own = False

    def encode(self, event: Event) -> bytes:
        if isinstance(event, Begin):
            return self._begin(event)
        if isinstance(event, Failed):
            return self._fail(event)
        if isinstance(event, Reported):
            self._usage, self._tier = event.usage, event.service_tier
        elif isinstance(event, Ended):
            return self._ending()
        elif event.choice == 0:
            return self._part_event(event)
        return b""

    def _part_event(self, event: PartBegin | PartDelta | PartMore | PartEnd | Logprobs | Finished) -> bytes:
        if isinstance(event, PartDelta):
            return self._more_text(event)
        if isinstance(event, PartBegin):
            return self._part(event)
        if isinstance(event, PartMore):
            return self._more(event)
        if isinstance(event, PartEnd):
            return self._part_end(event.index)
        if isinstance(event, Logprobs):
            self._logprobs += event.content
            return b""
        self._end = End(event.finish, event.native, event.explanation)
        return b"".join(map(self._part_event, refusal_events(event))) + self._close_message()

    def _event(self, kind: str, **members: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        told = {"type": kind, **members, "sequence_number": number}
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode(told))

    def _begin(self, event: Begin) -> bytes:
        heading = self._heading
        self._is_own = event.origin == NAME
        id = response_id(event.id or heading.id, event.origin)
        self._echo = Echo(id, event.model or heading.model, event.created or heading.created, heading.request)
        started = self._echo.response("in_progress", [])
        return self._event("response.created", response=started) + self._event("response.in_progress", response=started)

    def _place(self, prefix: str) -> tuple[int, str]:
        """The next place in the output, and an id for what goes there."""
        assert self._echo is not None
        place = len(self._output)
        self._output.append(None)
        return place, self._echo.item_id(prefix, place)

    # -- a part begins ------------------------------------------------------------------------------------------------

    def _part(self, event: PartBegin) -> bytes:
        part = event.part
        if isinstance(part, Text | Refusal):
            return self._text(event)
        closed = self._close_message()
        if isinstance(part, ToolCall):
            return closed + self._call(event, part)
        if isinstance(part, Thinking):
            place, id = self._place("rs")
            id = part.id if part.origin == NAME and part.id else id
            self._open[event.index] = found = _Open(structs.replace(part, text=""), place, id)
            added = self._event("response.output_item.added", output_index=place, item=self._thought(found, ""))
            return closed + added + (self._more_text(PartDelta(0, event.index, part.text)) if part.text else b"")
        return closed + self._whole(part)

    def _whole(self, part: Part) -> bytes:
        """An item that comes at once."""
        assert self._echo is not None
        told = b""
        for item in part_items(media_of_own(part, self._is_own), self._echo, len(self._output)):
            place = len(self._output)
            self._output.append(item)
            told += self._event("response.output_item.added", output_index=place, item=item)
            told += self._event("response.output_item.done", output_index=place, item=item)
        return told

    def _text(self, event: PartBegin) -> bytes:
        told = b""
        if self._message is None:
            place, id = self._place("msg")
            self._message = _Message(place, id)
            empty = {**message_item([], id, "in_progress", ())}
            told = self._event("response.output_item.added", output_index=place, item=empty)
        message, part = self._message, with_text(event.part, "")
        begun = Text("") if isinstance(part, Text) else Refusal("")
        self._open[event.index] = found = _Open(begun, message.place, message.id, len(message.parts))
        message.parts.append(begun)
        where = {"item_id": found.id, "output_index": found.place, "content_index": found.content}
        told += self._event("response.content_part.added", **where, part=output_part(begun))
        text = part.text if isinstance(part, Text | Refusal) else ""
        return told + (self._more_text(PartDelta(0, event.index, text)) if text else b"")

    def _call(self, event: PartBegin, part: ToolCall) -> bytes:
        """A function that stands for a tool with free text is told when it is whole."""
        is_emulated_call = is_emulated(part, self._heading.request)
        custom = part.custom or is_emulated_call
        place, id = self._place("ctc" if custom else "fc")
        empty = structs.replace(part, arguments="", custom=custom)
        self._open[event.index] = found = _Open(empty, place, part.item or id)
        found.begun = not is_emulated_call
        item = call_item(empty, found.id, "in_progress")
        added = self._event("response.output_item.added", output_index=place, item=item)
        return added + (self._more_text(PartDelta(0, event.index, part.arguments)) if part.arguments else b"")

    # -- more of it ---------------------------------------------------------------------------------------------------

    def _more_text(self, event: PartDelta) -> bytes:
        found = self._open.get(event.index)
        if found is None:
            return b""
        found.pieces.append(event.text)
        part = found.part
        where: dict[str, Any] = {"item_id": found.id, "output_index": found.place}
        if isinstance(part, Text):
            told = {**where, "content_index": found.content, "delta": event.text, "logprobs": []}
            return self._event("response.output_text.delta", **told)
        if isinstance(part, Refusal):
            return self._event("response.refusal.delta", **where, content_index=found.content, delta=event.text)
        if isinstance(part, ToolCall):
            if not found.begun:
                return b""
            kind = "custom_tool_call_input" if part.custom else "function_call_arguments"
            return self._event(f"response.{kind}.delta", **where, delta=event.text)
        if isinstance(part, Thinking):
            return self._more_thought(found, part, event.text)
        return b""

    def _more_thought(self, found: _Open, part: Thinking, text: str) -> bytes:
        where: dict[str, Any] = {"item_id": found.id, "output_index": found.place}
        begun, found.begun = found.begun, True
        if _is_content(part):
            where["content_index"] = 0
            opening = {"type": "reasoning_text", "text": ""}
            told = b"" if begun else self._event("response.content_part.added", **where, part=opening)
            return told + self._event("response.reasoning_text.delta", **where, delta=text)
        where["summary_index"] = 0
        opening = {"type": "summary_text", "text": ""}
        told = b"" if begun else self._event("response.reasoning_summary_part.added", **where, part=opening)
        return told + self._event("response.reasoning_summary_text.delta", **where, delta=text)

    def _more(self, event: PartMore) -> bytes:
        """A proof or a citation is told when its part is whole; a citation that comes when its message is done, in the
        message all the same, as the response at the end has it."""
        if found := self._open.get(event.index):
            found.part = with_more(found.part, event)
            return self._annotated(found) if found.ended else b""
        if event.citation is None or event.index not in self._said:
            return b""
        place, content = self._said[event.index]
        item = self._output[place]
        part = item["content"][content]
        part["annotations"].append(annotation(event.citation, len(part["text"])))
        return self._annotation(item["id"], (place, content), part["annotations"])

    def _annotated(self, found: _Open) -> bytes:
        """What a text cites, when it is whole: only then is it known which characters these are."""
        text = found.whole()
        assert isinstance(text, Text)
        told = [annotation(citation, len(text.text)) for citation in text.citations]
        first, found.annotated = found.annotated, len(told)
        where = (found.place, found.content)
        return b"".join(self._annotation(found.id, where, told[: at + 1]) for at in range(first, len(told)))

    def _annotation(self, id: str, where: tuple[int, int], told: list[Any]) -> bytes:
        """The last of what is told of a text."""
        return self._event(
            "response.output_text.annotation.added",
            item_id=id,
            output_index=where[0],
            content_index=where[1],
            annotation_index=len(told) - 1,
            annotation=told[-1],
        )

    # -- a part ends --------------------------------------------------------------------------------------------------

    def _part_end(self, index: int) -> bytes:
        """A text is done with its message: its log-probabilities may come behind it."""
        found = self._open.get(index)
        if found is None:
            return b""
        part = found.whole()
        if isinstance(part, Text | Refusal):
            if self._message is not None and self._message.place == found.place:
                self._message.parts[found.content] = part
            found.ended = True
            return self._annotated(found) if isinstance(part, Text) else b""
        del self._open[index]
        if isinstance(part, Thinking):
            return self._thought_end(found, part)
        return self._call_end(found, part) if isinstance(part, ToolCall) else b""

    def _thought(self, found: _Open, text: str) -> dict[str, Any]:
        part = found.part
        assert isinstance(part, Thinking)
        return reasoning_item(structs.replace(part, text=text), found.id)

    def _thought_end(self, found: _Open, part: Thinking) -> bytes:
        where: dict[str, Any] = {"item_id": found.id, "output_index": found.place}
        told = b""
        if found.begun and _is_content(part):
            where["content_index"] = 0
            told = self._event("response.reasoning_text.done", **where, text=part.text)
            closing = {"type": "reasoning_text", "text": part.text}
            told += self._event("response.content_part.done", **where, part=closing)
        elif found.begun:
            where["summary_index"] = 0
            told = self._event("response.reasoning_summary_text.done", **where, text=part.text)
            closing = {"type": "summary_text", "text": part.text}
            told += self._event("response.reasoning_summary_part.done", **where, part=closing)
        return told + self._item_done(found.place, self._thought(found, part.text))

    def _call_end(self, found: _Open, part: ToolCall) -> bytes:
        where: dict[str, Any] = {"item_id": found.id, "output_index": found.place}
        told = b""
        if not found.begun:
            part = structs.replace(part, arguments=unwrapped(part.arguments))
            told = self._event("response.custom_tool_call_input.delta", **where, delta=part.arguments)
        if part.custom:
            told += self._event("response.custom_tool_call_input.done", **where, input=part.arguments)
        else:
            done = {**where, "name": part.name, "arguments": part.arguments}
            told += self._event("response.function_call_arguments.done", **done)
        told += self._item_done(found.place, call_item(part, found.id, "completed"))
        if not part.signature or part.origin in ("", NAME):
            return told
        place, id = self._place("rs")
        proof = call_proof_item(part, id)
        added = self._event("response.output_item.added", output_index=place, item=proof)
        return told + added + self._item_done(place, proof)

    def _item_done(self, place: int, item: dict[str, Any]) -> bytes:
        self._output[place] = item
        return self._event("response.output_item.done", output_index=place, item=item)

    def _close_message(self) -> bytes:
        """What is left of the open message."""
        message = self._message
        if message is None:
            return b""
        self._message = None
        texts = []
        for index, found in list(self._open.items()):
            if found.place == message.place and found.id == message.id:
                texts.append(self._open.pop(index))
                self._said[index] = (found.place, found.content)
        told = b""
        contents = []
        last = max((found.content for found in texts if isinstance(found.part, Text)), default=-1)
        for found in sorted(texts, key=lambda text: text.content):
            is_last = found.content == last
            part = output_part(found.whole(), self._logprobs if is_last else ())
            self._logprobs = () if is_last else self._logprobs
            contents.append(part)
            where = {"item_id": found.id, "output_index": found.place, "content_index": found.content}
            if isinstance(found.part, Text):
                done = {**where, "text": part["text"], "logprobs": part["logprobs"]}
                told += self._event("response.output_text.done", **done)
            else:
                told += self._event("response.refusal.done", **where, refusal=part["refusal"])
            told += self._event("response.content_part.done", **where, part=part)
        item = {**message_item([], message.id, "completed", ()), "content": contents}
        return told + self._item_done(message.place, item)

    # -- the end ------------------------------------------------------------------------------------------------------

    def _ending(self) -> bytes:
        assert self._echo is not None
        told = self._close_message()
        for index in sorted(self._open):
            told += self._part_end(index)
        self._give_logprobs()
        told_of_end = ending(self._end, self._usage, self._heading.created)
        if self._tier and (self._is_own or self._tier in TOLD_BY_OPENAI):
            told_of_end["service_tier"] = self._tier
        response = self._echo.response(output=self._output, **told_of_end)
        return told + self._event(f"response.{response['status']}", response=response)

    def _give_logprobs(self) -> None:
        """Log-probabilities that came when all messages were done: the response has them with its last text."""
        told = [self._output[place]["content"][content] for place, content in self._said.values()]
        texts = [part for part in told if part["type"] == "output_text"]
        if self._logprobs and texts:
            texts[-1]["logprobs"] = [*texts[-1]["logprobs"], *map(logprob, self._logprobs)]

    def _fail(self, event: Failed) -> bytes:
        code = event.kind or "server_error"
        return self._event("error", code=code, message=event.message, param=None)


def _is_content(part: Thinking) -> bool:
    """Whether a thought is told as the text of a reasoning item, and not as its summary."""
    return part.origin in ("", NAME) and not part.summary
