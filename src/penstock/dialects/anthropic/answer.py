"""A message, as it is told whole: from a target, and to a caller.

Source: Anthropic API reference, "Create a Message" (the response), "Handling stop reasons". The API has one choice: of
several, the first is told. Images that a model made have no block, and are left out; of sounds the words are told.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from penstock.dialects.anthropic.blocks import NAME, NULL, decode_blocks, members, rest
from penstock.dialects.anthropic.target import arguments, cache_control
from penstock.dialects.anthropic.usage import merge, normalise, report, served_tier
from penstock.dialects.codec import Heading, seal
from penstock.dialects.custom_tools import wrapped
from penstock.dialects.endings import fault_told, is_fault, stop_met
from penstock.dialects.in_turn import in_words
from penstock.dialects.proofs import packed, proof_of
from penstock.dialects.tiers import in_openais_words
from penstock.domain.chat import (
    Answer,
    Choice,
    Citation,
    Extras,
    Finish,
    Opaque,
    Part,
    Refusal,
    Request,
    Text,
    Thinking,
    ToolCall,
)
from penstock.domain.stream import Finished
from penstock.domain.usage import Usage
from penstock.errors import AnswerFailed, InvalidRequest, UpstreamMalformed

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


class _Message(Struct):
    """The members that every answer has."""

    type: Any = None
    role: Any = None
    id: Any = None
    model: Any = None
    content: Raw = NULL
    stop_reason: Any = None
    stop_sequence: Any = None
    usage: Any = None


_message_decoder = msgspec.json.Decoder(_Message)
_KNOWN = frozenset(_Message.__struct_fields__)
_KNOWN_OR_AT_END = _KNOWN.union(OF_THE_END)


def _decode(body: bytes) -> Answer:
    told = _message_decoder.decode(body)
    if told.type != "message":
        raise UpstreamMalformed("The provider's answer is not a message.")
    fields = members(body)
    parts = decode_blocks(told.content, sealed=False)
    native, reported = text_in(told.stop_reason), merge({}, told.usage)
    others = fields if fields.keys() - _KNOWN else {}
    at_end = {name: others[name] for name in OF_THE_END if name in others}
    finish = FINISHES.get(native, "stop")
    choice = Choice(parts, finish, native, text_in(told.stop_sequence))
    if at_end:
        choice = structs.replace(choice, extras=rest(at_end), explanation=explanation_of(at_end))
    usage = normalise(reported) if reported else None
    tier = in_openais_words(served_tier(reported))
    extras = {name: value for name, value in others.items() if name not in _KNOWN_OR_AT_END and value != NULL}
    return Answer(NAME, text_in(told.id), text_in(told.model), (choice,), 0, usage, tier, extras)


def explanation_of(at_end: dict[str, Raw]) -> str:
    """What `stop_details` says in words; they stay where they are."""
    raw = at_end.get("stop_details", NULL)
    told = msgspec.json.decode(raw)
    return text_in(told.get("explanation")) if isinstance(told, dict) else ""


def text_in(told: Any) -> str:
    """A text that no answer hangs on; empty for anything else."""
    return told if isinstance(told, str) else ""


def encode_answer(answer: Answer, heading: Heading) -> bytes:
    """Raises `AnswerFailed` for an answer that ended in a fault, for which the API has no reason to stop."""
    choice = answer.choices[0] if answer.choices else Choice(())
    is_own = answer.origin == NAME
    content = [block for part in choice.parts for block in _blocks_of(part, is_own=is_own)]
    if is_fault(choice, has_content=bool(content)):
        raise AnswerFailed(fault_told(choice))
    refusal = [part.text for part in choice.parts if isinstance(part, Refusal)]
    written = {
        "id": answer.id or heading.id,
        "type": "message",
        "role": "assistant",
        "model": heading.model,
        "content": content,
        **stop_of(choice, heading.request, choice.extras if is_own else {}, refusal),
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


def stop_of(end: Choice | Finished, request: Request, extras: Extras, refusal: list[str]) -> dict[str, Any]:
    """The members that say why it ended. `refusal`: what the model said instead of an answer, in pieces, where its
    dialect tells that apart."""
    is_own = FINISHES.get(end.native) == end.finish
    reason = end.native if is_own else "refusal" if refusal and end.finish == "stop" else _REASONS[end.finish]
    told: dict[str, Any] = {"stop_reason": reason, "stop_sequence": stop_met(end, request) or None}
    if reason == "refusal" and (said := end.explanation or "".join(refusal)):
        told["stop_details"] = {"type": "refusal", "category": None, "explanation": said}
    return {**told, **extras}


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
