"""Windows that slide, days that end with their time zone, and increases that end by themselves."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from penstock.testing.lab import Lab
from penstock.testing.wire import eventually

MakeLab = Callable[..., Lab]
KEYS: dict[str, dict[str, Any]] = {name: {"team": "growth"} for name in ("slides", "berlin", "raised", "taken-back")}
LIMITS: list[dict[str, Any]] = [
    {
        "name": "slides",
        "match": {"key": "slides"},
        "unit": "requests",
        "amount": 2,
        "per": "hour",
        "window": "sliding",
    },
    {
        "name": "berlin",
        "match": {"key": "berlin"},
        "unit": "requests",
        "amount": 1,
        "per": "day",
        "timezone": "Europe/Berlin",
    },
    {"name": "raised", "match": {"key": "raised"}, "unit": "requests", "amount": 1, "per": "year"},
    {"name": "taken-back", "match": {"key": "taken-back"}, "unit": "requests", "amount": 1, "per": "year"},
]


@pytest.fixture(scope="module")
def own(file_lab: MakeLab) -> Lab:
    return file_lab(KEYS, LIMITS)


def _row(lab: Lab, limit: str) -> dict[str, Any]:
    return next(row for row in lab.gateway.limits() if row["limit"] == limit)


def test_a_sliding_window_denies_with_the_time_until_it_is_free_again_also_after_a_crash(own: Lab) -> None:
    for _ in range(2):
        assert own.chat("slides").status == 200
    denied = own.chat("slides")
    assert (denied.status, denied.error["code"]) == (429, "rate_limit_exceeded")
    assert "requests per hour, sliding" in denied.error["message"]
    assert 3_480 <= float(denied.headers["retry-after"]) <= 3_660
    eventually(lambda: _row(own, "slides")["settled"] == 2, 3)
    assert _row(own, "slides")["window"] == "sliding"
    metrics = own.gateway.admin("GET", "/metrics").body.decode()
    assert 'penstock_limit_settled_ratio{limit="slides"} 1.0' in metrics
    assert own.gateway.kill("worker")
    eventually(lambda: own.gateway.roles().get("worker") and own.gateway.is_ready(), 10)
    assert own.chat("slides").status == 429
    assert own.gateway.verify().returncode == 0


def test_a_day_ends_at_midnight_in_its_time_zone(own: Lab) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    today = datetime.now(berlin).date()
    begins = datetime(today.year, today.month, today.day, tzinfo=berlin).astimezone(UTC)
    assert own.chat("berlin").status == 200
    denied = own.chat("berlin")
    assert denied.status == 429
    ends = (begins.astimezone(berlin) + timedelta(days=1)).astimezone(UTC)
    assert f"until {ends:%Y-%m-%dT%H:%M:%SZ}" in denied.error["message"]
    eventually(lambda: _row(own, "berlin")["settled"] == 1, 3)
    assert _row(own, "berlin")["window_start"] == begins.isoformat().replace("+00:00", "Z")
    assert own.gateway.kill("worker")
    eventually(lambda: own.gateway.roles().get("worker") and own.gateway.is_ready(), 10)
    assert own.chat("berlin").status == 429


def test_a_declared_limit_is_raised_until_a_moment_and_then_binds_again(own: Lab) -> None:
    assert own.chat("raised").status == 200
    assert own.chat("raised").status == 429
    until = (datetime.now(UTC) + timedelta(seconds=4)).isoformat()
    asked = ("limit", "raise", "raised", "--by", "5", "--until", until, "--reason", "launch day", "--json")
    raised = own.gateway.run(*asked)
    assert raised.returncode == 0, raised.stderr
    eventually(lambda: own.chat("raised").status == 200, 2, "the raise counts")
    assert _row(own, "raised")["amount"] == 6
    (shown,) = own.gateway.admin("GET", "/admin/v1/limits/raised").json()["raises"]
    assert (shown["amount"], shown["reason"]) == (5, "launch day")
    eventually(lambda: _row(own, "raised")["amount"] == 1, 8, "the raise is over")
    eventually(lambda: own.chat("raised").status == 429, 2, "the limit binds again")
    (latest, *_) = own.gateway.admin("GET", "/admin/v1/audit?kind=limit&name=raised").json()["items"]
    assert (latest["action"], latest["after"]["raises"][0]["reason"]) == ("raise", "launch day")


def test_a_raise_can_be_taken_back(own: Lab) -> None:
    assert own.chat("taken-back").status == 200
    asked = {"by": 5, "until": (datetime.now(UTC) + timedelta(hours=1)).isoformat(), "reason": "a typing error"}
    assert own.gateway.admin("POST", "/admin/v1/limits/taken-back/raise", asked).status == 200
    eventually(lambda: own.chat("taken-back").status == 200, 2)
    assert own.gateway.run("limit", "end-raises", "taken-back").returncode == 0
    eventually(lambda: own.chat("taken-back").status == 429, 2)
