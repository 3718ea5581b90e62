"""An answer of Converse, as it is told whole: from a target, and to a caller.

Source: Amazon Bedrock API reference, "Converse" (the response). The API has one choice: of several, the first is told.
It tells neither an id nor a model, and the time that it took (`metrics`) is not known of another vendor's answer.
"""

from typing import Any

import msgspec
from msgspec import Raw

from penstock.dialects import custom_tools
from penstock.dialects.anthropic.target import arguments
from penstock.dialects.bedrock.blocks import MIMES, NAME, NULL, decode_blocks, members, raw_list, wrapped
from penstock.dialects.bedrock.usage import normalise, report
from penstock.dialects.codec import Heading
from penstock.dialects.endings import refused_in_words
from penstock.dialects.in_turn import in_words
from penstock.dialects.members import pop
from penstock.dialects.proofs import packed, proof_of
from penstock.dialects.tiers import TOLD_BY_BEDROCK
from penstock.domain.chat import (
    Answer,
    Choice,
    Citation,
    Extras,
    Finish,
    Media,
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
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "stop_sequence": "stop_sequence",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "malformed_model_output": "error",
    "malformed_tool_use": "error",
    "model_context_window_exceeded": "context",
}
_REASONS: dict[Finish, str] = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "content_filtered",
    "refusal": "content_filtered",
    "pause": "end_turn",
    "context": "model_context_window_exceeded",
    "error": "malformed_model_output",
}
_FORMATS = {mime: form for form, mime in MIMES["image"].items()}

OF_THE_END = ("additionalModelResponseFields",)
"""Members that a stream tells with the stop reason. A guardrail's trace is for callers of this dialect alone, whose
bytes pass untouched."""


def decode_answer(body: bytes) -> Answer:
    """Raises `UpstreamMalformed`."""
    try:
        return _decode(body)
    except (msgspec.DecodeError, InvalidRequest, RecursionError, UnicodeDecodeError):
        raise UpstreamMalformed("The provider's answer is not what its API allows.") from None


def _decode(body: bytes) -> Answer:
    fields = {name: value for name, value in members(body).items() if value != NULL}
    message = pop(members(fields.pop("output", Raw(b"{}"))), "message", dict[str, Raw], {})
    if not message:
        raise UpstreamMalformed("The provider's answer has no message.")
    parts = decode_blocks(raw_list(message.get("content", Raw(b"[]"))), sealed=False)
    native = pop(fields, "stopReason", str, "")
    usage = normalise(pop(fields, "usage", dict[str, Any], {}))
    tier = pop(pop(fields, "serviceTier", dict[str, Raw], {}), "type", str, "")
    extras = {name: fields[name] for name in OF_THE_END if name in fields}
    finish, met = FINISHES.get(native, "stop"), met_of(extras.get(OF_THE_END[0], NULL))
    return Answer(NAME, "", "", (Choice(parts, finish, native, met, extras=extras),), 0, usage, tier)


def met_of(own: Raw) -> str:
    """The stop sequence among the members of the model's own answer that were asked for. A stream has it where the
    model's own last event does, in a `delta`."""
    if own == NULL:
        return ""
    try:
        met = msgspec.json.decode(own, type=dict[str, Any])
    except msgspec.ValidationError:
        return ""
    delta = met.get("delta")
    found = met.get("stop_sequence") or (delta.get("stop_sequence") if isinstance(delta, dict) else "")
    return found if isinstance(found, str) else ""


def encode_answer(answer: Answer, heading: Heading) -> bytes:
    choice = refused_in_words(answer.choices[0]) if answer.choices else Choice(())
    is_own = answer.origin == NAME
    content = [block for part in choice.parts for block in encode_part(in_words(part))]
    written = {
        "output": {"message": {"role": "assistant", "content": content}},
        **stop_of(choice.finish, choice.native, choice.extras if is_own else {}),
        **report_of(answer.usage, answer.service_tier),
    }
    return msgspec.json.encode(written)


def stop_of(finish: Finish, native: str, extras: Extras) -> dict[str, Any]:
    """The members that say why it ended."""
    return {"stopReason": native if FINISHES.get(native) == finish else _REASONS[finish], **extras}


def report_of(usage: Usage | None, service_tier: str) -> dict[str, Any]:
    """The members that say what was used."""
    tier = {"serviceTier": {"type": service_tier}} if service_tier in TOLD_BY_BEDROCK else {}
    return {"usage": report(usage or Usage()), "metrics": {"latencyMs": 0}, **tier}


def encode_part(part: Part) -> list[Any]:
    """A part as blocks; none for what the API has no block for."""
    if isinstance(part, Text):
        if part.citations:
            cited = {"content": [{"text": part.text}], "citations": list(map(encode_citation, part.citations))}
            return [{"citationsContent": cited}]
        return [{"text": part.text}]
    if isinstance(part, Refusal):
        return [{"text": part.text}]
    if isinstance(part, Thinking):
        return [{"reasoningContent": _reasoning(part)}]
    if isinstance(part, ToolCall):
        call = {"toolUseId": part.id, "name": part.name, "input": arguments(custom_tools.wrapped(part).arguments)}
        return [{"toolUse": call}, *([proof_block(part)] if part.signature else [])]
    if isinstance(part, Media) and part.kind == "image" and part.data and part.mime in _FORMATS:
        return [{"image": {"format": _FORMATS[part.mime], "source": {"bytes": part.data}}}]
    return [part.raw] if isinstance(part, Opaque) and part.origin == NAME else []


def proof_block(call: ToolCall) -> dict[str, Any]:
    """Another family's proof on a call."""
    return {"reasoningContent": {"redactedContent": wrapped(packed(proof_of(call), NAME))}}


def _reasoning(part: Thinking) -> dict[str, Any]:
    if part.origin != NAME:
        return {"reasoningText": {"text": part.text, "signature": packed(part, NAME)}}
    if part.sealed:
        return {"redactedContent": part.sealed}
    return {"reasoningText": {"text": part.text, **({"signature": part.signature} if part.signature else {})}}


def encode_citation(citation: Citation) -> Any:
    if citation.origin == NAME:
        return citation.raw
    told: dict[str, Any] = {"title": citation.title, "sourceContent": [{"text": citation.quote}]}
    if citation.url:
        told["location"] = {"web": {"url": citation.url}}
    return told
