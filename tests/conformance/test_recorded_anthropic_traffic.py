"""Recorded Messages traffic, replayed behind a real gateway: the caller gets what the provider sent, and it costs what
it said; the codec reads every recording, and what it writes is read again.

Vertex AI's are replayed as Anthropic's.
"""

import json
from typing import Any

import anthropic
import httpx2
import pytest
from tests.conformance.stage import CREDENTIAL, PRICES_NANOUSD, Stage, place_of, recordings_of
from tests.laws.conversations import decode_in_pieces

from penstock.dialects.anthropic import Messages
from penstock.dialects.codec import Heading, TargetFacts
from penstock.domain.chat import Answer as ToldAnswer
from penstock.domain.stream import collect, events_of
from penstock.testing.caller import Answer
from penstock.testing.replay import Recording, recorded_headers

COUNT = "messages.count_tokens"
SURFACES = ("messages", "rawPredict", "streamRawPredict", COUNT)

RECORDINGS = recordings_of(*SURFACES)
ANSWERED = [one for one in RECORDINGS if one.response.status == 200 and one.surface != COUNT]
STREAMS = [one for one in ANSWERED if one.response_kind == "sse"]
every_recording = pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.id)
every_answer = pytest.mark.parametrize("recording", ANSWERED, ids=lambda recording: recording.id)
every_stream = pytest.mark.parametrize("recording", STREAMS, ids=lambda recording: recording.id)

DIALECT = Messages()
CODEC = DIALECT.codec


def _body(recording: Recording) -> dict[str, Any]:
    return {**recording.request.json, "model": recording.id}


def _call(stage: Stage, recording: Recording) -> Answer:
    path = "/v1/messages/count_tokens" if recording.surface == COUNT else "/v1/messages?beta=true"
    given = recording.request.headers.items()
    headers = {name: value for name, value in given if name.startswith(("anthropic-", "user-agent"))}
    return stage.caller().post(path, _body(recording), headers)


# -- through the gateway ----------------------------------------------------------------------------------------------


@every_recording
def test_the_caller_gets_what_the_provider_sent(stage: Stage, recording: Recording) -> None:
    answer = _call(stage, recording)
    if recording.response.status == 401:
        assert answer.status == 502
        assert answer.error["code"] == answer.headers["x-penstock-error"] == "upstream_credential"
        return
    assert answer.status == recording.response.status
    assert answer.body == recording.response.content
    for name, value in recorded_headers(recording):
        if "ratelimit" in name or "retry" in name or name.endswith("request-id"):
            assert answer.headers["x-upstream-request-id" if name == "x-request-id" else name] == value


@every_recording
def test_the_provider_gets_what_the_caller_sent(stage: Stage, recording: Recording) -> None:
    before = len(stage.replay.calls(recording.id))
    _call(stage, recording)
    (received,) = stage.replay.calls(recording.id)[before:]
    assert received.json() == _body(recording) | {"model": place_of(recording).model}
    assert received.header("api-key" if recording.provider == "azure" else "x-api-key") == CREDENTIAL
    assert received.header("anthropic-version") == recording.request.headers.get("anthropic-version", "2023-06-01")
    assert received.header("anthropic-beta") == recording.request.headers.get("anthropic-beta")
    assert stage.key not in str(received.headers)


def _said_usage(recording: Recording) -> dict[str, int]:
    """The usage that a recording states, class by class. Written from the reference, apart from the gateway's own
    reading of it."""
    lines = recording.response.content.decode().splitlines() if recording.response_kind == "sse" else []
    told = [json.loads(line[5:]) for line in lines if line.startswith("data:")]
    told = told or [json.loads(recording.response.content)]
    usage: dict[str, Any] = {}
    for one in told:
        usage |= {name: value for name, value in (one.get("usage") or {}).items() if value is not None}
        usage |= (one.get("message") or {}).get("usage") or {}
    written = usage.get("cache_creation") or {}
    hour = written.get("ephemeral_1h_input_tokens", 0)
    counted = {"input": usage["input_tokens"], "output": usage["output_tokens"], "1h": hour}
    counted["cache_read"] = usage.get("cache_read_input_tokens", 0)
    counted["5m"] = usage.get("cache_creation_input_tokens", 0) - hour
    return {name: count for name, count in counted.items() if count}


@every_recording
def test_the_receipt_says_what_the_recording_says(stage: Stage, recording: Recording) -> None:
    receipt = stage.gateway.receipt(_call(stage, recording).request_id)
    if recording.response.status >= 400 or recording.surface == COUNT:
        assert receipt["cost_nanousd"] == 0
        return
    stated = _said_usage(recording)
    counted = {**receipt["usage"], **receipt["usage"].get("cache_write", {})}
    assert {name: counted[name] for name in PRICES_NANOUSD if counted.get(name)} == stated
    assert receipt["cost_nanousd"] == sum(count * PRICES_NANOUSD[name] for name, count in stated.items())
    assert (receipt["cost_basis"], receipt["cause"]) == ("computed", "completed")
    assert receipt["usage"].get("images", 0) == 0


@every_stream
def test_the_way_a_stream_is_cut_changes_nothing(stage: Stage, recording: Recording) -> None:
    try:
        stage.replay.cuts = "random"
        assert _call(stage, recording).body == recording.response.content
    finally:
        stage.replay.cuts = "recorded"


def _sdk_sees(http: httpx2.Client, base_url: str, key: str, body: dict[str, Any]) -> Any:
    """What the official SDK makes of a call: its message, or the error that it raises."""
    body = dict(body)
    known = {name: body.pop(name) for name in ("model", "messages", "max_tokens")}
    streaming = body.pop("stream", False)
    client = anthropic.Anthropic(base_url=base_url, api_key=key, max_retries=0, http_client=http)
    try:
        if streaming:
            with client.messages.stream(**known, extra_body=body) as stream:
                return stream.get_final_message().model_dump(warnings=False)
        return client.messages.create(**known, extra_body=body).model_dump(warnings=False)
    except anthropic.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.body]


@pytest.mark.parametrize(
    "recording",
    [one for one in RECORDINGS if one.surface != COUNT and one.response.status != 401],
    ids=lambda recording: recording.id,
)
def test_the_official_sdk_sees_the_same_as_without_the_gateway(stage: Stage, recording: Recording) -> None:
    body = _body(recording) | {"stream": recording.response_kind == "sse"}
    through = _sdk_sees(stage.http, stage.gateway.url, stage.key, body)
    direct = _sdk_sees(stage.http, stage.replay.base_url(recording.id), "direct", body)
    assert through == direct


# -- through the codec ------------------------------------------------------------------------------------------------


def _told(recording: Recording) -> ToldAnswer:
    content = recording.response.content
    if recording.response_kind != "sse":
        return CODEC.decode_answer(content)
    decoder = CODEC.decoder()
    return collect([*decoder.feed(content), *decoder.close()])


@every_answer
def test_a_recorded_request_is_read_as_it_is_written_again(recording: Recording) -> None:
    body = {"model": "claude", **recording.request.json}
    request = CODEC.decode_request(DIALECT.parse(json.dumps(body).encode()))
    encoded = CODEC.encode_request(request, TargetFacts(request.model))
    assert encoded.dropped == ()
    assert CODEC.decode_request(DIALECT.parse(encoded.body)) == request


@every_answer
def test_a_recorded_answer_is_the_same_plain_and_streamed(recording: Recording) -> None:
    answer = _told(recording)
    request = CODEC.decode_request(DIALECT.parse(json.dumps({"model": "claude", **recording.request.json}).encode()))
    heading = Heading(answer.model, wants_usage=True, request=request)
    assert CODEC.decode_answer(CODEC.encode_answer(answer, heading)) == answer
    encoder = CODEC.encoder(heading)
    stream = b"".join([encoder.encode(event) for event in events_of(answer)])
    assert collect(decode_in_pieces(CODEC.decoder(), stream, seed=7)) == answer


@every_stream
def test_a_recorded_stream_tells_the_same_in_any_pieces(recording: Recording) -> None:
    assert collect(decode_in_pieces(CODEC.decoder(), recording.response.content, seed=11)) == _told(recording)
