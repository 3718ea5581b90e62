"""Of the recorded traffic, everything that the gateway serves is replayed, whoever the vendor is."""

import json

import pytest
from tests.conformance.stage import MATERIAL, NOT_SERVED, SERVED, place_of, recordings_of

REPLAYED = recordings_of(*(surface for surfaces in SERVED.values() for surface in surfaces))
needs_traffic = pytest.mark.skipif(not (MATERIAL / "traffic").is_dir(), reason="the recorded traffic is not here")


@needs_traffic
def test_every_recording_of_what_is_served_is_replayed_for_every_vendor() -> None:
    lines = [
        json.loads(line) for path in (MATERIAL / "traffic").glob("*.jsonl") for line in path.read_text().splitlines()
    ]
    replayed = {recording.id for recording in REPLAYED}
    assert {line["id"] for line in lines} - replayed == {line["id"] for line in lines if line["surface"] in NOT_SERVED}
    served = {line["provider"] for line in lines if line["id"] in replayed}
    assert {line["provider"] for line in lines} - served == {"ollama"}, "recorded at its own API alone"
    assert len(served) >= 19


@needs_traffic
def test_vendors_with_a_kind_of_their_own_are_replayed_by_it() -> None:
    kinds = {place_of(recording).kind for recording in REPLAYED if not recording.id.startswith("own-")}
    assert kinds >= {"anthropic", "azure", "bedrock", "cohere", "deepseek", "google", "groq", "mistral", "openai"}
    assert kinds >= {
        "cerebras",
        "huggingface",
        "openrouter",
        "perplexity",
        "together",
        "vercel",
        "voyage",
        "xai",
        "zai",
    }
