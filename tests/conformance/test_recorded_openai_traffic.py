"""Recorded traffic of OpenAI's dialect, replayed behind a real gateway: the caller gets what the provider sent, and it
costs what it said."""

import json
import random
import re
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from tests.conformance.stage import (
    CREDENTIAL,
    MATERIAL,
    PRICES_NANOUSD,
    Stage,
    place_of,
    published,
    recordings_of,
)

from penstock.providers.registry import provider_for
from penstock.testing.caller import Answer
from penstock.testing.replay import Recording, recorded_headers

SURFACES = {"chat.completions": "/v1/chat/completions", "embeddings": "/v1/embeddings"}


PRICES = {**PRICES_NANOUSD, "cache_write": PRICES_NANOUSD["5m"]}
RECORDINGS = recordings_of(*SURFACES)
STREAMS = [one for one in RECORDINGS if one.response_kind == "sse"]
needs_specs = pytest.mark.skipif(not (MATERIAL / "specs").is_dir(), reason="the published OpenAPI document is not here")
every_recording = pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.id)
every_stream = pytest.mark.parametrize("recording", STREAMS, ids=lambda recording: recording.id)


def _body(recording: Recording) -> dict[str, Any]:
    return {**recording.request.json, "model": recording.id}


def _call(stage: Stage, recording: Recording, body: dict[str, Any] | None = None) -> Answer:
    return stage.caller().post(SURFACES[recording.surface], body or _body(recording))


# -- what the caller must get ------------------------------------------------------------------------------------------


def _asked_usage(body: dict[str, Any]) -> bool:
    return bool((body.get("stream_options") or {}).get("include_usage"))


def _events(stream: str) -> list[str]:
    """The events of a stream with their line ends; comments and unfinished rests included."""
    return [event for event in re.split(r"(?<=\n\n)|(?<=\r\n\r\n)", stream) if event]


def _payload(event: str) -> dict[str, Any] | None:
    lines = [line.removeprefix("data:").strip() for line in event.splitlines() if line.startswith("data:")]
    try:
        value = json.loads("\n".join(lines))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _assert_stripped(got: str, sent: str) -> None:
    """`got` is `sent` without usage-only events and without null `usage` members; every other byte is the same."""
    kept = []
    for event in _events(sent):
        payload = _payload(event)
        if payload is None or payload.get("choices") != [] or not payload.get("usage"):
            kept.append(event)
    told = _events(got)
    assert len(told) == len(kept)
    for ours, theirs in zip(told, kept, strict=True):
        payload = _payload(theirs)
        if payload is not None and payload.get("usage", ...) is None:
            payload.pop("usage")
            assert _payload(ours) == payload
        else:
            assert ours == theirs


def _is_openai_error(content: bytes) -> bool:
    try:
        value = json.loads(content)
    except ValueError:
        return False
    error = value.get("error") if isinstance(value, dict) else None
    return isinstance(error, dict) and isinstance(error.get("message"), str)


def _assert_error(answer: Answer, recording: Recording) -> None:
    content, status = recording.response.content, recording.response.status
    if status == 401:
        assert answer.status == 502
        assert answer.error["code"] == answer.headers["x-penstock-error"] == "upstream_credential"
        return
    assert answer.status == status
    if _is_openai_error(content):
        assert answer.body == content
        return
    assert set(answer.error) >= {"message", "type", "param", "code"}
    assert isinstance(answer.error["message"], str)
    assert answer.error["message"]
    try:
        original = json.loads(content)
    except ValueError:
        return
    assert answer.error["upstream"] == original


@every_recording
def test_the_caller_gets_what_the_provider_sent(stage: Stage, recording: Recording) -> None:
    answer = _call(stage, recording)
    if recording.response.status >= 400:
        _assert_error(answer, recording)
    elif recording.response_kind == "sse" and not _asked_usage(recording.request.json):
        assert answer.status == recording.response.status
        _assert_stripped(answer.body.decode(), recording.response.content.decode())
    else:
        assert answer.status == recording.response.status
        assert answer.body == recording.response.content


@every_recording
def test_the_providers_headers_reach_the_caller(stage: Stage, recording: Recording) -> None:
    answer = _call(stage, recording)
    assert answer.request_id not in recording.response.headers.values()
    if recording.response.status == 401:
        return
    if recording.response.status == 200:
        assert answer.headers["content-type"] == recording.response.headers["content-type"]
    for name, value in recorded_headers(recording):
        if "ratelimit" in name or "retry" in name or name.endswith("request-id"):
            told = answer.headers["x-upstream-request-id" if name == "x-request-id" else name]
            assert told == value, name


@every_recording
def test_the_provider_gets_what_the_caller_sent(stage: Stage, recording: Recording) -> None:
    before = len(stage.replay.calls(recording.id))
    _call(stage, recording)
    (received,) = stage.replay.calls(recording.id)[before:]
    sent, got, place = _body(recording), received.json(), place_of(recording)
    expected = sent | {"model": place.model}
    if sent.get("stream") and (provider_for(place.kind).asks_usage or _asked_usage(sent)):
        expected["stream_options"] = {**(sent.get("stream_options") or {}), "include_usage": True}
    assert got == expected
    if place.kind == "azure":
        assert received.header("api-key") == CREDENTIAL
        assert "api_version" not in place.options or f"{recording.request.path}?api-version=" in received.path
    else:
        assert received.header("authorization") == f"Bearer {CREDENTIAL}"
    assert stage.key not in str(received.headers)


# -- what the SDK must see ---------------------------------------------------------------------------------------------


def _sdk_sees(http: httpx2.Client, base_url: str, key: str, surface: str, body: dict[str, Any]) -> list[Any]:
    """What the official SDK makes of a call: its objects as plain values, or the error that it raises."""
    body = dict(body)
    known = {name: body.pop(name) for name in ("model", "messages", "input", "stream") if name in body}
    client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, http_client=http)
    create: Callable[..., Any]
    if surface == "embeddings":
        create = client.embeddings.create
        known["encoding_format"] = body.pop("encoding_format", openai.NOT_GIVEN)
    else:
        create = client.chat.completions.create
    try:
        result = create(**known, extra_body=body)
        return (
            [part.model_dump(warnings=False) for part in result]
            if known.get("stream")
            else [result.model_dump(warnings=False)]
        )
    except openai.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.body]
    except openai.APIError as error:
        return [type(error).__name__, error.message, error.body]


def _without_usage_chunks(parts: list[Any]) -> list[Any]:
    return [part for part in parts if not (isinstance(part, dict) and part.get("choices") == [] and part.get("usage"))]


@every_recording
def test_the_official_sdk_sees_the_same_as_without_the_gateway(stage: Stage, recording: Recording) -> None:
    if recording.response.status == 401 or (
        recording.response.status >= 400 and not _is_openai_error(recording.response.content)
    ):
        pytest.skip("an error that the gateway tells in its own words")
    if "messages" not in recording.request.json and "input" not in recording.request.json:
        pytest.skip("the SDK does not make this request")
    body = _body(recording)
    through = _sdk_sees(stage.http, f"{stage.gateway.url}/v1", stage.key, recording.surface, body)
    direct = _sdk_sees(stage.http, stage.replay.base_url(recording.id), "direct", recording.surface, body)
    if recording.streaming and not _asked_usage(recording.request.json):
        direct = _without_usage_chunks(direct)
    assert through == direct


# -- what it must cost -------------------------------------------------------------------------------------------------


def _said_usage(recording: Recording) -> dict[str, int] | None:
    """The usage that a recording states, in disjoint classes; None when it states none. Written from the vendors'
    pages, apart from the gateway's own reading of them."""
    text = recording.response.content.decode()
    payloads = [json.loads(text)] if recording.response_kind == "json" else [_payload(event) for event in _events(text)]
    stated = [payload["usage"] for payload in payloads if payload and isinstance(payload.get("usage"), dict)]
    if not stated:
        return None
    last = stated[-1]
    details, out = last.get("prompt_tokens_details") or {}, last.get("completion_tokens_details") or {}
    prompt, completion = last.get("prompt_tokens", last["total_tokens"]), last.get("completion_tokens") or 0
    if last.get("prompt_audio_seconds"):  # Mistral's sounds are in the total alone
        prompt = last["total_tokens"] - completion
    reasoning = out.get("reasoning_tokens") or 0
    output = max(completion, last["total_tokens"] - prompt)
    if reasoning > output:
        output = completion + reasoning
    cached = details.get("cached_tokens") or last.get("prompt_cache_hit_tokens") or last.get("num_cached_tokens")
    cached = min(cached or last.get("cached_tokens") or 0, prompt)
    written, audio = details.get("cache_write_tokens") or 0, details.get("audio_tokens") or 0
    audio = min(audio, prompt - cached - written)
    counted = {"input": prompt - cached - written - audio, "cache_read": cached, "cache_write": written}
    counted |= {"audio_in": audio, "output": output, "reasoning": reasoning}
    return {name: count for name, count in counted.items() if count}


def _said_finish(recording: Recording) -> str:
    """The reason to finish that a recording states, empty when it states none."""
    said: list[str] = re.findall(r'(?<!native_)"?finish_reason"\s*:\s*"(\w+)"', recording.response.content.decode())
    return said[-1] if said else ""


@every_recording
def test_the_receipt_says_what_the_recording_says(stage: Stage, recording: Recording) -> None:
    receipt = stage.gateway.receipt(_call(stage, recording).request_id)
    assert receipt["alias"] == recording.id
    assert receipt["streaming"] == bool(recording.request.json.get("stream"))
    if recording.response.status >= 400:
        assert (receipt["cost_nanousd"], receipt["cause"]) == (0, "failed")
        return
    stated = _said_usage(recording)
    assert not recording.usage or recording.usage == stated
    if stated is None:
        assert receipt["cost_basis"] == "estimated"
        return
    counted = {**receipt["usage"], "cache_write": sum(receipt["usage"].get("cache_write", {}).values())}
    assert {name: counted[name] for name in (*PRICES, "reasoning") if counted.get(name)} == stated
    owed = sum(count * PRICES[name] for name, count in stated.items() if name != "reasoning")
    assert receipt["cost_nanousd"] == owed
    assert receipt["cost_basis"] == "computed"
    assert sum(line["cost_nanousd"] for line in receipt["cost_lines"]) == owed
    if "midstream_error" not in recording.features:
        assert receipt["cause"] == "completed"
        assert recording.surface == "embeddings" or receipt["finish_reason"] == _said_finish(recording)


# -- streams under other conditions ------------------------------------------------------------------------------------


@every_stream
def test_the_way_a_stream_is_cut_changes_nothing(stage: Stage, recording: Recording) -> None:
    whole = _call(stage, recording).body
    try:
        stage.replay.cuts = "random"
        assert _call(stage, recording).body == whole
        if len(recording.response.content) < 5_000:
            stage.replay.cuts = "bytes"
            assert _call(stage, recording).body == whole
    finally:
        stage.replay.cuts = "recorded"


@every_stream
def test_a_caller_who_does_not_ask_for_usage_sees_no_trace_of_it(stage: Stage, recording: Recording) -> None:
    body = _body(recording)
    body.pop("stream_options", None)
    answer = _call(stage, recording, body)
    _assert_stripped(answer.body.decode(), recording.response.content.decode())
    stated = _said_usage(recording)
    if stated is not None:
        assert stage.gateway.receipt(answer.request_id)["usage"].get("output", 0) == stated["output"]


def test_recordings_that_are_replayed_all_at_once_do_not_mix(stage: Stage) -> None:
    chosen = random.Random(7).sample(STREAMS, min(20, len(STREAMS)))
    caller = stage.caller()
    calls = [caller.open(SURFACES[one.surface], _body(one)) for one in chosen]
    bodies = [call.read_all() for call in calls]
    for call in calls:
        call.hang_up()
    for recording, body in zip(chosen, bodies, strict=True):
        if _asked_usage(recording.request.json):
            assert body == recording.response.content


# -- what is ours ------------------------------------------------------------------------------------------------------


@needs_specs
def test_the_list_of_models_is_what_openai_publishes(stage: Stage) -> None:
    caller = stage.caller()
    published("ListModelsResponse").validate(caller.get("/v1/models").json())
    published("Model").validate(caller.get(f"/v1/models/{RECORDINGS[0].id}").json())


@needs_specs
def test_our_own_errors_are_what_openai_publishes(stage: Stage) -> None:
    path, message = "/v1/chat/completions", [{"role": "user", "content": "x"}]
    caller = stage.caller()
    errors = [
        stage.gateway.caller().post(path, {}),
        caller.post(path, {"model": "no-such-model", "messages": message}),
        caller.post(path, b"{"),
        caller.post(path, {"model": RECORDINGS[0].id, "messages": message, "max_tokens": -1}),
        caller.post("/v1/embeddings", {"model": RECORDINGS[0].id}),
        caller.get("/v1/receipts/none"),
        caller.get("/v1/nothing"),
        *(_call(stage, recording) for recording in RECORDINGS if recording.response.status == 401),
    ]
    for answer in errors:
        assert answer.status >= 400
        published("ErrorResponse").validate(answer.json())
