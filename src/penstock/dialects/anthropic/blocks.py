"""Content blocks -> parts of a conversation.

Source: Anthropic API reference, `InputContentBlock` and `ContentBlock`. A block that only this dialect has (a server
tool's call and result, an upload to a container, a compaction, ...) is `Opaque`. A block whose text others can read is
a document for them, and travels whole, as `extras["block"]`, for an encoder of this dialect.

Reasoning that came from another family of models is told to callers of this dialect as `thinking` whose signature is
that family's proofs, sealed (`proofs`).
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from penstock.dialects.codec import unseal
from penstock.dialects.members import pop
from penstock.dialects.proofs import unpacked, with_proofs
from penstock.domain.chat import (
    Cache,
    Citation,
    Extras,
    Media,
    Opaque,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)

NAME = "anthropic_messages"
BLOCK = "block"
"""The name of the extra that is a whole block."""

NULL = Raw(b"null")
_T = TypeVar("_T")

members = msgspec.json.Decoder(dict[str, Raw]).decode
raw_list = msgspec.json.Decoder(list[Raw]).decode


def rest(fields: dict[str, Raw]) -> Extras:
    """What nobody took; a null says nothing."""
    return {name: value for name, value in fields.items() if value != NULL}


def pop_cache(fields: dict[str, Raw]) -> Cache | None:
    """`cache_control`. Members of it that are not known stay where they are, and go back as they came."""
    raw = fields.get("cache_control")
    if raw is None or raw == NULL:
        fields.pop("cache_control", None)
        return None
    control = msgspec.json.decode(raw, type=dict[str, Any])
    if control.get("type") == "ephemeral" and set(control) <= {"type", "ttl"}:
        del fields["cache_control"]
    return Cache(str(control.get("ttl") or ""))


def decode_blocks(content: Raw, *, sealed: bool) -> tuple[Part, ...]:
    """A content: text, or a list of blocks. `sealed`: it comes from a caller, who may have been told sealed proofs.
    Raises `msgspec.DecodeError`, and `InvalidRequest` for a proof that was changed."""
    if content == NULL:
        return ()
    if memoryview(content)[0] == ord('"'):
        text = msgspec.json.decode(content, type=str)
        return (Text(text),) if text else ()
    parts = tuple([decode_block(raw, sealed=sealed) for raw in raw_list(content)])
    return with_proofs(parts) if sealed else parts


def decode_block(raw: Raw, *, sealed: bool) -> Part:
    block = members(raw)
    kind = pop(block, "type", str, "")
    if kind in ("thinking", "redacted_thinking"):
        return _thinking(kind, block, sealed)
    if kind == "tool_result":
        return _tool_result(block, sealed)
    decode = _DECODERS.get(kind)
    return decode(block, raw) if decode is not None else Opaque(NAME, kind, raw)


def _text(block: dict[str, Raw], raw: Raw) -> Part:
    citations = pop(block, "citations", list[Raw], [])
    return Text(
        pop(block, "text", str, ""),
        tuple(map(decode_citation, citations)),
        pop_cache(block),
        rest(block),
    )


def decode_citation(raw: Raw) -> Citation:
    """Its places are places in the document that is cited, and so not told apart from `raw`."""
    cited = msgspec.json.decode(raw, type=dict[str, Any])
    origin, proof = unseal(str(cited.get("encrypted_index") or ""), NAME)
    return Citation(
        url=str(cited.get("url") or cited.get("source") or ""),
        title=str(cited.get("title") or cited.get("document_title") or ""),
        quote=str(cited.get("cited_text") or ""),
        origin=origin,
        raw=raw if origin == NAME else Raw(proof.encode()),
    )


def _thinking(kind: str, block: dict[str, Raw], sealed: bool) -> Thinking:
    if kind == "redacted_thinking":
        data = pop(block, "data", str, "")
        if sealed and unseal(data, NAME)[0] != NAME:
            return unpacked("", data, NAME, rest(block))
        return Thinking(sealed=data, origin=NAME, extras=rest(block))
    text, signature = pop(block, "thinking", str, ""), pop(block, "signature", str, "")
    return (
        unpacked(text, signature, NAME, rest(block))
        if sealed
        else Thinking(text, False, signature, "", NAME, "", rest(block))
    )


def _tool_use(block: dict[str, Raw], raw: Raw) -> Part:
    call, name = pop(block, "id", str, ""), pop(block, "name", str, "")
    given = block.pop("input", Raw(b"{}"))
    if block.get("caller", NULL) != NULL and members(block["caller"]).get("type") == Raw(b'"direct"'):
        del block["caller"]  # as if it were not told
    return ToolCall(call, name, bytes(given).decode(), cache=pop_cache(block), extras=rest(block))


def _tool_result(block: dict[str, Raw], sealed: bool) -> Part:
    parts = decode_blocks(block.pop("content", NULL), sealed=sealed)
    return ToolResult(
        pop(block, "tool_use_id", str, ""),
        tuple(part for part in parts if isinstance(part, Text | Media | Opaque)),
        is_error=pop(block, "is_error", bool, False),
        cache=pop_cache(block),
        extras=rest(block),
    )


def _image(block: dict[str, Raw], raw: Raw) -> Part:
    where = _source(block)
    if where is None:
        return Opaque(NAME, "image", raw)
    return Media("image", cache=pop_cache(block), extras=rest(block), **where)


def _document(block: dict[str, Raw], raw: Raw) -> Part:
    if block.get("source", NULL) == NULL:
        return Opaque(NAME, "document", raw)
    source = members(block["source"])
    kind = pop(source, "type", str, "")
    title = pop(block, "title", str, "")
    if kind == "content":
        del block["source"]
        return _told_by_its_texts(source.get("content", NULL), title, block, raw)
    if kind == "text":
        block.pop("source")
        text = pop(source, "data", str, "")
        return Media("document", "text/plain", text=text, name=title, cache=pop_cache(block), extras=rest(block))
    where = _source(block)
    if where is None:
        return Opaque(NAME, "document", raw)
    where.setdefault("mime", "application/pdf" if kind == "url" else "")
    return Media("document", name=title, cache=pop_cache(block), extras=rest(block), **where)


def _source(block: dict[str, Raw]) -> dict[str, str] | None:
    """Where a medium is, as members of `Media`; None, with the block left as it is, where it is told otherwise."""
    if block.get("source", NULL) == NULL:
        return None
    source = members(block["source"])
    kind = pop(source, "type", str, "")
    if kind == "base64":
        where = {"mime": pop(source, "media_type", str, ""), "data": pop(source, "data", str, "")}
    elif kind == "url":
        where = {"url": pop(source, "url", str, "")}
    elif kind == "file":
        where = {"file": pop(source, "file_id", str, "")}
    else:
        return None
    if source:
        return None
    del block["source"]
    return where


def _search_result(block: dict[str, Raw], raw: Raw) -> Part:
    return _told_by_its_texts(block.pop("content", NULL), pop(block, "title", str, ""), block, raw)


def _told_by_its_texts(content: Raw, title: str, block: dict[str, Raw], raw: Raw) -> Media:
    """A block of blocks as a document of their texts, one below the other; what else is in it is extras."""
    parts = decode_blocks(content, sealed=False)
    text = "\n".join(part.text for part in parts if isinstance(part, Text))
    others = {part.kind: Raw(b"true") for part in parts if isinstance(part, Media | Opaque)}
    cache = pop_cache(block)
    extras = {**rest(block), **others, BLOCK: raw}
    return Media("document", "text/plain", text=text, name=title, cache=cache, extras=extras)


_DECODERS: dict[str, Callable[[dict[str, Raw], Raw], Part]] = {
    "text": _text,
    "tool_use": _tool_use,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
}
