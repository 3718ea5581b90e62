"""The judgement: each feature on each way, by the dialects' own codecs."""

from typing import Literal, NamedTuple

from msgspec import structs

from penstock.dialects.base import Address
from penstock.dialects.chorus import voices_for
from penstock.dialects.codec import Heading, TargetFacts
from penstock.dialects.gemini import parts as gemini
from penstock.dialects.registry import CODECS, CONVERSATIONS, DIALECTS
from penstock.domain.chat import Answer, Choice, Part, Request, Thinking
from penstock.domain.usage import Usage
from penstock.errors import GatewayError, InvalidRequest, UnsupportedByTarget
from penstock.testing.fidelity.features import FEATURES, MODEL, TOLD, Feature, Told, asked

Verdict = Literal["kept", "emulated", "dropped", "refused", "none", "LOST"]
"""`kept`: the target gets the same. `emulated`: it gets something that does the same. `dropped`: named in
`x-penstock-dropped`. `refused`: 400. `none`: the caller's dialect has no such thing. `LOST`: gone in silence."""


class Judged(NamedTuple):
    caller: str
    target: str
    feature: str
    verdict: Verdict
    detail: str = ""


def requests() -> list[Judged]:
    """Every feature of a request from every dialect to every other."""
    return [
        Judged(caller, target, feature.name, *_request(caller, target, feature))
        for caller in CONVERSATIONS
        for target in CONVERSATIONS
        if caller != target
        for feature in FEATURES
    ]


def answers() -> list[Judged]:
    """Every feature of an answer as each dialect tells it to its callers."""
    return [Judged(caller, "", told.name, *_answer(caller, told)) for caller in CONVERSATIONS for told in TOLD]


def written(surface: str, request: Request) -> Request:
    """The request as a caller of this dialect would write it, read again. Raises `GatewayError` where it cannot."""
    encoded = CODECS[surface].encode_request(request, TargetFacts(MODEL, 32_768, 200_000))
    call = DIALECTS[surface].parse(encoded.body, Address(MODEL, request.streaming, "sse"))
    return CODECS[surface].decode_request(call)


def _request(caller: str, target: str, feature: Feature) -> tuple[Verdict, str]:
    sample = _from(target, feature.request)
    wanted = feature.of(sample)
    try:
        asked_for = written(caller, _told_before(caller, sample))
    except GatewayError as error:
        return "none", error.message
    if feature.of(asked_for) != wanted:
        return "none", repr(feature.of(asked_for))
    try:
        voices = voices_for(asked_for, CODECS[target])
        if voices > 1:
            return ("emulated", f"{voices} calls at once") if voices == wanted else ("LOST", f"{voices} calls")
        encoded = CODECS[target].encode_request(asked_for, TargetFacts(MODEL, 32_768, 200_000))
    except (UnsupportedByTarget, InvalidRequest) as error:
        return "refused", error.message
    call = DIALECTS[target].parse(encoded.body, Address(MODEL, asked_for.streaming, "sse"))
    got = feature.of(CODECS[target].decode_request(call))
    if got == wanted:
        return "kept", ""
    if set(encoded.dropped) & set(feature.dropped_as):
        return "dropped", ", ".join(encoded.dropped)
    instead = (feature.instead or feature.of)(CODECS[target].decode_request(call))
    without = asked() if feature.instead is None else sample
    if instead and instead != (feature.instead or feature.of)(without):
        return "emulated", repr(instead)
    return "LOST", f"{wanted!r} became {got!r}; dropped: {', '.join(encoded.dropped) or 'nothing'}"


def _told_before(caller: str, request: Request) -> Request:
    """The request with its turns of the assistant as this caller was told them before, which is how it sends them
    back."""
    heading = Heading(MODEL, True, structs.replace(asked(), origin=DIALECTS[caller].name), 1_700_000_000)
    messages = []
    for message in request.messages:
        if any(isinstance(part, Thinking) for part in message.parts):
            answer = Answer("", "id_1", MODEL, (Choice(message.parts, "tool_calls"),), usage=Usage(input=1, output=1))
            told = CODECS[caller].decode_answer(CODECS[caller].encode_answer(answer, heading))
            parts = tuple(_as_kept(part, DIALECTS[caller].name) for part in told.choices[0].parts)
            message = structs.replace(message, parts=parts)  # noqa: PLW2901
        messages.append(message)
    return structs.replace(request, origin=DIALECTS[caller].name, messages=tuple(messages))


def _as_kept(part: Part, own: str) -> Part:
    """Reasoning as a caller has it in hand: where its dialect's decoder opens what is sealed, sealed again."""
    if own != DIALECTS["generateContent"].name or not isinstance(part, Thinking) or part.origin == own:
        return part
    return structs.replace(part, origin=own, signature=gemini.packed(part), sealed="", id="")


def _from(target: str, request: Request) -> Request:
    """The request with its reasoning made by the target's own models: sealed at Responses, signed elsewhere."""
    origin = DIALECTS[target].name

    def own(part: Part) -> Part:
        if not isinstance(part, Thinking):
            return part
        if target == "responses":
            return structs.replace(part, origin=origin, signature="", sealed=part.signature, id="rs_1", summary=True)
        return structs.replace(part, origin=origin)

    messages = [structs.replace(message, parts=tuple(map(own, message.parts))) for message in request.messages]
    return structs.replace(request, messages=tuple(messages))


def _answer(caller: str, told: Told) -> tuple[Verdict, str]:
    heading = Heading(MODEL, True, structs.replace(asked(), origin=DIALECTS[caller].name), 1_700_000_000)
    read: Answer = CODECS[caller].decode_answer(CODECS[caller].encode_answer(told.answer, heading))
    wanted, got = told.of(told.answer), told.of(read)
    return ("kept", "") if wanted == got else ("none", f"{wanted!r} became {got!r}")
