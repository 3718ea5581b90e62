"""Recorded Gemini traffic, replayed behind a real gateway in its own dialect: the caller gets what Google sent, and it
costs what it said."""

import json
import re
from typing import Any
from urllib.parse import quote

import pytest
from google import genai
from google.genai import errors, types
from tests.conformance.stage import CREDENTIAL, PRICES_NANOUSD, Stage, place_of, recordings_of

from penstock.testing.caller import Answer
from penstock.testing.replay import Recording

SURFACES = ("generateContent", "streamGenerateContent", "countTokens")

AT_ONCE = "own-gemini-list-refused-at-once"
RECORDINGS = [one for one in recordings_of(*SURFACES) if one.id != AT_ONCE]
STREAMS = [one for one in RECORDINGS if one.streaming and one.response.status == 200]
every_recording = pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.id)
every_stream = pytest.mark.parametrize("recording", STREAMS, ids=lambda recording: recording.id)


def _call(stage: Stage, recording: Recording) -> Answer:
    form = "?alt=sse" if recording.response_kind == "sse" else ""
    path = f"/v1beta/models/{quote(recording.id)}:{recording.surface}{form}"
    return stage.caller().post(path, recording.request.json)


def _is_bad_key(recording: Recording) -> bool:
    return b"API_KEY_INVALID" in recording.response.content


@every_recording
def test_the_caller_gets_what_google_sent(stage: Stage, recording: Recording) -> None:
    answer = _call(stage, recording)
    if _is_bad_key(recording):
        assert answer.status == 502
        assert answer.json()["error"]["details"][0]["reason"] == "UPSTREAM_CREDENTIAL"
        assert answer.headers["x-penstock-error"] == "upstream_credential"
        return
    assert answer.status == recording.response.status
    assert answer.body == recording.response.content


def _plain(value: Any) -> Any:
    """Without members that say nothing, and with names in camelCase at the places that the gateway rebuilds."""
    named = {re.sub(r"_([a-z])", lambda m: m[1].upper(), name): inner for name, inner in value.items()}
    return {name: inner for name, inner in named.items() if inner is not None and name != "model"}


@every_recording
def test_google_gets_what_the_caller_sent(stage: Stage, recording: Recording) -> None:
    before = len(stage.replay.calls(recording.id))
    _call(stage, recording)
    (received,) = stage.replay.calls(recording.id)[before:]
    sent, got = _plain(recording.request.json), received.json()
    if "generationConfig" in sent:
        sent["generationConfig"] = _plain(sent["generationConfig"])
    if recording.surface == "countTokens":
        got.get("generateContentRequest", {}).pop("model")
        sent.get("generateContentRequest", {}).pop("model", None)
        assert received.path.endswith(f"/models/{place_of(recording).model}:countTokens")
    assert got == sent
    assert received.header("x-goog-api-key") == CREDENTIAL
    assert stage.key not in str(received.headers)


def _said_usage(recording: Recording) -> dict[str, int] | None:
    """The usage that a recording states, in disjoint classes. Written from the reference, apart from the gateway's own
    reading of it."""
    text = recording.response.content.decode()
    if recording.response_kind == "sse":
        payloads = [json.loads(line.removeprefix("data:")) for line in text.splitlines() if line.startswith("data:")]
    else:
        payloads = json.loads(text) if text.startswith("[") else [json.loads(text)]
    stated = [one["usageMetadata"] for one in payloads if "promptTokenCount" in one.get("usageMetadata", {})]
    if not stated:
        return None
    last = stated[-1]
    cached, thoughts = last.get("cachedContentTokenCount", 0), last.get("thoughtsTokenCount", 0)
    counted = {
        "input": last["promptTokenCount"] - cached + last.get("toolUsePromptTokenCount", 0),
        "cache_read": cached,
        "output": last.get("candidatesTokenCount", 0) + thoughts,
        "reasoning": thoughts,
    }
    assert sum(counted.values()) - thoughts == last["totalTokenCount"]
    return {name: count for name, count in counted.items() if count}


@every_recording
def test_the_receipt_says_what_the_recording_says(stage: Stage, recording: Recording) -> None:
    receipt = stage.gateway.receipt(_call(stage, recording).request_id)
    assert (receipt["alias"], receipt["streaming"]) == (recording.id, recording.streaming)
    if recording.response.status >= 400 or recording.surface == "countTokens":
        assert receipt["cost_nanousd"] == 0
        return
    stated = _said_usage(recording)
    assert stated is not None
    assert {
        name: receipt["usage"][name] for name in (*PRICES_NANOUSD, "reasoning") if receipt["usage"].get(name)
    } == stated
    owed = sum(count * PRICES_NANOUSD[name] for name, count in stated.items() if name != "reasoning")
    assert (receipt["cost_nanousd"], receipt["cost_basis"], receipt["cause"]) == (owed, "computed", "completed")
    assert receipt["finish_reason"] in ("STOP", "MAX_TOKENS")


@every_stream
def test_the_way_a_stream_is_cut_changes_nothing(stage: Stage, recording: Recording) -> None:
    try:
        stage.replay.cuts = "random"
        assert _call(stage, recording).body == recording.response.content
    finally:
        stage.replay.cuts = "recorded"


# -- what the SDK must see ---------------------------------------------------------------------------------------------


def _sdk_sees(stage: Stage, where: tuple[str, str], recording: Recording, model: str) -> list[Any]:
    """What the official SDK makes of a call: its objects as plain values, or the error that it raises. The SDK streams
    as server-sent events alone."""
    base_url, key = where
    body = {name: value for name, value in recording.request.json.items() if name != "contents"}
    options = types.HttpOptions(base_url=base_url, extra_body=body)
    config = types.GenerateContentConfig(http_options=options)
    contents: Any = "Hello."
    server = types.HttpOptions(base_url=base_url, httpx_client=stage.http, httpx_async_client=stage.async_http)
    client = genai.Client(api_key=key, http_options=server)
    try:
        if recording.streaming:
            parts = list(client.models.generate_content_stream(model=model, contents=contents, config=config))
        else:
            parts = [client.models.generate_content(model=model, contents=contents, config=config)]
    except errors.APIError as error:
        return [type(error).__name__, error.code, error.status, error.message]
    return [part.model_dump(exclude={"sdk_http_response"}) for part in parts]


@every_recording
def test_the_official_sdk_sees_the_same_as_without_the_gateway(stage: Stage, recording: Recording) -> None:
    is_numbered = re.search(rb'"finishReason":\s*\d', recording.response.content) is not None
    if recording.surface == "countTokens" or recording.response_kind == "json_array" or is_numbered:
        pytest.skip("not what this SDK asks for")
    if _is_bad_key(recording):
        pytest.skip("told in the gateway's own words")
    through = _sdk_sees(stage, (stage.gateway.url, stage.key), recording, recording.id)
    direct = _sdk_sees(stage, (stage.replay.base_url(recording.id), "direct"), recording, place_of(recording).model)
    assert through == direct
    assert through


def test_an_error_that_comes_first_in_a_list_is_told_in_its_own_words(stage: Stage) -> None:
    path = f"/v1beta/models/{AT_ONCE}:streamGenerateContent"
    answer = stage.caller().post(path, {"contents": [{"role": "user", "parts": [{"text": "Name a river."}]}]})
    assert answer.status == 503
    assert answer.json()[0]["error"]["message"] == "The model is overloaded."
    assert stage.gateway.receipt(answer.request_id)["cost_nanousd"] == 0
