"""Two workers that share limits: the last of an amount can be spent, and nothing beyond it."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from penstock.testing.lab import Lab
from penstock.testing.wire import eventually

MakeLab = Callable[..., Lab]
SLOW_S = 3.0
KEYS: dict[str, dict[str, Any]] = {name: {"team": "growth"} for name in ("counted", "ci", "patient")}
CALLS = {"name": "calls", "match": {"key": "counted"}, "unit": "requests", "amount": 30, "per": "total"}
FIRST = {"name": "first", "match": {"key": "patient"}, "unit": "requests", "amount": 30, "per": "total"}
MONEY = {"name": "money", "match": {}, "unit": "usd", "amount": 100, "per": "month"}


@pytest.fixture(scope="module")
def lab(file_lab: MakeLab) -> Lab:
    return file_lab(KEYS, [CALLS, FIRST, MONEY], workers=2)


def _row(lab: Lab, limit: str) -> dict[str, Any]:
    (row,) = (row for row in lab.gateway.limits() if row["limit"] == limit)
    return row


def _call_until_leased(lab: Lab) -> None:
    """On a busy machine a slice may be back before one has looked."""
    eventually(lambda: lab.chat("ci").status == 200 and _row(lab, "money")["leased"] > 0, 10, "a slice is out")


def test_a_limit_is_used_up_to_the_last_call_and_not_passed(lab: Lab) -> None:
    with ThreadPoolExecutor(8) as callers:
        statuses = Counter(callers.map(lambda _: lab.chat("counted").status, range(60)))
    assert statuses == {200: 30, 429: 30}
    eventually(lambda: _row(lab, "calls")["settled"] == 30, 5, "every call is settled")
    for limit in ("calls", "money"):
        row = _row(lab, limit)
        assert row["settled"] + row["held"] + row["leased"] <= row["amount"]
    assert lab.gateway.verify().returncode == 0


def test_a_control_process_that_is_slow_to_grant_costs_a_caller_time_and_no_refusal(lab: Lab) -> None:
    """It stands still for as long as a machine may let it that has too much to do."""
    (control,) = lab.gateway.roles()["control"]
    with ThreadPoolExecutor(1) as caller:
        os.kill(control, signal.SIGSTOP)
        try:
            call = caller.submit(lab.chat, "patient")
            time.sleep(SLOW_S)
            assert not call.done()
        finally:
            os.kill(control, signal.SIGCONT)
        assert call.result().status == 200


def test_a_worker_that_is_killed_leaves_nothing_leased(lab: Lab) -> None:
    for _ in range(10):
        _call_until_leased(lab)
    lab.gateway.kill("worker")
    lab.gateway.wait_until_ready(20)
    eventually(lambda: _row(lab, "money")["leased"] == 0, 15, "the slices of the dead are gone")
    assert _row(lab, "money")["held"] == 0
    assert lab.gateway.verify().returncode == 0
