"""A message, as it is told whole: from a target, and to a caller.

Source: Anthropic API reference, "Create a Message" (the response), "Handling stop reasons". The API has one choice: of
several, the first is told. Images that a model made have no block, and are left out; of sounds the words are told.
"""

from typing import Any

import msgspec

from penstock.dialects.anthropic.blocks import NAME, NULL, decode_blocks, members, rest
from penstock.dialects.anthropic.target import arguments, cache_control
from penstock.dialects.anthropic.usage import normalise, report, served_tier
from penstock.dialects.codec import Heading, seal
from penstock.dialects.custom_tools import wrapped
from penstock.dialects.in_turn import in_words
from penstock.dialects.members import pop
from penstock.dialects.proofs import packed, proof_of
from penstock.domain.chat import (
    Answer,
    Choice,
    Citation,
    Extras,
    Finish,
    Opaque,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from penstock.domain.usage import Usage
from penstock.errors import InvalidRequest, UpstreamMalformed

FINISHES: dict[str, Finish] = {
    "end_turn": "stop",
    "max_tokens": "length",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "compaction": "pause",
    "refusal": "refusal",
    "model_context_window_exceeded": "context",
}
_REASONS: dict[Finish, str] = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
    "pause": "pause_turn",
    "context": "model_context_window_exceeded",
    "error": "end_turn",
}

OF_THE_END = ("stop_details", "container", "context_management")
"""Members that a stream tells with the stop reason."""


def decode_answer(body: bytes) -> Answer:
    """Raises `UpstreamMalformed`."""
    try:
        return _decode(body)
    except (msgspec.DecodeError, InvalidRequest, RecursionError, UnicodeDecodeError):
        raise UpstreamMalformed("The provider's answer is not what its API allows.") from None


def _decode(body: bytes) -> Answer:
    fields = members(body)
    if pop(fields, "type", str, "") != "message":
        raise UpstreamMalformed("The provider's answer is not a message.")
    fields.pop("role", None)
    id_, model = pop(fields, "id", str, ""), pop(fields, "model", str, "")
    parts = decode_blocks(fields.pop("content", NULL), sealed=False)
    native = pop(fields, "stop_reason", str, "")
    met = pop(fields, "stop_sequence", str, "")
    reported = pop(fields, "usage", dict[str, Any], {})
    at_end = {name: fields.pop(name) for name in OF_THE_END if name in fields}
    choice = Choice(parts, FINISHES.get(native, "stop"), native, met, extras=rest(at_end))
    usage = normalise(reported) if reported else None
    return Answer(NAME, id_, model, (choice,), 0, usage, served_tier(reported), rest(fields))


def encode_answer(answer: Answer, heading: Heading) -> bytes:
    choice = answer.choices[0] if answer.choices else Choice(())
    is_own = answer.origin == NAME
    written = {
        "id": answer.id or heading.id,
        "type": "message",
        "role": "assistant",
        "model": heading.model,
        "content": [block for part in choice.parts for block in _blocks_of(part, is_own=is_own)],
        **stop_of(choice.finish, choice.native, choice.stop_sequence, choice.extras if is_own else {}),
        **(answer.extras if is_own else {}),
        "usage": report(answer.usage or Usage(), answer.service_tier),
    }
    return msgspec.json.encode(written)


def _blocks_of(part: Part, *, is_own: bool) -> list[Any]:
    block = encode_part(in_words(part), is_own=is_own)
    if block is None:
        return []
    return [block, proof_block(part)] if isinstance(part, ToolCall) and part.signature else [block]


def proof_block(call: ToolCall) -> dict[str, Any]:
    """Another family's proof on a call."""
    return {"type": "redacted_thinking", "data": packed(proof_of(call), NAME)}


def stop_of(finish: Finish, native: str, stop_sequence: str, extras: Extras) -> dict[str, Any]:
    """The members that say why it ended."""
    is_own = FINISHES.get(native) == finish
    return {"stop_reason": native if is_own else _REASONS[finish], "stop_sequence": stop_sequence or None, **extras}


def encode_part(part: Part, *, is_own: bool) -> Any:
    """A part as a block; None for what the API has no block for."""
    if isinstance(part, Text | Refusal):
        block: dict[str, Any] = {"type": "text", "text": part.text}
        if isinstance(part, Text):
            if part.citations:
                block["citations"] = [encode_citation(citation) for citation in part.citations]
            block |= cache_control(part.cache) | (part.extras if is_own else {})
        return block
    if isinstance(part, Thinking):
        return _encode_thinking(part)
    if isinstance(part, ToolCall):
        called = {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments(wrapped(part).arguments)}
        return called | cache_control(part.cache) | (part.extras if is_own else {})
    return part.raw if isinstance(part, Opaque) and part.origin == NAME else None


def _encode_thinking(part: Thinking) -> dict[str, Any]:
    if part.origin != NAME:
        return {"type": "thinking", "thinking": part.text, "signature": packed(part, NAME)}
    if part.sealed:
        return {"type": "redacted_thinking", "data": part.sealed, **part.extras}
    return {"type": "thinking", "thinking": part.text, "signature": part.signature, **part.extras}


def encode_citation(citation: Citation) -> Any:
    """Another family's citation is told as a result of a search of the web, whose proof is the citation itself."""
    if citation.origin == NAME:
        return citation.raw
    return {
        "type": "web_search_result_location",
        "cited_text": citation.quote,
        "encrypted_index": seal(citation.origin or "unknown", bytes(citation.raw).decode(), NAME),
        "title": citation.title or None,
        "url": citation.url,
    }
