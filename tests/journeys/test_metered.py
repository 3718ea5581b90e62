"""Metered limits: a stream holds a quantum at a time, and is cut where the limit is reached."""

from collections.abc import Callable
from typing import Any

import pytest

from penstock.testing.lab import Lab, chat
from penstock.testing.scripted import streamed, usage
from penstock.testing.wire import eventually

MakeLab = Callable[..., Lab]
KEYS: dict[str, dict[str, Any]] = {"roomy": {"team": "growth"}, "narrow": {"team": "growth"}}


def _limit(name: str, amount: int, mode: str = "metered") -> dict[str, Any]:
    return {"name": name, "match": {"key": name}, "unit": "output_tokens", "amount": amount, "per": "day", "mode": mode}


LIMITS = [_limit("roomy", 20_000), _limit("narrow", 2_500)]
WORDS = [f" {'word' * 10}" for _ in range(500)]
"""Some five thousand tokens."""


@pytest.fixture(params=[1, 2], ids=["alone", "leased"])
def metered(own_lab: MakeLab, request: pytest.FixtureRequest) -> Lab:
    return own_lab(KEYS, LIMITS, workers=request.param)


def test_a_long_stream_is_topped_up_to_its_end_and_settled_for_what_it_used(metered: Lab) -> None:
    metered.provider.on("lab-upstream", streamed(WORDS, counted=usage(10, 5_000)))
    answer = metered.caller("roomy").post("/v1/chat/completions", chat(stream=True, max_tokens=15_000))
    assert answer.status == 200
    assert answer.body.endswith(b"data: [DONE]\n\n")
    eventually(lambda: metered.gateway.settled("roomy") == 5_000, 5)
    assert metered.gateway.held() == 0
    told = metered.gateway.verify()
    assert told.returncode == 0, told.stdout + told.stderr


def test_a_stream_is_cut_where_the_limit_is_reached_and_passes_it_by_a_quantum_at_most(metered: Lab) -> None:
    metered.provider.on("lab-upstream", streamed(WORDS, delay_ms=1, counted=usage(10, 5_000)))
    answer = metered.caller("narrow").post("/v1/chat/completions", chat(stream=True, max_tokens=15_000))
    assert answer.status == 200
    assert b"[DONE]" not in answer.body
    assert b'"rate_limit_exceeded"' in answer.body
    eventually(lambda: metered.gateway.settled("narrow") > 0, 5)
    assert 1_500 <= metered.gateway.settled("narrow") <= 3_500
    assert metered.gateway.held() == 0
    event = metered.gateway.receipt(answer.request_id)
    assert (event["cause"], event["error_code"]) == ("refused", "rate_limit_exceeded")


def test_a_plain_call_holds_its_worst_case(metered: Lab) -> None:
    answer = metered.chat("narrow", max_tokens=2_501)
    assert answer.status == 429
    assert "over the whole limit" in answer.error["message"]
    assert metered.chat("narrow", max_tokens=2_000).status == 200
