"""Recorded traffic, replayed behind a real gateway: the caller gets what the provider sent, and it costs what it said.

The project's own recordings are in `goldens/traffic`. Those of real providers are optional material: `traffic/` in the
folder that `PENSTOCK_MATERIAL` names, or in `../shared` beside the repository.
"""

import json
import os
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest

from penstock.domain.vendors import COMPATIBLE
from penstock.testing.caller import Answer, Caller
from penstock.testing.gateway import Gateway, new_secret, usd_price
from penstock.testing.replay import Recording, ReplayProvider, load_recordings, recorded_headers

REPOSITORY = Path(__file__).resolve().parents[2]
MATERIAL = Path(os.environ.get("PENSTOCK_MATERIAL") or REPOSITORY.parent / "shared")
SURFACES = {"chat.completions": "/v1/chat/completions", "embeddings": "/v1/embeddings"}
PRICES_NANOUSD = {"input": 1_000, "cache_read": 500, "cache_write": 1_250, "audio_in": 4_000, "output": 10_000}
PRICE = usd_price(1, 10, cache_read=0.5, cache_write=1.25, audio_in=4)
CREDENTIAL = "sk-replay-canary-41d8"


def _recordings() -> list[Recording]:
    own = load_recordings(REPOSITORY / "tests" / "goldens" / "traffic", SURFACES)
    return [*own, *load_recordings(MATERIAL / "traffic", SURFACES)]


RECORDINGS = _recordings()
STREAMS = [one for one in RECORDINGS if one.response_kind == "sse"]
needs_traffic = pytest.mark.skipif(not (MATERIAL / "traffic").is_dir(), reason="the recorded traffic is not here")
needs_specs = pytest.mark.skipif(not (MATERIAL / "specs").is_dir(), reason="the published OpenAPI document is not here")
every_recording = pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.id)
every_stream = pytest.mark.parametrize("recording", STREAMS, ids=lambda recording: recording.id)


def _model(recording: Recording) -> str:
    """The model that the recorded request named, if it did: Azure names it in the address."""
    return str(recording.request.json.get("model") or "unnamed")


def _kind(recording: Recording) -> str:
    """The vendor's own entry in the catalogue, where it has one."""
    name = {"vercel_gateway": "vercel"}.get(recording.provider, recording.provider)
    return name if name in COMPATIBLE and recording.surface in COMPATIBLE[name].paths else "compatible"


class Stage:
    """The replaying provider and the gateway in front of it: one provider and one alias for each recording."""

    def __init__(self, replay: ReplayProvider, gateway: Gateway, key: str) -> None:
        self.replay = replay
        self.gateway = gateway
        self.key = key

    def body(self, recording: Recording) -> dict[str, Any]:
        return {**recording.request.json, "model": recording.id}

    def call(self, recording: Recording, body: dict[str, Any] | None = None) -> Answer:
        caller = self.gateway.caller(self.key)
        return caller.post(SURFACES[recording.surface], body or self.body(recording))

    def direct(self, recording: Recording) -> Answer:
        path = f"/replay/{recording.id}{SURFACES[recording.surface].removeprefix('/v1')}"
        return Caller(self.replay.origin).post(path, self.body(recording))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    key = new_secret()
    with ReplayProvider(RECORDINGS) as replay:
        config = {
            "providers": [
                {
                    "name": f"provider-{number}",
                    "kind": _kind(recording),
                    "base_url": replay.base_url(recording.id),
                    "credentials": [{"name": "main", "value": "env:REPLAY_KEY"}],
                }
                for number, recording in enumerate(RECORDINGS)
            ],
            "models": [
                {
                    "name": recording.id,
                    "targets": [{"provider": f"provider-{number}", "model": _model(recording)}],
                    "price": PRICE,
                }
                for number, recording in enumerate(RECORDINGS)
            ],
            "teams": [{"name": "conformance"}],
            "keys": [{"name": "replay", "team": "conformance", "secret": "env:CALLER_KEY"}],
        }
        folder = tmp_path_factory.mktemp("conformance")
        with Gateway(folder, config, {"CALLER_KEY": key, "REPLAY_KEY": CREDENTIAL}) as gateway:
            yield Stage(replay, gateway, key)


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
    answer = stage.call(recording)
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
    answer = stage.call(recording)
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
    stage.call(recording)
    (received,) = stage.replay.calls(recording.id)[before:]
    sent, got = stage.body(recording), received.json()
    expected = sent | {"model": _model(recording)}
    asks = _kind(recording) == "compatible" or COMPATIBLE[_kind(recording)].usage == "asked"
    if sent.get("stream") and (asks or _asked_usage(sent)):
        expected["stream_options"] = {**(sent.get("stream_options") or {}), "include_usage": True}
    assert got == expected
    assert received.header("authorization") == f"Bearer {CREDENTIAL}"
    assert stage.key not in str(received.headers)


# -- what the SDK must see ---------------------------------------------------------------------------------------------


def _sdk_sees(base_url: str, key: str, surface: str, body: dict[str, Any]) -> list[Any]:
    """What the official SDK makes of a call: its objects as plain values, or the error that it raises."""
    body = dict(body)
    known = {name: body.pop(name) for name in ("model", "messages", "input", "stream") if name in body}
    with openai.OpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
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
    body = stage.body(recording)
    through = _sdk_sees(f"{stage.gateway.url}/v1", stage.key, recording.surface, body)
    direct = _sdk_sees(stage.replay.base_url(recording.id), "direct", recording.surface, body)
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
    receipt = stage.gateway.receipt(stage.call(recording).request_id)
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
    assert {name: counted[name] for name in (*PRICES_NANOUSD, "reasoning") if counted.get(name)} == stated
    owed = sum(count * PRICES_NANOUSD[name] for name, count in stated.items() if name != "reasoning")
    assert receipt["cost_nanousd"] == owed
    assert receipt["cost_basis"] == "computed"
    assert sum(line["cost_nanousd"] for line in receipt["cost_lines"]) == owed
    if "midstream_error" not in recording.features:
        assert receipt["cause"] == "completed"
        assert recording.surface == "embeddings" or receipt["finish_reason"] == _said_finish(recording)


# -- streams under other conditions ------------------------------------------------------------------------------------


@every_stream
def test_the_way_a_stream_is_cut_changes_nothing(stage: Stage, recording: Recording) -> None:
    whole = stage.call(recording).body
    try:
        stage.replay.cuts = "random"
        assert stage.call(recording).body == whole
        if len(recording.response.content) < 5_000:
            stage.replay.cuts = "bytes"
            assert stage.call(recording).body == whole
    finally:
        stage.replay.cuts = "recorded"


@every_stream
def test_a_caller_who_does_not_ask_for_usage_sees_no_trace_of_it(stage: Stage, recording: Recording) -> None:
    body = stage.body(recording)
    body.pop("stream_options", None)
    answer = stage.call(recording, body)
    _assert_stripped(answer.body.decode(), recording.response.content.decode())
    stated = _said_usage(recording)
    if stated is not None:
        assert stage.gateway.receipt(answer.request_id)["usage"].get("output", 0) == stated["output"]


def test_recordings_that_are_replayed_all_at_once_do_not_mix(stage: Stage) -> None:
    chosen = random.Random(7).sample(STREAMS, min(20, len(STREAMS)))
    caller = stage.gateway.caller(stage.key)
    calls = [caller.open(SURFACES[one.surface], stage.body(one)) for one in chosen]
    bodies = [call.read_all() for call in calls]
    for call in calls:
        call.hang_up()
    for recording, body in zip(chosen, bodies, strict=True):
        if _asked_usage(recording.request.json):
            assert body == recording.response.content


# -- what is ours ------------------------------------------------------------------------------------------------------


def _validate(value: Any, schema: str) -> None:
    document = json.loads((MATERIAL / "specs" / "openai.openapi.json").read_bytes())
    root = {"$ref": f"#/components/schemas/{schema}", "components": document["components"]}
    jsonschema.Draft202012Validator(root).validate(value)


@needs_specs
def test_the_list_of_models_is_what_openai_publishes(stage: Stage) -> None:
    caller = stage.gateway.caller(stage.key)
    _validate(caller.get("/v1/models").json(), "ListModelsResponse")
    _validate(caller.get(f"/v1/models/{RECORDINGS[0].id}").json(), "Model")


@needs_specs
def test_our_own_errors_are_what_openai_publishes(stage: Stage) -> None:
    path, message = "/v1/chat/completions", [{"role": "user", "content": "x"}]
    caller = stage.gateway.caller(stage.key)
    errors = [
        stage.gateway.caller().post(path, {}),
        caller.post(path, {"model": "no-such-model", "messages": message}),
        caller.post(path, b"{"),
        caller.post(path, {"model": RECORDINGS[0].id, "messages": message, "max_tokens": -1}),
        caller.post("/v1/embeddings", {"model": RECORDINGS[0].id}),
        caller.get("/v1/receipts/none"),
        caller.get("/v1/nothing"),
        *(stage.call(recording) for recording in RECORDINGS if recording.response.status == 401),
    ]
    for answer in errors:
        assert answer.status >= 400
        _validate(answer.json(), "ErrorResponse")


@needs_traffic
def test_every_recording_of_the_dialect_is_replayed() -> None:
    lines = [
        json.loads(line) for path in (MATERIAL / "traffic").glob("*.jsonl") for line in path.read_text().splitlines()
    ]
    wanted = {line["id"] for line in lines if line["surface"] in SURFACES}
    assert wanted
    assert wanted <= {recording.id for recording in RECORDINGS}
