"""Whatever a vendor's published specification allows is read, and told to everybody or named: nothing crashes, and
nothing of a request is lost in silence."""

import json
import random
import re
from contextlib import suppress
from typing import Any

import pytest
from tests.conformance.stage import MATERIAL
from tests.laws.specifications import Walk, altered, marks_of, schemas

from penstock.dialects.base import NO_ADDRESS, Address
from penstock.dialects.codec import Heading, TargetFacts
from penstock.dialects.registry import CODECS, CONVERSATIONS, DIALECTS
from penstock.dialects.translation import Passages
from penstock.domain.chat import Answer, Message, Request, Text
from penstock.domain.stream import collect, events_of
from penstock.errors import GatewayError

needs_specs = pytest.mark.skipif(not (MATERIAL / "specs").is_dir(), reason="the published specifications are not here")
HEADING = Heading("m", True, Request("", "m", (Message("user", (Text("Hi."),)),)), 1_700_000_000, "id-1")
FACTS = TargetFacts("m", 4096, most_output=100_000)

ANSWERS = [
    ("chat.completions", "openai.openapi.json", "CreateChatCompletionResponse", 1),
    ("responses", "openai.openapi.json", "OutputItem", 5),
    ("messages", "anthropic.openapi.json", "BetaMessage", 3),
    ("generateContent", "google.discovery.json", "GenerateContentResponse", 2),
]
"""The surface, the document, the schema, and of how many values one is tried: all of some would take a minute."""

REQUESTS = [
    ("chat.completions", "openai.openapi.json", "CreateChatCompletionRequest", 1),
    ("responses", "openai.openapi.json", "CreateResponse", 11),
    ("messages", "anthropic.openapi.json", "BetaCreateMessageParams", 11),
    ("generateContent", "google.discovery.json", "GenerateContentRequest", 3),
]


# -- answers ----------------------------------------------------------------------------------------------------------


def _answer(surface: str, value: dict[str, Any]) -> dict[str, Any]:
    """The value as a whole answer."""
    if surface == "responses":
        return {"id": "resp_1", "status": "completed", "model": "m", "output": [value]}
    for candidate in value.get("candidates") or ():
        candidate.setdefault("finishReason", "STOP")
    return value


def _told(surface: str, answer: Answer) -> None:
    """The answer to a caller, plain and streamed, read again as its clients do. Raises nothing but what is told."""
    codec = CODECS[surface]
    try:
        codec.decode_answer(codec.encode_answer(answer, HEADING))
        encoder, decoder = codec.encoder(HEADING), codec.decoder()
        collect([*decoder.feed(b"".join(map(encoder.encode, events_of(answer)))), *decoder.close()])
    except GatewayError:
        return


@needs_specs
@pytest.mark.parametrize(("surface", "file", "schema", "step"), ANSWERS, ids=lambda value: str(value))
def test_an_answer_with_something_odd_in_it_is_told_or_its_vendors_fault(
    surface: str, file: str, schema: str, step: int
) -> None:
    dice = random.Random(step)
    for number, (_, value) in enumerate(Walk(schemas(file)).values(schema)):
        if number % (2 * step):
            continue
        body = json.dumps(altered(_answer(surface, value), dice)).encode()
        with suppress(GatewayError):
            DIALECTS[surface].read(body)
        with suppress(GatewayError):
            answer = CODECS[surface].decode_answer(body)
            for caller in CONVERSATIONS:
                _told(caller, answer)


@needs_specs
@pytest.mark.parametrize(("surface", "file", "schema", "step"), ANSWERS, ids=lambda value: str(value))
def test_every_answer_is_read_and_told(surface: str, file: str, schema: str, step: int) -> None:
    read = 0
    for number, (place, value) in enumerate(Walk(schemas(file)).values(schema)):
        if number % step:
            continue
        body = json.dumps(_answer(surface, value)).encode()
        reading = DIALECTS[surface].read(body)
        try:
            answer = CODECS[surface].decode_answer(body)
        except GatewayError:
            continue
        read += 1
        assert reading.usage == answer.usage, place
        for caller in CONVERSATIONS:
            _told(caller, answer)
    assert read > 40


# -- requests ---------------------------------------------------------------------------------------------------------

SAYS_NOTHING = re.compile(
    r"\.role$|\.id$|\.name$|\.(?:title|document_title|filename)$|\.logprobs\[\]|\.citations\[\]|\.annotations\[\]"
    r"|\.json_schema\.description$|\.propertyOrdering\[\]|\.(?:tools|allowedFunctionNames)\[\](?:\.\*)?$|\.source\.(?:data|content)|\.(?:auto|any)\.\*$"
)
"""What a translation may leave out without a word: what something is called, how probable an earlier answer was, what
it cited, what a schema that is not there is for; and texts that are told in base64."""


def _whole(surface: str, body: dict[str, Any]) -> dict[str, Any]:
    """The body with what a conversation needs besides."""
    hello = {"role": "user", "content": "Hi."}
    if surface in ("chat.completions", "messages"):
        body = {**body, "model": "m", "messages": [hello, *body.get("messages", ()), hello], "max_tokens": 999}
        return {name: value for name, value in body.items() if name not in ("fallbacks", "n")}
    if surface == "responses":
        given = body.get("input")
        return {**body, "model": "m", "input": [hello, *given, hello] if isinstance(given, list) else given or "Hi."}
    said = {"role": "user", "parts": [{"text": "Hi."}]}
    return {**body, "contents": [said, *[one for one in body.get("contents", ()) if one], said]}


def _lost(surface: str, body: dict[str, Any], target: str) -> list[str]:
    """The places of what a target is not told and nobody is told of."""
    try:
        call = DIALECTS[surface].parse(json.dumps(body).encode(), Address("m") if "contents" in body else NO_ADDRESS)
        passage = Passages(DIALECTS[surface], call, 5, "ours").to((target,), FACTS)
    except GatewayError:
        return []
    sent = b"".join(bytes(raw) for raw in passage.call.fields.values()).decode()
    if passage.dropped:
        return []
    return [place for place, mark in marks_of(body) if mark not in sent and not SAYS_NOTHING.search(place)]


@needs_specs
@pytest.mark.parametrize(("surface", "file", "schema", "step"), REQUESTS, ids=lambda value: str(value))
def test_a_request_with_something_odd_in_it_is_told_or_refused(surface: str, file: str, schema: str, step: int) -> None:
    dice = random.Random(step)
    for number, (_, value) in enumerate(Walk(schemas(file)).values(schema)):
        if number % (2 * step) == 0:
            body = altered(_whole(surface, value), dice)
            for target in CONVERSATIONS:
                if target != surface and isinstance(body, dict):
                    _lost(surface, body, target)  # raises nothing


@needs_specs
@pytest.mark.parametrize(("surface", "file", "schema", "step"), REQUESTS, ids=lambda value: str(value))
def test_nothing_of_a_request_is_lost_in_silence(surface: str, file: str, schema: str, step: int) -> None:
    for number, (place, value) in enumerate(Walk(schemas(file)).values(schema)):
        if number % step == 0 and not place.startswith(".model"):
            body = _whole(surface, value)
            for target in CONVERSATIONS:
                if target != surface:
                    assert _lost(surface, body, target) == [], (target, place)
