"""The items and parts of a response, read and written.

Source: OpenAI API reference, "Create a model response" (input and output items); guide "Reasoning models" (reasoning
items and encrypted content); xAI, "X Search".
"""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct, field, structs

from penstock.dialects.codec import json_text, seal
from penstock.dialects.members import Members, is_set
from penstock.dialects.openai_chat_codec.parts import AUDIO_FORMATS, AUDIO_TYPES, cache_of, linked, url_of
from penstock.domain.chat import Citation, Extras, Media, Opaque, Part, Refusal, Text, Thinking, ToolCall

NAME = "openai_responses"

Opened = Callable[[str], tuple[str, str]]

SUMMARY_BREAK = "\n\n"
"""Between the parts of a summary, which are paragraphs with a heading."""


# -- parts ------------------------------------------------------------------------------------------------------------


def part_of(part: Members) -> Part:
    """One part of a content, or of a tool's output."""
    whole, kind = part.whole(), part.text("type")
    if kind in ("input_text", "output_text", "text"):
        part.drop("logprobs")
        text, citations = part.text("text"), tuple(citation_of(one) for one in part.objects("annotations"))
        return Text(text, citations, cache_of(part), part.rest())
    if kind == "refusal":
        return Refusal(part.text("refusal"))
    if kind == "input_image":
        medium = linked(Media("image", file=part.text("file_id"), detail=part.text("detail")), part.text("image_url"))
        return structs.replace(medium, cache=cache_of(part), extras=part.rest())
    if kind == "input_file":
        medium = Media("document", url=part.text("file_url"), file=part.text("file_id"), name=part.text("filename"))
        if data := part.text("file_data"):
            medium = linked(medium, data)
        return structs.replace(medium, cache=cache_of(part), extras=part.rest())
    if kind == "input_audio":
        audio = part.object("input_audio")
        form = audio.text("format")
        return Media("audio", AUDIO_TYPES.get(form, f"audio/{form}" if form else ""), audio.text("data"))
    return Opaque(NAME, kind, whole)


def parts_of(owner: Members, name: str) -> list[Part]:
    """The parts of a content or an output, which is a string or a list."""
    raw = owner.raw(name)
    if raw is None:
        return []
    owner.put(name, raw)
    if bytes(raw).startswith(b'"'):
        return [Text(owner.text(name))]
    return [part_of(one) for one in owner.objects(name)]


def text_part(text: Text, kind: str) -> dict[str, Any]:
    told: dict[str, Any] = {"type": kind, "text": text.text}
    if kind != "output_text":
        return told
    return told | {"annotations": [annotation(one, len(text.text)) for one in text.citations]}


def media_part(medium: Media) -> dict[str, Any] | None:
    """A medium as a part of an input; None for what the dialect has no part for."""
    if medium.kind == "image":
        source = {"file_id": medium.file} if medium.file else {"image_url": url_of(medium)}
        return {"type": "input_image", **source, "detail": medium.detail or "auto"}
    if medium.kind == "document" and medium.text:
        return {"type": "input_text", "text": f"{medium.name}\n{medium.text}" if medium.name else medium.text}
    if medium.kind == "document":
        named = {"filename": medium.name} if medium.name else {}
        if medium.file or medium.url:
            source = {"file_id": medium.file} if medium.file else {"file_url": medium.url}
            return {"type": "input_file", **source, **named}
        return {"type": "input_file", "file_data": url_of(medium), "filename": medium.name or "document.pdf"}
    if medium.kind == "audio" and medium.data:
        form = AUDIO_FORMATS.get(medium.mime, medium.mime.removeprefix("audio/"))
        return {"type": "input_audio", "input_audio": {"data": medium.data, "format": form}}
    return None


def citation_of(annotation: Members) -> Citation:
    """A citation of a URL; another kind is kept as it is."""
    whole, kind = annotation.whole(), annotation.text("type")
    if kind != "url_citation":
        return Citation(title=annotation.text("filename"), origin=NAME, raw=whole)
    start, end = annotation.take("start_index", int), annotation.take("end_index", int)
    url, title = annotation.text("url"), annotation.text("title")
    start, end = -1 if start is None else start, -1 if end is None else end
    return (
        Citation(url, title, "", start, end)
        if annotation.is_empty()
        else Citation(url, title, "", start, end, NAME, whole)
    )


def annotation(citation: Citation, length: int) -> Any:
    """A citation of a text of this length as an annotation. One without a URL (of a document that was sent) is told
    all the same."""
    if citation.origin == NAME and is_set(citation.raw):
        return citation.raw
    start, end = citation.span(length)
    told = {"type": "url_citation", "start_index": start, "end_index": end}
    return told | {"url": citation.url, "title": citation.title or citation.quote}


# -- reasoning --------------------------------------------------------------------------------------------------------


class _Packed(Struct, omit_defaults=True):
    """Another dialect's reasoning, or its proof of a tool call (`call`), as it is sealed."""

    text: str = ""
    signature: str = ""
    sealed: str = ""
    summary: bool = False
    id: str = ""
    extras: Extras = field(default_factory=dict)
    call: str = ""


_packed_decoder = msgspec.json.Decoder(_Packed)


class CallProof(Struct, frozen=True):
    """What proves a tool call to its vendor, kept in a reasoning item of its own."""

    call: str
    origin: str
    signature: str


def thoughts_of(item: Members, opened: Opened) -> list[Thinking] | CallProof:
    """A reasoning item: its text, its summary, or both as thoughts that share the item's id and its proof."""
    item.drop("type", "status")
    summary = SUMMARY_BREAK.join(part.text("text") for part in item.objects("summary"))
    text = "".join(part.text("text") for part in item.objects("content"))
    id = item.text("id")
    origin, proof = opened(item.text("encrypted_content"))
    if origin == NAME:
        told = [(text, False)] if text or not summary else []
        told += [(summary, True)] if summary else []
        return [Thinking(each, is_summary, "", proof, NAME, id, item.rest()) for each, is_summary in told]
    try:
        packed = _packed_decoder.decode(proof)
    except (msgspec.DecodeError, RecursionError):
        raise item.fault("encrypted_content") from None
    if packed.call:
        return CallProof(packed.call, origin, packed.signature)
    told_as = packed.text or summary or text
    return [Thinking(told_as, packed.summary, packed.signature, packed.sealed, origin, packed.id, packed.extras)]


def are_of_one_item(thinking: Thinking, following: Part) -> bool:
    """Whether the reasoning and the summary of it that follows came as one item."""
    if not isinstance(following, Thinking) or thinking.summary or not following.summary or not thinking.id:
        return False
    return following == structs.replace(thinking, text=following.text, summary=True)


def encrypted(thinking: Thinking) -> str:
    """What `encrypted_content` holds, empty where nothing must come back."""
    if thinking.origin in ("", NAME):
        return thinking.sealed
    if not (thinking.signature or thinking.sealed or thinking.origin == "openai_chat"):
        return ""
    packed = _Packed(thinking.text, thinking.signature, thinking.sealed, thinking.summary, thinking.id, thinking.extras)
    return seal(thinking.origin, json_text(packed), NAME)


def call_proof_item(call: ToolCall, id: str) -> dict[str, Any]:
    """The reasoning item that keeps what proves a tool call."""
    packed = _Packed(signature=call.signature, call=call.id)
    return {
        "id": id,
        "type": "reasoning",
        "summary": [],
        "encrypted_content": seal(call.origin, json_text(packed), NAME),
    }


def reasoning_item(thinking: Thinking, id: str, summarised: str = "") -> dict[str, Any]:
    """Reasoning as an item. What another dialect's model thought is told as a summary: that is what callers show.
    `summarised`: the summary of it, where there is one besides."""
    item: dict[str, Any] = {"id": id} if id else {}
    is_content = thinking.origin in ("", NAME) and not thinking.summary
    shown = summarised if is_content else thinking.text
    summary = [{"type": "summary_text", "text": shown}] if shown else []
    item |= {"type": "reasoning", "summary": summary}
    if is_content and thinking.text:
        item["content"] = [{"type": "reasoning_text", "text": thinking.text}]
    if proof := encrypted(thinking):
        item["encrypted_content"] = proof
    return item | (thinking.extras if thinking.origin == NAME else {})


# -- tool calls -------------------------------------------------------------------------------------------------------


def call_of(item: Members) -> ToolCall:
    """A `function_call` or a `custom_tool_call`."""
    custom = item.text("type") == "custom_tool_call"
    item.drop("status")
    arguments = item.text("input") if custom else item.json_text("arguments")
    id, own = item.text("call_id"), item.text("id")
    return ToolCall(id or own, item.text("name"), arguments, custom, "", NAME, own, extras=item.rest())


def call_item(call: ToolCall, id: str, status: str = "") -> dict[str, Any]:
    told: dict[str, Any] = {"id": id} if id else {}
    told |= {"type": "custom_tool_call" if call.custom else "function_call", "call_id": call.id, "name": call.name}
    told["input" if call.custom else "arguments"] = call.arguments
    if status and not call.custom:
        told["status"] = status
    return told | (call.extras if call.origin == NAME else {})


def is_callers(kind: str) -> bool:
    """Whether an item of this type comes from the caller and not from the model."""
    return kind.endswith("_output") or kind == "mcp_approval_response"


def raw_kind(item: Members) -> str:
    """The type of an item, which stays where it is. What has a role alone is a message, and what has an id alone refers
    to an item. xAI writes its own searches of X as calls of custom tools, whose ids tell them from those that the
    caller has to make."""
    kind = item.peek("type") or ("message" if item.has("role") else "item_reference" if item.has("id") else "")
    return "x_search_call" if kind == "custom_tool_call" and item.peek("call_id").startswith("xs_call") else kind
