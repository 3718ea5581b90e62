"""Recorded embeddings of Google and Cohere, replayed behind a real gateway: their own callers get what was sent, others
get the same vectors, digit by digit, and all are charged what was billed."""

import json
import struct
from base64 import b64decode
from typing import Any

import openai
import pytest
from tests.conformance.stage import PRICES_NANOUSD, Stage, place_of, recordings_of

from penstock.testing.caller import Answer
from penstock.testing.replay import Recording

PATHS = {
    "v2.embed": "/cohere/v2/embed",
    "embedContent": "/v1beta/models/{}:embedContent",
    "batchEmbedContents": "/v1beta/models/{}:batchEmbedContents",
}
OWN = recordings_of(*PATHS)
MADE = [one for one in (*OWN, *recordings_of("predict")) if one.response.status == 200]


def _vectors(recording: Recording) -> list[list[float]]:
    told = json.loads(recording.response.content)
    if "predictions" in told:
        return [one["embeddings"]["values"] for one in told["predictions"]]
    if "embedding" in told:
        return [told["embedding"]["values"]]
    made = told["embeddings"]
    return made["float"] if isinstance(made, dict) else [one["values"] for one in made]


def _owed(recording: Recording) -> dict[str, int] | None:
    """What was billed; None where the vendor does not say."""
    told = json.loads(recording.response.content)
    if "predictions" in told:
        return {"input": int(sum(one["embeddings"]["statistics"]["token_count"] for one in told["predictions"]))}
    if recording.surface == "v2.embed":
        units = told["meta"]["billed_units"]
        return {"input": units.get("input_tokens", 0) + units.get("image_tokens", 0)}
    if "usageMetadata" not in told:
        return None
    details = told["usageMetadata"].get("promptTokenDetails", [])
    heard = sum(one["tokenCount"] for one in details if one["modality"] == "AUDIO")
    return {"input": told["usageMetadata"]["promptTokenCount"] - heard, "audio_in": heard}


def _check_charge(stage: Stage, recording: Recording, request_id: str) -> None:
    receipt, owed = stage.gateway.receipt(request_id), _owed(recording)
    assert receipt["cause"] == "completed"
    if owed is None:
        assert receipt["cost_basis"] == "estimated"
        return
    assert receipt["cost_basis"] == "computed"
    assert {name: receipt["usage"].get(name, 0) for name in owed} == owed
    assert receipt["cost_nanousd"] == sum(count * PRICES_NANOUSD[name] for name, count in owed.items())


def _replayed(stage: Stage, recording: Recording) -> Answer:
    body = recording.request.json
    body = {**body, "model": recording.id} if recording.surface == "v2.embed" else body
    return stage.caller().post(PATHS[recording.surface].format(recording.id), body)


@pytest.mark.parametrize("recording", OWN, ids=lambda recording: recording.id)
def test_its_own_callers_get_what_was_sent_and_are_charged_what_was_billed(stage: Stage, recording: Recording) -> None:
    before = len(stage.replay.calls(recording.id))
    answer = _replayed(stage, recording)
    assert (answer.status, answer.body) == (recording.response.status, recording.response.content)
    (received,) = stage.replay.calls(recording.id)[before:]
    named = {"model": place_of(recording).model} if recording.surface == "v2.embed" else {}
    assert received.json() == {**recording.request.json, **named}
    if recording.response.status == 200:
        _check_charge(stage, recording, answer.request_id)
    else:
        assert stage.gateway.receipt(answer.request_id)["cost_nanousd"] == 0


@pytest.mark.parametrize("recording", MADE, ids=lambda recording: recording.id)
def test_callers_of_every_other_dialect_get_the_same_vectors(stage: Stage, recording: Recording) -> None:
    vectors = _vectors(recording)
    texts = ["A river."] * len(vectors)
    told: dict[str, Any] = {}
    answer = stage.caller().post("/v1/embeddings", {"model": recording.id, "input": texts})
    told["openai"] = [row["embedding"] for row in answer.json()["data"]]
    _check_charge(stage, recording, answer.request_id)
    requests = {"requests": [{"content": {"parts": [{"text": text}]}} for text in texts]}
    answer = stage.caller().post(f"/v1beta/models/{recording.id}:batchEmbedContents", requests)
    if recording.surface != "batchEmbedContents" and recording.surface != "embedContent":
        told["google"] = [one["values"] for one in answer.json()["embeddings"]]
    asked = {"model": recording.id, "texts": texts, "input_type": "clustering", "embedding_types": ["float", "base64"]}
    if recording.surface != "v2.embed":
        answer = stage.caller().post("/cohere/v2/embed", asked)
        told["cohere"] = answer.json()["embeddings"]["float"]
        coded = [struct.unpack(f"<{len(vectors[0])}f", b64decode(one)) for one in answer.json()["embeddings"]["base64"]]
        assert [list(one) for one in coded] == [
            list(struct.unpack(f"<{len(vector)}f", struct.pack(f"<{len(vector)}f", *vector))) for vector in vectors
        ]
    assert all(one == vectors for one in told.values())


@pytest.mark.parametrize("recording", MADE, ids=lambda recording: recording.id)
def test_openais_client_reads_what_comes_of_it(stage: Stage, recording: Recording) -> None:
    client = openai.OpenAI(base_url=f"{stage.gateway.url}/v1", api_key=stage.key, http_client=None, max_retries=0)
    with client:
        vectors = _vectors(recording)
        answer = client.embeddings.create(model=recording.id, input=["A river."] * len(vectors))
    assert [len(row.embedding) for row in answer.data] == [len(vector) for vector in vectors]
    owed = _owed(recording)
    assert answer.usage.total_tokens == sum(owed.values()) if owed is not None else answer.usage.total_tokens > 0
