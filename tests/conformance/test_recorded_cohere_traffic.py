"""Recorded Cohere traffic, and reranking at Voyage, replayed behind a real gateway: callers get what the vendor sent,
and are charged what it billed. Where the recordings come from: see `test_recorded_openai_traffic`."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import cohere
import httpx
import pytest

from penstock.testing.caller import Answer
from penstock.testing.gateway import Gateway, new_secret, usd_price
from penstock.testing.replay import Recording, ReplayProvider, load_recordings

REPOSITORY = Path(__file__).resolve().parents[2]
MATERIAL = Path(os.environ.get("PENSTOCK_MATERIAL") or REPOSITORY.parent / "shared")
PATHS = {"v2.chat": "/cohere/v2/chat", "v2.rerank": "/v1/rerank", "v1.rerank": "/v1/rerank"}


def _recordings() -> list[Recording]:
    own = load_recordings(REPOSITORY / "tests" / "goldens" / "traffic", PATHS)
    return [*own, *load_recordings(MATERIAL / "traffic", PATHS)]


RECORDINGS = _recordings()
every_recording = pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.id)


class Stage:
    def __init__(self, replay: ReplayProvider, gateway: Gateway, key: str) -> None:
        self.replay = replay
        self.gateway = gateway
        self.key = key

    def call(self, recording: Recording) -> Answer:
        body = {**recording.request.json, "model": recording.id}
        return self.gateway.caller(self.key).post(PATHS[recording.surface], body)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    key = new_secret()
    with ReplayProvider(RECORDINGS) as replay:
        config = {
            "providers": [
                {
                    "name": f"provider-{number}",
                    "kind": "voyage" if recording.provider == "voyage" else "cohere",
                    "base_url": replay.base_url(recording.id),
                    "credentials": [{"name": "main", "value": "env:REPLAY_KEY"}],
                }
                for number, recording in enumerate(RECORDINGS)
            ],
            "models": [
                {
                    "name": recording.id,
                    "targets": [{"provider": f"provider-{number}", "model": "recorded"}],
                    "price": usd_price(1, 10),
                }
                for number, recording in enumerate(RECORDINGS)
            ],
            "teams": [{"name": "conformance"}],
            "keys": [{"name": "replay", "team": "conformance", "secret": "env:CALLER_KEY"}],
        }
        folder = tmp_path_factory.mktemp("conformance")
        with Gateway(folder, config, {"CALLER_KEY": key, "REPLAY_KEY": "replay-canary"}) as gateway:
            yield Stage(replay, gateway, key)


def _billed(recording: Recording, unit: str) -> int:
    found = re.findall(rf'"billed_units":\{{[^}}]*"{unit}":(\d+)', recording.response.content.decode())
    return int(found[-1]) if found else 0


@every_recording
def test_the_caller_gets_what_was_sent_and_is_charged_what_was_billed(stage: Stage, recording: Recording) -> None:
    answer = stage.call(recording)
    assert (answer.status, answer.body) == (recording.response.status, recording.response.content)
    (received,) = stage.replay.calls(recording.id)
    assert received.json() == {**recording.request.json, "model": "recorded"}
    receipt = stage.gateway.receipt(answer.request_id)
    if recording.response.status >= 400:
        assert receipt["cost_nanousd"] == 0
        return
    tokens = re.findall(r'"total_tokens":(\d+)', recording.response.content.decode())
    input_ = int(tokens[-1]) if recording.provider == "voyage" else _billed(recording, "input_tokens")
    output = _billed(recording, "output_tokens")
    assert receipt["cost_nanousd"] == input_ * 1_000 + output * 10_000
    assert (receipt["cost_basis"], receipt["cause"]) == ("computed", "completed")
    assert receipt["usage"]["requests"] == max(_billed(recording, "search_units"), 1)


@every_recording
def test_the_way_a_stream_is_cut_changes_nothing(stage: Stage, recording: Recording) -> None:
    if not recording.streaming:
        pytest.skip("not a stream")
    try:
        stage.replay.cuts = "random"
        assert stage.call(recording).body == recording.response.content
    finally:
        stage.replay.cuts = "recorded"


def test_the_official_sdk_reads_what_comes_through(stage: Stage) -> None:
    """Cohere's clients add `/v2/chat` and `/v2/rerank` to their base URL."""

    with httpx.Client() as http:
        client = cohere.ClientV2(api_key=stage.key, base_url=f"{stage.gateway.url}/cohere", httpx_client=http)
        messages = [cohere.UserChatMessageV2(content="Name a river.")]
        plain = client.chat(model="own-cohere-plain", messages=messages, max_tokens=40)
        assert plain.message.content is not None
        assert plain.message.content[0].text == "The Po."
        events = list(client.chat_stream(model="own-cohere-stream", messages=messages, max_tokens=40))
        assert [event.type for event in events][-1] == "message-end"
        ranked = client.rerank(model="own-rerank", query="river", documents=["The Po", "Rome"])
        assert [(one.index, one.relevance_score) for one in ranked.results] == [(0, 0.7)]
