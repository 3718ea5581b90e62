"""A stream under a metered limit is held a quantum at a time, topped up while it runs, and cut where the limit ends."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from penstock.testing.caller import OpenCall
from penstock.testing.lab import INPUT_NANOUSD, OUTPUT_NANOUSD, Lab, chat
from penstock.testing.oracles import Watch, nothing_held
from penstock.testing.scripted import endless, streamed, usage
from penstock.testing.wire import eventually

MakeLab = Callable[..., Lab]
QUANTUM = 1_000
CAP = 50_000
DONE = b"data: [DONE]\n\n"
AMOUNT_NANOUSD = 50_000_000
CUT_AT_NANOUSD = 25_000_000
METERED = {
    "cut": CUT_AT_NANOUSD,
    **dict.fromkeys(("exact", "many", "plain", "strict-too", "reported", "crashed"), AMOUNT_NANOUSD),
}
"""A metered limit for each key, of the same name."""
KEYS: dict[str, dict[str, Any]] = {key: {"team": "growth"} for key in METERED}
LIMITS: list[dict[str, Any]] = [
    *(
        {"name": key, "match": {"key": key}, "unit": "usd", "amount": amount / 10**9, "per": "total", "mode": "metered"}
        for key, amount in METERED.items()
    ),
    {"name": "strict", "match": {"key": "strict-too"}, "unit": "tokens", "amount": 10**6, "per": "day"},
]


def _open(lab: Lab, key: str) -> OpenCall:
    return lab.caller(key).open("/v1/chat/completions", chat(stream=True, max_tokens=CAP))


def _settled(lab: Lab, limit: str, nanousd: int) -> None:
    eventually(lambda: lab.gateway.settled(limit) == nanousd, 5, f"{nanousd} nano-dollars are settled")


def _held(lab: Lab, limit: str) -> int:
    return sum(int(row["held"]) for row in lab.gateway.limits() if row["limit"] == limit)


@pytest.fixture(scope="module", params=[1, 2], ids=["alone", "with leases"])
def workers(file_lab: MakeLab, request: pytest.FixtureRequest) -> Lab:
    return file_lab(KEYS, LIMITS, workers=request.param)


@pytest.fixture
def metered(workers: Lab) -> Lab:
    workers.fresh()
    return workers


def test_a_stream_runs_through_many_quanta_and_settles_exactly(metered: Lab) -> None:
    metered.provider.on("lab-upstream", streamed([f" {'word' * 10}"] * 300, 1, usage(10, 3_000)))
    with _open(metered, "exact") as call:
        request_id = call.headers["x-request-id"]
        body = call.read_all()
    assert body.endswith(DONE)
    _settled(metered, "exact", 10 * INPUT_NANOUSD + 3_000 * OUTPUT_NANOUSD)
    receipt = metered.gateway.receipt(request_id)
    assert (receipt["cause"], receipt["cost_basis"], receipt["flags"]) == ("completed", "computed", [])
    assert nothing_held([metered.gateway]).holds
    assert metered.gateway.verify().returncode == 0


def test_a_stream_is_cut_where_the_limit_ends_and_the_limit_is_kept(metered: Lab) -> None:
    metered.provider.on("lab-upstream", endless(delay_ms=1))
    with Watch([metered.gateway]) as watch, _open(metered, "cut") as call:
        assert call.status == 200
        request_id = call.headers["x-request-id"]
        body = call.read_all()
    assert b'"code":"insufficient_quota"' in body
    assert b"limit cut" in body
    assert DONE not in body
    (received,) = metered.provider.calls("lab-upstream")
    eventually(lambda: received.gone_at, 5, "the upstream connection is closed")
    receipt = metered.gateway.receipt(request_id)
    assert (receipt["cause"], receipt["error_code"], receipt["cost_basis"]) == (
        "refused",
        "insufficient_quota",
        "estimated",
    )
    assert nothing_held([metered.gateway]).holds
    _settled(metered, "cut", receipt["cost_nanousd"])
    passed = body.count(b'"content":"word') * OUTPUT_NANOUSD
    assert CUT_AT_NANOUSD - 2 * QUANTUM * OUTPUT_NANOUSD < passed <= receipt["cost_nanousd"]
    assert receipt["cost_nanousd"] <= CUT_AT_NANOUSD + QUANTUM * OUTPUT_NANOUSD
    assert watch.verdict().holds, watch.verdict().faults
    refused = metered.chat("cut", max_tokens=2_000)
    assert refused.error["code"] == "insufficient_quota"
    assert metered.gateway.verify().returncode == 0


def test_many_streams_at_once_end_within_a_quantum_each_of_the_limit(metered: Lab) -> None:
    metered.provider.on("lab-upstream", endless(delay_ms=1))
    with ExitStack() as stack:
        calls = [stack.enter_context(_open(metered, "many")) for _ in range(4)]
        bodies = [call.read_all() if call.status == 200 else b"" for call in calls]
    assert any(bodies)
    assert not any(DONE in body for body in bodies)
    assert nothing_held([metered.gateway]).holds
    assert 0 < metered.gateway.settled("many") <= AMOUNT_NANOUSD + len(calls) * QUANTUM * OUTPUT_NANOUSD


def test_a_plain_call_is_held_at_its_worst_case(metered: Lab) -> None:
    refused = metered.chat("plain", max_tokens=CAP)
    assert refused.status == 429
    assert refused.error["code"] == "insufficient_quota"
    assert metered.chat("plain", max_tokens=1_000).status == 200
    assert [received.json()["max_tokens"] for received in metered.provider.received] == [1_000]


def test_a_strict_limit_beside_a_metered_one_holds_the_worst_case(metered: Lab) -> None:
    metered.provider.on("lab-upstream", endless(delay_ms=20))
    with _open(metered, "strict-too") as call:
        assert call.read_some()
        eventually(lambda: _held(metered, "strict") > CAP, 5, "the strict limit holds the worst case")
        assert _held(metered, "strict-too") < 2 * QUANTUM * OUTPUT_NANOUSD
    assert nothing_held([metered.gateway]).holds
    assert metered.chat("strict-too", stream=True, max_tokens=2 * 10**6).status == 429


def test_a_provider_that_reports_more_than_passed_is_charged_what_it_reports(metered: Lab) -> None:
    metered.provider.on("lab-upstream", streamed(["w "] * 3, counted=usage(10, 2_500)))
    with _open(metered, "reported") as call:
        request_id = call.headers["x-request-id"]
        assert call.read_all().endswith(DONE)
    receipt = metered.gateway.receipt(request_id)
    assert receipt["flags"] == ["hold_exceeded"]
    _settled(metered, "reported", 10 * INPUT_NANOUSD + 2_500 * OUTPUT_NANOUSD)
    assert metered.gateway.verify().returncode == 0


def test_a_crash_in_the_middle_charges_what_was_held_by_then(metered: Lab) -> None:
    metered.provider.on("lab-upstream", endless(delay_ms=2))
    with _open(metered, "crashed") as call:
        request_id = call.headers["x-request-id"]
        read = 0
        while read < QUANTUM + 100:
            read += call.read_some().count(b'"content":"word')
        metered.gateway.kill_tree()
    metered.gateway.start()
    receipt = metered.gateway.receipt(request_id)
    assert "crash" in receipt["flags"]
    assert receipt["cost_basis"] == "estimated"
    settled = metered.gateway.settled("crashed")
    assert settled == receipt["cost_nanousd"]
    assert read * OUTPUT_NANOUSD < settled < (read + 3 * QUANTUM) * OUTPUT_NANOUSD
    assert nothing_held([metered.gateway]).holds
    assert metered.gateway.verify().returncode == 0
