"""What a message of Cohere's holds, read and written: content, plans, tool calls, documents, citations.

Source: Cohere API reference, "Chat V2"; guides "Citations" and "Documents and citations".

The plan that a model makes before it calls tools (`tool_plan`) is a text; in an answer it has an extra of that name, by
which an encoder of this dialect tells it from the content. A document is told to others by its text.
"""

from typing import Any

import msgspec
from msgspec import Raw, structs

from penstock.dialects.codec import json_text
from penstock.dialects.custom_tools import wrapped
from penstock.dialects.members import Members, as_raw, is_set
from penstock.domain.chat import Citation, Media, Opaque, Part, Text, Thinking, ToolCall

NAME = "cohere_chat"

PLAN = "tool_plan"

NOTHING = "{}"
NOTHING_SAID = ("", "null")
"""How the arguments of a tool that takes none are told, and what is read as such."""


# -- content ----------------------------------------------------------------------------------------------------------


def content_of(message: Members) -> list[Part]:
    """The parts of `content`, a string or a list; a text or a thought without a word is none."""
    raw = message.raw("content")
    if raw is None:
        return []
    message.put("content", raw)
    if bytes(raw).startswith(b'"'):
        text = message.text("content")
        return [Text(text)] if text else []
    return [part for one in message.objects("content") if (part := _part(one)) is not None]


def _part(one: Members) -> Part | None:
    whole, kind = one.whole(), one.text("type")
    if kind == "text":
        text = one.text("text")
        return Text(text, extras=one.rest()) if text else None
    if kind == "thinking":
        thought = one.text("thinking")
        return Thinking(thought, origin=NAME, extras=one.rest()) if thought else None
    if kind == "image_url":
        return image_of(one)
    if kind == "document":
        return document_of(one.raw("document") or Raw(b"{}"), one)
    return Opaque(NAME, kind, whole)


def image_of(one: Members) -> Media:
    """`{"url": ...}`, or the URL alone."""
    raw = one.raw("image_url") or Raw(b"{}")
    one.put("image_url", as_raw({"url": raw}) if bytes(raw).startswith(b'"') else raw)
    image = one.object("image_url")
    url, detail = image.text("url"), image.text("detail")
    return structs.replace(image_at(url), detail=detail, extras=one.rest())


def image_at(url: str) -> Media:
    """The image at an address, which may be in it."""
    if not url.startswith("data:"):
        return Media("image", url=url)
    head, _, data = url[5:].partition(",")
    return Media("image", head.split(";")[0], data)


def document_of(raw: Raw, place: Members) -> Media:
    title, text = _document_texts(raw, place)
    return Media("document", "text/plain", text=text, name=title)


def _document_texts(raw: Raw, place: Members) -> tuple[str, str]:
    """Title and text of a document: a string, or an object whose `data` has what the model is to read. With more than
    a title and a text in it, it is told whole."""
    if bytes(raw).startswith(b'"'):
        return "", msgspec.json.decode(raw, type=str)
    try:
        data = msgspec.json.decode(raw, type=dict[str, Any]).get("data", {})
    except (msgspec.DecodeError, RecursionError):
        raise place.fault("document") from None
    if not isinstance(data, dict):
        return "", data if isinstance(data, str) else json_text(data)
    title, text = data.get("title"), data.get("text")
    if isinstance(text, str) and set(data) <= {"title", "text"} and isinstance(title, str | None):
        return title or "", text
    return "", json_text(data)


def document_object(medium: Media) -> dict[str, Any]:
    """A text as a document of the dialect."""
    return {"data": {**({"title": medium.name} if medium.name else {}), "text": medium.text}}


def is_plan(part: Part) -> bool:
    return isinstance(part, Text) and PLAN in part.extras


def plan(text: str) -> Text:
    return Text(text, extras={PLAN: Raw(b"true")})


# -- tool calls -------------------------------------------------------------------------------------------------------


def tool_call_of(call: Members) -> ToolCall:
    function = call.object("function")
    call.drop("type", "index")
    id, name, arguments = call.text("id"), function.text("name"), function.json_text("arguments")
    return ToolCall(id, name, arguments, origin=NAME, extras=call.rest())


def whole_tool_call_of(call: Members) -> ToolCall:
    """A call that is not streamed. Where the tool takes nothing, the vendor may say nothing or `null` for it."""
    told = tool_call_of(call)
    return structs.replace(told, arguments=NOTHING) if told.arguments in NOTHING_SAID else told


def tool_call_object(call: ToolCall, *, is_own: bool) -> dict[str, Any]:
    function = {"name": call.name, "arguments": wrapped(call).arguments}
    return {"id": call.id, "type": "function", "function": function, **(call.extras if is_own else {})}


# -- citations --------------------------------------------------------------------------------------------------------


def citations_of(one: Members) -> tuple[int | None, bool, list[Citation]]:
    """The content block that a citation bears on (None: not told), whether it bears on the plan, and the citation, once
    for each of its sources; only the first is the whole of it for an encoder of this dialect."""
    whole = one.whole()
    at, is_of_plan = one.take("content_index", int), one.text("type") == "PLAN"
    start, end = one.take("start", int), one.take("end", int)
    place = -1 if start is None else start, -1 if end is None else end
    sources = one.objects("sources")
    first, *others = [_source(source) for source in sources] or [("", "", "")]
    more = [Citation(*source, *place, NAME) for source in others]
    return at, is_of_plan, [Citation(*first, *place, NAME, whole), *more]


def _source(source: Members) -> tuple[str, str, str]:
    """Address, title (or else id) and quote of a source: a document, or what a tool put out."""
    told = source.take("document", dict[str, Any]) or source.take("tool_output", dict[str, Any]) or {}
    url, title, quote = told.get("url"), told.get("title"), told.get("snippet") or told.get("text")
    return (
        url if isinstance(url, str) else "",
        title if isinstance(title, str) and title else source.text("id"),
        quote if isinstance(quote, str) else "",
    )


def is_whole(citation: Citation) -> bool:
    """Whether it is told by itself: another source of a citation of this dialect is told with that."""
    return citation.origin != NAME or is_set(citation.raw)


def citation_object(citation: Citation, text: str, at: int) -> Any:
    """A citation of `text`, which is the content block `at`. Another dialect's source is told as a document."""
    if citation.origin == NAME and is_set(citation.raw):
        return citation.raw
    told = {"url": citation.url, "title": citation.title, "snippet": citation.quote}
    document = {name: value for name, value in told.items() if value}
    start, end = citation.span(len(text))
    place = {"start": start, "end": end, "text": text[start:end]}
    source = {"type": "document", "id": citation.url or citation.title, "document": document}
    return {**place, "sources": [source], "content_index": at, "type": "TEXT_CONTENT"}


# -- log-probabilities ------------------------------------------------------------------------------------------------


class Logprob(msgspec.Struct):
    """A run of text and the log-probability of each of its tokens."""

    text: str | None = None
    token_ids: list[int] | None = None
    logprobs: list[float | None] | None = None


class _Token(msgspec.Struct):
    token: str | None = None
    logprob: float | None = None


_token_decoder = msgspec.json.Decoder(_Token)


def logprob_of(told: Logprob) -> Raw:
    """In OpenAI's chat form; of a run of several tokens, that of them together."""
    return as_raw(
        {
            "token": told.text or "",
            "logprob": sum(one or 0.0 for one in told.logprobs or ()),
            "bytes": list((told.text or "").encode()),
            "top_logprobs": [],
        }
    )


def logprob_object(raw: Raw) -> dict[str, Any]:
    """The numbers of another vendor's tokens are not known; some do not tell how probable one was."""
    token = _token_decoder.decode(raw)
    return {"text": token.token or "", "token_ids": [], "logprobs": [] if token.logprob is None else [token.logprob]}
