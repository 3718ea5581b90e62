"""Content blocks -> parts of a conversation.

Source: Amazon Bedrock API reference, `ContentBlock` and its members. A block is an object with one member, which names
its kind. A `cachePoint` stands behind what it closes, and becomes the cache mark of the part before it. A block that
only this dialect has (a server tool's call and result, ...) is `Opaque`. A block whose text others can read is a text
or a document for them, and travels whole besides, for an encoder of this dialect.
"""

import base64
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, structs

from penstock.dialects.codec import unseal
from penstock.dialects.members import pop
from penstock.dialects.proofs import unpacked, with_proofs
from penstock.domain.chat import Cache, Citation, Media, Opaque, Part, Text, Thinking, ToolCall, ToolResult

NAME = "bedrock_converse"
NULL = Raw(b"null")
JSON = "json"
"""The name of the extra that is a tool's result as JSON."""
BLOCK = "block"
"""The name of the extra that is a whole block."""
GUARDED = "guardContent"
"""The name of the extra that is a text marked for a guardrail."""
CALLERS_OWN = "tool_use"
"""The type of a call of a caller's tool. The reference has none for it, and Anthropic's models tell this one; a tool of
the vendor's has another (`server_tool_use`)."""

_T = TypeVar("_T")
members = msgspec.json.Decoder(dict[str, Raw]).decode
raw_list = msgspec.json.Decoder(list[Raw]).decode

_KINDS = frozenset(("text", "toolUse", "toolResult", "reasoningContent", "citationsContent", "image"))
"""What an answer's block is, whatever else is told beside it."""
MIMES = {
    "image": {name: f"image/{name}" for name in ("png", "jpeg", "gif", "webp")},
    "document": {
        "pdf": "application/pdf",
        "csv": "text/csv",
        "doc": "application/msword",
        "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "xls": "application/vnd.ms-excel",
        "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "html": "text/html",
        "txt": "text/plain",
        "md": "text/markdown",
    },
    "video": {
        **{name: f"video/{name}" for name in ("mp4", "webm", "mpeg")},
        **{"mkv": "video/x-matroska", "mov": "video/quicktime", "flv": "video/x-flv", "wmv": "video/x-ms-wmv"},
        **{"mpg": "video/mpg", "three_gp": "video/3gpp"},
    },
    "audio": {
        **{
            name: f"audio/{name}" for name in ("mp3", "opus", "wav", "aac", "flac", "mp4", "ogg", "mpeg", "webm", "pcm")
        },
        **{"m4a": "audio/x-m4a", "mka": "audio/x-matroska", "mkv": "audio/matroska", "mpga": "audio/mpga"},
        **{"x-aac": "audio/x-aac"},
    },
}
"""Formats by kind of medium, and their types."""


def decode_blocks(content: Iterable[Raw], *, sealed: bool) -> tuple[Part, ...]:
    """A content. `sealed`: it comes from a caller, who may have been told sealed proofs. Raises `msgspec.DecodeError`,
    and `InvalidRequest` for a proof that was changed."""
    parts: list[Part] = []
    for raw in content:
        block = {name: value for name, value in members(raw).items() if value != NULL}
        if len(block) != 1 and (sealed or not block):
            raise msgspec.ValidationError("a block has one member")
        kind, value = next((known for known in block.items() if known[0] in _KINDS), next(iter(block.items())))
        if kind == "cachePoint":
            _mark(parts, raw, members(value))
        else:
            alone = raw if len(block) == 1 else Raw(msgspec.json.encode({kind: value}))
            parts.append(_decode(kind, value, alone, sealed))
    return with_proofs(tuple(parts)) if sealed else tuple(parts)


def _mark(parts: list[Part], raw: Raw, point: dict[str, Raw]) -> None:
    lifetime = pop(point, "ttl", str, "")
    if parts and isinstance(parts[-1], Text | Media | ToolCall | ToolResult) and parts[-1].cache is None:
        parts[-1] = structs.replace(parts[-1], cache=Cache(lifetime))
    else:
        parts.append(Opaque(NAME, "cachePoint", raw))


def _decode(kind: str, value: Raw, raw: Raw, sealed: bool) -> Part:
    if kind == "text":
        return Text(msgspec.json.decode(value, type=str))
    if kind in MIMES:
        return _medium(kind, members(value), raw)
    if kind == "toolUse":
        return _tool_use(members(value), raw)
    if kind == "toolResult":
        return _tool_result(members(value), raw, sealed)
    if kind == "reasoningContent":
        return _reasoning(members(value), raw, sealed)
    if kind == "citationsContent":
        return _cited(members(value))
    if kind == "json":
        return Text(bytes(value).decode(), extras={JSON: value})
    if kind == "searchResult":
        found = members(value)
        return _told_by_its_texts(found.pop("content", Raw(b"[]")), pop(found, "title", str, ""), found, raw)
    if kind == GUARDED and set(guarded := members(value)) == {"text"}:
        return Text(pop(members(guarded["text"]), "text", str, ""), extras={GUARDED: value})
    return Opaque(NAME, kind, raw)


def _told_by_its_texts(content: Raw, name: str, rest: dict[str, Raw], raw: Raw) -> Media:
    """A block of texts as a document of them, one below the other; what else is in it is extras."""
    text = "\n".join(pop(members(one), "text", str, "") for one in raw_list(content))
    extras = {key: value for key, value in rest.items() if value != NULL} | {BLOCK: raw}
    return Media("document", "text/plain", text=text, name=name, extras=extras)


def _medium(kind: str, medium: dict[str, Raw], raw: Raw) -> Part:
    form = pop(medium, "format", str, "")
    source = members(medium.pop("source", Raw(b"{}")))
    mime = MIMES[kind].get(form, "")
    name = pop(medium, "name", str, "")
    if set(source) == {"bytes"} and mime:
        data = pop(source, "bytes", str, "")
        return Media(kind, mime, data, name=name, extras=dict(medium))  # type: ignore[arg-type]
    if set(source) == {"text"} and kind == "document":
        text = pop(source, "text", str, "")
        return Media("document", mime or "text/plain", text=text, name=name, extras=dict(medium))
    if set(source) == {"content"} and kind == "document":
        return _told_by_its_texts(source["content"], name, medium, raw)
    return Opaque(NAME, kind, raw)


def _tool_use(call: dict[str, Raw], raw: Raw) -> Part:
    if pop(call, "type", str, CALLERS_OWN) != CALLERS_OWN:
        return Opaque(NAME, "toolUse", raw)
    given = call.pop("input", Raw(b"{}"))
    return ToolCall(pop(call, "toolUseId", str, ""), pop(call, "name", str, ""), bytes(given).decode())


def _tool_result(result: dict[str, Raw], raw: Raw, sealed: bool) -> Part:
    if result.get("type", NULL) != NULL:
        return Opaque(NAME, "toolResult", raw)
    parts = decode_blocks(raw_list(result.pop("content", Raw(b"[]"))), sealed=sealed)
    told = tuple(part for part in parts if isinstance(part, Text | Media | Opaque))
    is_error = pop(result, "status", str, "success") == "error"
    return ToolResult(pop(result, "toolUseId", str, ""), told, is_error=is_error)


def _reasoning(reasoning: dict[str, Raw], raw: Raw, sealed: bool) -> Part:
    if "redactedContent" in reasoning:
        data = pop(reasoning, "redactedContent", str, "")
        if sealed:
            proof = unwrapped(data)
            if unseal(proof, NAME)[0] != NAME:
                return unpacked("", proof, NAME, {})
        return Thinking(sealed=data, origin=NAME)
    told = members(reasoning.pop("reasoningText", Raw(b"{}")))
    text, signature = pop(told, "text", str, ""), pop(told, "signature", str, "")
    return unpacked(text, signature, NAME, {}) if sealed else Thinking(text, False, signature, "", NAME)


def wrapped(proof: str) -> str:
    """A proof as bytes are told in JSON."""
    return base64.b64encode(proof.encode()).decode()


def unwrapped(data: str) -> str:
    """The proof in bytes that hold one of ours; empty for others."""
    try:
        return base64.b64decode(data).decode()
    except ValueError:
        return ""


def _cited(cited: dict[str, Raw]) -> Text:
    texts = [pop(members(raw), "text", str, "") for raw in pop(cited, "content", list[Raw], [])]
    return Text("".join(texts), tuple(map(decode_citation, pop(cited, "citations", list[Raw], []))))


def decode_citation(raw: Raw) -> Citation:
    """Its places are places in the source, and so not told apart from `raw`."""
    cited = msgspec.json.decode(raw, type=dict[str, Any])
    location = cited.get("location")
    web = location.get("web") if isinstance(location, dict) else None
    url = web.get("url") if isinstance(web, dict) else cited.get("source")
    quoted = cited.get("sourceContent")
    listed = quoted if isinstance(quoted, list) else ()
    quotes = [str(part.get("text") or "") for part in listed if isinstance(part, dict)]
    return Citation(str(url or ""), str(cited.get("title") or ""), "".join(quotes), origin=NAME, raw=raw)
