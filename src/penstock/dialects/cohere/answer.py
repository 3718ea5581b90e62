"""A Chat answer, as it is told whole: from a target, and to a caller.

Source: Cohere API reference, "Chat V2" (the response). The API has one choice: of several, the first is told. It has no
member for a proof of reasoning, nor for what a model draws or speaks; those are left out.
"""

from typing import Any

from msgspec import structs

from penstock.dialects.base import encode_object
from penstock.dialects.codec import Heading
from penstock.dialects.cohere.parts import (
    NAME,
    Logprob,
    citation_object,
    citations_of,
    content_of,
    is_plan,
    is_whole,
    logprob_object,
    logprob_of,
    plan,
    tool_call_object,
    whole_tool_call_of,
)
from penstock.dialects.cohere.usage import Reported, normalise, report
from penstock.dialects.endings import refused_in_words
from penstock.dialects.in_turn import in_words
from penstock.dialects.members import Members, reply_members
from penstock.domain.chat import Answer, Choice, Citation, Finish, Part, Refusal, Text, Thinking, ToolCall
from penstock.domain.usage import Usage
from penstock.errors import UpstreamMalformed

FINISHES: dict[str, Finish] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop_sequence",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR": "error",
    "TIMEOUT": "error",
}
_WORDS: dict[Finish, str] = {
    "stop": "COMPLETE",
    "stop_sequence": "STOP_SEQUENCE",
    "length": "MAX_TOKENS",
    "tool_calls": "TOOL_CALL",
    "content_filter": "ERROR",
    "refusal": "COMPLETE",
    "pause": "COMPLETE",
    "context": "MAX_TOKENS",
    "error": "ERROR",
}


def finish_of(native: str) -> Finish:
    return FINISHES.get(native, "stop") if native else "error"


def finish_word(finish: Finish, native: str) -> str:
    return native if FINISHES.get(native) == finish else _WORDS[finish]


# -- read -------------------------------------------------------------------------------------------------------------


def decode_answer(body: bytes) -> Answer:
    """Raises `UpstreamMalformed`."""
    members = reply_members(body)
    if error := members.peek("message"):
        raise UpstreamMalformed(error[:1000])
    if not members.has("message"):
        raise UpstreamMalformed("The provider's answer has no message.")
    message = members.object("message")
    parts = content_of(message)
    first = len(parts)
    if text := message.text("tool_plan"):
        parts.append(plan(text))
    parts += [whole_tool_call_of(call) for call in message.objects("tool_calls")]
    _cite(parts, first, message)
    id, native = members.text("id"), members.text("finish_reason")
    usage = usage_of(members)
    logprobs = tuple(map(logprob_of, members.take("logprobs", list[Logprob]) or ()))
    choice = Choice(tuple(parts), finish_of(native), native, logprobs=logprobs)
    return Answer(NAME, id, "", (choice,), usage=usage, extras=members.rest())


def usage_of(members: Members) -> Usage | None:
    """The report that is there, if it can be believed."""
    try:
        reported = members.take("usage", Reported)
    except UpstreamMalformed:
        return None
    return None if reported is None else normalise(reported)


def _cite(parts: list[Part], first: int, message: Members) -> None:
    """Gives each citation to the text that it bears on; `first`: the number of the content blocks. Without a place it
    is the last text's."""
    last = next((at for at in range(first - 1, -1, -1) if isinstance(parts[at], Text)), None)
    for one in message.objects("citations"):
        at, is_of_plan, found = citations_of(one)
        if is_of_plan and first < len(parts) and is_plan(parts[first]):
            at = first
        elif at is None or not 0 <= at < first or not isinstance(parts[at], Text):
            at = last
        text = parts[at] if at is not None else None
        if at is not None and isinstance(text, Text):
            parts[at] = structs.replace(text, citations=(*text.citations, *found))


# -- write ------------------------------------------------------------------------------------------------------------


def encode_answer(answer: Answer, heading: Heading) -> bytes:
    choice = refused_in_words(answer.choices[0]) if answer.choices else Choice(())
    is_own = answer.origin == NAME
    members: dict[str, Any] = {
        "id": answer.id or heading.id,
        "message": _message(tuple(map(in_words, choice.parts)), is_own=is_own),
        "finish_reason": finish_word(choice.finish, choice.native),
    }
    if answer.usage is not None:
        members["usage"] = report(answer.usage)
    if choice.logprobs:
        members["logprobs"] = [logprob_object(raw) for raw in choice.logprobs]
    return encode_object(members | (answer.extras if is_own else {}))


def _message(parts: tuple[Part, ...], *, is_own: bool) -> dict[str, Any]:
    content: list[Any] = []
    citations: list[Any] = []
    told: dict[str, Any] = {}
    for part in parts:
        if is_plan(part):
            told["tool_plan"] = told.get("tool_plan", "") + text_told(part)
        elif kind := content_kind(part):
            text = text_told(part)
            cited: tuple[Citation, ...] = part.citations if isinstance(part, Text) else ()
            citations += [citation_object(citation, text, len(content)) for citation in cited if is_whole(citation)]
            if text or cited:
                own = part.extras if is_own and isinstance(part, Text | Thinking) else {}
                content.append({"type": kind, kind: text, **own})
    calls = [tool_call_object(part, is_own=is_own) for part in parts if isinstance(part, ToolCall)]
    listed = {"content": content, "tool_calls": calls, "citations": citations}
    return {"role": "assistant", **told, **{name: value for name, value in listed.items() if value}}


def content_kind(part: Part) -> str:
    """The kind of content block that tells a part; empty for what is told elsewhere or not at all."""
    if isinstance(part, Thinking):
        return "thinking"
    return "text" if isinstance(part, Text | Refusal) else ""


def text_told(part: Part) -> str:
    return part.text if isinstance(part, Text | Thinking | Refusal) else ""
