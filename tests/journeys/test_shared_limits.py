"""Limits that several workers share: exact to the last call, whoever serves it, and whoever dies."""

import http.client
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import msgspec
import pytest

from penstock.testing.caller import Answer
from penstock.testing.lab import Lab, chat
from penstock.testing.scripted import endless
from penstock.testing.wire import eventually

MakeLab = Callable[..., Lab]
COST = 60_000
"""What a call of the lab costs, in nano-USD."""
ROOM = 20
COUNTED = ("calls", "dead-worker", "dead-control", "lone-worker")
KEYS: dict[str, dict[str, Any]] = {
    name: {"team": "growth"} for name in (*COUNTED, "money", "lanes", "last-minute", "customers", "raised")
}
LIMITS: list[dict[str, Any]] = [
    {"name": "money", "match": {"key": "money"}, "unit": "usd", "amount": 0.0012, "per": "month"},
    *({"name": key, "match": {"key": key}, "unit": "requests", "amount": ROOM, "per": "day"} for key in COUNTED),
    {"name": "lanes", "match": {"key": "lanes"}, "unit": "concurrent", "amount": 5},
    {
        "name": "last-minute",
        "match": {"key": "last-minute"},
        "unit": "requests",
        "amount": ROOM,
        "per": "minute",
        "window": "sliding",
    },
    {
        "name": "customers",
        "match": {"key": "customers"},
        "each": "customer",
        "unit": "requests",
        "amount": 3,
        "per": "day",
    },
]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def two_workers(file_lab: MakeLab, request: pytest.FixtureRequest) -> Lab:
    if request.param == "sqlite":
        return file_lab(KEYS, LIMITS, workers=2)
    return file_lab(KEYS, LIMITS, workers=2, store=request.getfixturevalue("file_database"))


@pytest.fixture
def pair(two_workers: Lab) -> Lab:
    two_workers.fresh()
    return two_workers


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _at_once(lab: Lab, key: str, calls: int, **more: Any) -> list[Answer]:
    with ThreadPoolExecutor(30) as pool:
        return list(pool.map(lambda _: lab.chat(key, **more), range(calls)))


def _statuses(answers: list[Answer]) -> Counter[str]:
    return Counter("200" if answer.status == 200 else str(answer.headers["x-penstock-error"]) for answer in answers)


def _until_denied(lab: Lab, key: str, code: str) -> int:
    """How many calls are admitted one after another. Who is told that others are in the way comes again."""
    admitted = 0
    for _ in range(200):
        answer = lab.chat(key)
        if answer.status == 200:
            admitted += 1
        elif answer.headers["x-penstock-error"] == code:
            return admitted
    raise AssertionError(f"{admitted} were admitted, and none was told {code}")


@pytest.mark.parametrize(("key", "code"), [("calls", "rate_limit_exceeded"), ("last-minute", "rate_limit_exceeded")])
def test_of_many_at_once_as_many_are_admitted_as_there_is_room_for(pair: Lab, key: str, code: str) -> None:
    answers = _at_once(pair, key, 60)
    assert _statuses(answers)["200"] == ROOM
    assert _statuses(answers)[code] > 0
    assert len(pair.provider.received) == ROOM
    told = pair.gateway.verify()
    assert told.returncode == 0, told.stdout + told.stderr


def test_money_is_spent_to_the_last_call_that_fits(pair: Lab) -> None:
    _at_once(pair, "money", 60)
    _until_denied(pair, "money", "insufficient_quota")
    spent = pair.gateway.settled("money")
    assert spent == len(pair.provider.received) * COST
    told = re.search(r"may cost up to \$([\d.]+)", pair.chat("money").error["message"])
    assert told is not None
    assert 1_200_000 - round(float(told[1]) * 1e9) < spent <= 1_200_000


def test_calls_at_once_are_bounded_over_all_workers_and_places_are_free_again(pair: Lab, opened: ExitStack) -> None:
    pair.provider.on("other-upstream", endless())
    body = chat("other-model", stream=True)
    streams = [opened.enter_context(pair.caller("lanes").open("/v1/chat/completions", body)) for _ in range(5)]
    assert [stream.status for stream in streams] == [200] * 5
    for _ in range(8):
        assert pair.chat("lanes").headers["x-penstock-error"] == "limit_held"
    streams[0].hang_up()
    eventually(lambda: pair.chat("lanes").status == 200, 5, "a place is free again, whichever worker had it")


def test_each_value_has_its_own_balance_over_all_workers(pair: Lab) -> None:
    for customer in ("acme", "zeta"):
        answers = [pair.chat("customers", {"x-penstock-tags": f"customer={customer}"}) for _ in range(8)]
        assert _statuses(answers)["200"] == 3


def test_what_a_dead_worker_had_leased_can_be_spent_by_the_others(pair: Lab) -> None:
    for _ in range(6):
        assert pair.chat("dead-worker").status == 200
    eventually(lambda: pair.gateway.settled("dead-worker") == 6, 5)
    pair.gateway.kill("worker")
    eventually(pair.gateway.is_ready, 10)
    eventually(lambda: all(node["state"] == "connected" for node in pair.gateway.nodes()), 10)
    assert _until_denied(pair, "dead-worker", "rate_limit_exceeded") == ROOM - 6
    assert pair.gateway.settled("dead-worker") == ROOM


def test_a_control_process_that_dies_takes_no_lease_with_it(pair: Lab) -> None:
    for _ in range(6):
        assert pair.chat("dead-control").status == 200
    pair.gateway.kill("control")
    eventually(pair.gateway.admin_is_up, 10)
    eventually(lambda: all(node["state"] == "connected" for node in pair.gateway.nodes()), 10)
    assert _until_denied(pair, "dead-control", "rate_limit_exceeded") == ROOM - 6
    eventually(lambda: pair.gateway.settled("dead-control") == ROOM, 5)
    told = pair.gateway.verify()
    assert told.returncode == 0, told.stdout + told.stderr


def test_one_worker_may_spend_what_others_have_leased_and_do_not_use(pair: Lab, opened: ExitStack) -> None:
    """Each connection stays with its worker: what both were leased is called back for the one that is left."""
    for _ in range(8):
        assert pair.chat("lone-worker").status == 200
    one = http.client.HTTPConnection(pair.gateway.url.removeprefix("http://"))
    statuses = []
    for _ in range(ROOM):
        headers = {"authorization": f"Bearer {pair.secrets['lone-worker']}", "content-type": "application/json"}
        one.request("POST", "/v1/chat/completions", msgspec.json.encode(chat()), headers)
        with one.getresponse() as answer:
            answer.read()
        statuses.append(answer.status)
    one.close()
    assert statuses == [200] * (ROOM - 8) + [429] * 8


def test_a_lowered_limit_binds_every_worker_and_a_raised_one_gives_room(pair: Lab) -> None:
    for amount, more in ((5, 5), (3, 0), (9, 4)):
        body = {"unit": "requests", "amount": amount, "per": "day", "match": {"key": "raised"}}
        if amount == 5:
            made = pair.gateway.admin("POST", "/admin/v1/limits", {"name": "edited", **body})
        else:
            made = pair.gateway.admin("PATCH", "/admin/v1/limits/edited", {"amount": amount})
        assert made.status < 300, made.body
        eventually(lambda: len({node["version"] for node in pair.gateway.nodes()}) == 1, 5)
        assert _until_denied(pair, "raised", "rate_limit_exceeded") == more
