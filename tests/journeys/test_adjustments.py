"""A person corrects a balance: by an entry with an actor and a reason, which the running worker obeys at once."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from penstock.testing.lab import Lab
from penstock.testing.wire import eventually

TENS = ("ten", "restarted", "away", "untouched")
BOUNDED: list[dict[str, Any]] = [
    *({"name": key, "match": {"key": key}, "unit": "requests", "amount": 10, "per": "total"} for key in TENS),
    {"name": "each", "match": {"key": "tagged"}, "each": "customer", "unit": "requests", "amount": 2, "per": "day"},
    {"name": "money", "match": {"key": "ten"}, "unit": "usd", "amount": 5, "per": "month"},
    {"name": "burst", "match": {"key": "ten"}, "unit": "requests", "amount": 1000, "per": "minute"},
    {"name": "slides", "match": {"key": "ten"}, "unit": "requests", "amount": 1000, "per": "day", "window": "sliding"},
    {
        "name": "zoned",
        "match": {"key": "zoned"},
        "unit": "requests",
        "amount": 2,
        "per": "year",
        "timezone": "America/New_York",
    },
    {"name": "at-once", "match": {"key": "ten"}, "unit": "concurrent", "amount": 100},
]
KEYS: dict[str, dict[str, Any]] = {key: {"team": "growth"} for key in (*TENS, "tagged", "zoned")}
PATH = "/admin/v1/ledger/adjustments"


@pytest.fixture(scope="module")
def lab(file_lab: Callable[..., Lab]) -> Lab:
    return file_lab(KEYS, BOUNDED)


def adjust(lab: Lab, limit: str, amount: Any, **more: Any) -> Any:
    body = {"limit": limit, "amount": amount, "reason": "a test", **more}
    return lab.gateway.admin("POST", PATH, body)


def settles(lab: Lab, limit: str, amount: int) -> None:
    eventually(lambda: lab.gateway.settled(limit) == amount, 5, f"{limit} has {amount} settled")


def test_an_adjustment_moves_the_balance_and_the_running_worker_obeys_it_at_once(
    lab: Lab,
) -> None:
    assert lab.chat("ten").status == 200
    made = adjust(lab, "ten", 9)
    assert made.status == 201, made.body
    assert (made.json()["settled_before"], made.json()["settled"], made.json()["actor"]) == (1, 10, "admin")
    assert lab.chat("ten").status == 429
    assert adjust(lab, "ten", -1).status == 201
    assert lab.chat("ten").status == 200
    assert lab.chat("ten").status == 429
    settles(lab, "ten", 10)
    assert lab.gateway.verify().returncode == 0


def test_an_adjustment_counts_once_however_worker_and_control_process_come_and_go(lab: Lab) -> None:
    gateway = lab.gateway
    assert lab.chat("restarted").status == 200
    assert adjust(lab, "restarted", 4).status == 201
    gateway.kill("control")
    eventually(gateway.admin_is_up, 15, "the control process is back")
    assert adjust(lab, "restarted", 1).status == 201
    assert lab.chat("restarted").status == 200
    gateway.kill("worker")
    eventually(gateway.is_ready, 15, "the worker is back")
    settles(lab, "restarted", 7)
    assert adjust(lab, "restarted", -2).status == 201
    assert [lab.chat("restarted").status for _ in range(6)] == [200] * 5 + [429]
    settles(lab, "restarted", 10)
    assert gateway.verify().returncode == 0


def test_a_worker_that_was_away_while_a_balance_was_adjusted_learns_of_it(lab: Lab) -> None:
    gateway = lab.gateway
    for amount in (3, 3, 3):
        assert adjust(lab, "away", amount).status == 201
    gateway.kill("control")
    eventually(gateway.admin_is_up, 15, "the control process is back")
    # Very likely before the worker has found the new process: what it misses, the pulse makes it ask for.
    assert adjust(lab, "away", 1).status == 201
    eventually(lambda: lab.chat("away").status == 429, 5, "the worker obeys")
    settles(lab, "away", 10)


def test_a_value_of_a_limit_has_its_own_balance_to_adjust(lab: Lab) -> None:
    assert adjust(lab, "each", 2, value="acme").status == 201
    assert lab.chat("tagged", {"x-penstock-tags": "customer=acme"}).status == 429
    assert lab.chat("tagged", {"x-penstock-tags": "customer=other"}).status == 200
    assert adjust(lab, "each", -1, value="acme").status == 201
    assert lab.chat("tagged", {"x-penstock-tags": "customer=acme"}).status == 200
    assert lab.gateway.verify().returncode == 0


def test_the_window_that_is_adjusted_is_that_of_the_limits_time_zone(lab: Lab) -> None:
    assert lab.chat("zoned").status == 200
    present = adjust(lab, "zoned", 1)
    assert present.status == 201, present.body
    assert present.json()["settled_before"] == 1
    assert present.json()["window_start"].endswith("-01-01T05:00:00Z")
    assert lab.chat("zoned").status == 429
    # Midnight in UTC is still the year before in New York.
    past = adjust(lab, "zoned", 7, window_start="2025-01-01")
    assert past.json()["window_start"] == "2024-01-01T05:00:00Z"
    settles(lab, "zoned", 2)
    lab.gateway.kill("worker")
    eventually(lab.gateway.is_ready, 15, "the worker is back")
    assert lab.chat("zoned").status == 429
    assert adjust(lab, "zoned", -1).status == 201
    assert lab.chat("zoned").status == 200
    assert lab.gateway.verify().returncode == 0


def test_what_a_balance_cannot_bear_is_refused_with_its_place(lab: Lab) -> None:
    before = lab.gateway.admin("GET", PATH).json()["items"]
    refused: list[tuple[dict[str, Any], str]] = [
        ({"limit": "untouched", "amount": -1}, "amount"),
        ({"limit": "untouched", "amount": 0}, "amount"),
        ({"limit": "untouched", "amount": 1.5}, "amount"),
        ({"limit": "untouched", "amount": "much"}, "amount"),
        ({"limit": "untouched", "amount": 2**63}, "amount"),
        ({"limit": "money", "amount": "0.0000000001"}, "amount"),
        ({"limit": "untouched", "amount": 1, "reason": " "}, "reason"),
        ({"limit": "untouched", "amount": 1, "value": "acme"}, "value"),
        ({"limit": "each", "amount": 1}, "value"),
        ({"limit": "burst", "amount": 1}, "limit"),
        ({"limit": "slides", "amount": 1}, "limit"),
        ({"limit": "at-once", "amount": 1}, "limit"),
        ({"limit": "money", "amount": 1, "window_start": "2199-01-01"}, "window_start"),
        ({"limit": "money", "amount": 1, "window_start": "yesterday"}, "window_start"),
        ({"limit": "untouched", "amount": 1, "by": "me"}, "by"),
        ({"limit": "untouched", "amount": True}, "amount"),
    ]
    for body, place in refused:
        answer = lab.gateway.admin("POST", PATH, {"reason": "a test", **body})
        assert answer.status == 422, (body, answer.body)
        assert answer.json()["errors"][0]["place"].startswith(place), (body, answer.body)
    assert adjust(lab, "nothing", 1).status == 404
    assert lab.gateway.admin("GET", PATH).json()["items"] == before


def test_the_command_adjusts_and_everyone_can_read_who_did_it_and_why(lab: Lab) -> None:
    words = ("--limit", "money", "--window-start", "2026-01-15", "--reason", "invoice of January")
    made = lab.gateway.run("ledger", "adjust", *words, "--amount", "1.25")
    assert made.returncode == 0, made.stderr
    assert re.fullmatch(r"adj\d{12}: money has \$1\.25 settled, \$0 before\n", made.stdout)
    back = lab.gateway.run("ledger", "adjust", *words, "--amount=-2")
    assert (back.returncode, back.stderr) == (2, "penstock: amount: only 1.25 USD is settled on this balance\n")
    (listed,) = [it for it in lab.gateway.admin("GET", PATH).json()["items"] if it["limit"] == "money"]
    assert made.stdout.startswith(f"{listed['id']}: ")
    assert (listed["actor"], listed["reason"], listed["amount"]) == ("admin", "invoice of January", 1_250_000_000)
    assert listed["window_start"] == "2026-01-01T00:00:00Z"
    audited = lab.gateway.admin("GET", "/admin/v1/audit?kind=adjustment").json()["items"][0]
    assert (audited["action"], audited["name"], audited["after"]["settled"]) == ("adjust", listed["id"], 1_250_000_000)
    assert "invoice of January" in lab.gateway.run("ledger", "adjustments").stdout
