"""Crashes lose no money: the ledger equals the bank's statement after kill -9, again and again, under load.

`PENSTOCK_KILL_CYCLES` sets how many cycles are run; the default keeps an ordinary run short.
"""

import contextlib
import http.client
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from penstock.testing.bank import Bank, Line
from penstock.testing.gateway import Gateway, new_secret, usd_price
from penstock.testing.wire import eventually

CYCLES = int(os.environ.get("PENSTOCK_KILL_CYCLES", "6"))
CALLERS = 8
OUTPUT_NANOUSD = 10_000
ROLES = ("worker", "control", "tree")


class Told(Struct):
    """What one caller saw. `complete`: the answer came to its end; `output`: the tokens that it said it used."""

    call: str
    max_tokens: int
    status: int = 0
    request_id: str = ""
    complete: bool = False
    output: int = -1


class Load:
    """Callers who keep calling, plain and streamed, whatever happens, each call under a name of its own."""

    def __init__(self, gateway: Gateway, key: str, seed: int) -> None:
        self.told: list[Told] = []
        self._gateway = gateway
        self._key = key
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n, seed), daemon=True) for n in range(CALLERS)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, number: int, seed: int) -> None:
        chance = random.Random(seed * 1_000 + number)
        count = 0
        while not self._stopping.is_set():
            count += 1
            told = Told(call=f"call-{number}-{count}", max_tokens=chance.randint(1, 30))
            self.told.append(told)
            try:
                self._call(told, chance.random() < 0.5)
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)

    def _call(self, told: Told, stream: bool) -> None:
        body = {
            "model": "m",
            "user": told.call,
            "max_tokens": told.max_tokens,
            "messages": [{"role": "user", "content": "x"}],
            "stream": stream,
            "stream_options": {"include_usage": True} if stream else None,
        }
        if not stream:
            del body["stream_options"]
        headers = {"x-penstock-tags": f"call={told.call}"}
        with self._gateway.caller(self._key).open("/v1/chat/completions", body, headers, timeout_s=15) as call:
            told.status = call.status
            told.request_id = call.headers.get("x-request-id", "")
            content = call.read_all()
        if told.status == 200:
            told.complete = not stream or content.endswith(b"data: [DONE]\n\n")
        if told.complete:
            last = content.split(b"data: ")[-2] if stream else content
            told.output = msgspec.json.decode(last)["usage"]["completion_tokens"]


@pytest.fixture
def bank() -> Iterator[Bank]:
    with Bank(delay_ms=3) as bank:
        yield bank


def _config(bank: Bank) -> dict[str, Any]:
    every = {"match": {"team": "growth"}, "unit": "usd", "per": "total"}
    return {
        "providers": [{"name": "bank", "kind": "compatible", "base_url": bank.base_url}],
        "models": [{"name": "m", "targets": [{"provider": "bank", "model": "m"}], "price": usd_price(0, 10)}],
        "teams": [{"name": "growth"}],
        "keys": [{"name": "ci", "team": "growth", "secret": "env:KEY"}],
        "limits": [
            {"name": "budget", "amount": 1000, **every},
            {"name": "at-once", "match": {"key": "ci"}, "unit": "concurrent", "amount": 100},
            {"name": "tokens", "match": {"key": "ci"}, "unit": "tokens", "amount": 1_000_000_000, "per": "day"},
            {"name": "requests", "match": {"key": "ci"}, "unit": "requests", "amount": 1_000_000, "per": "month"},
        ],
    }


def _crash(gateway: Gateway, role: str) -> None:
    if role == "tree":
        gateway.kill_tree()
        gateway.start()
    else:
        assert gateway.kill(role), role
    eventually(gateway.is_ready, 15, f"ready after the death of {role}")
    eventually(gateway.admin_is_up, 15, f"administered after the death of {role}")


def _events(gateway: Gateway) -> dict[str, dict[str, Any]]:
    """Every usage event, by the name of the call."""
    found: dict[str, dict[str, Any]] = {}
    cursor = ""
    while True:
        page = gateway.admin("GET", f"/admin/v1/receipts?limit=500{cursor}").json()
        for item in page["items"]:
            call = item["tags"]["call"]
            assert call not in found, f"{call} was recorded twice"
            found[call] = item
        if not page["next"]:
            return found
        cursor = f"&after={page['next']}"


@pytest.mark.timeout(120 + 20 * CYCLES)
def test_the_ledger_equals_the_banks_statement_after_any_crash(bank: Bank, tmp_path: Path) -> None:
    chance = random.Random(CYCLES)
    key = new_secret()
    with Gateway(tmp_path / "gateway", _config(bank), {"KEY": key}) as gateway:
        with Load(gateway, key, CYCLES) as load:
            for cycle in range(CYCLES):
                time.sleep(chance.uniform(0.2, 0.9))
                _crash(gateway, ROLES[cycle] if cycle < len(ROLES) else chance.choice(ROLES))
                for row in _rows_if_up(gateway):
                    assert row["settled"] + row["held"] <= row["amount"]
            time.sleep(0.3)
        eventually(lambda: gateway.held() == 0, 10, "nothing stays held")
        _assert_books_agree(gateway, bank, load.told)
        checked = gateway.verify()
        assert checked.returncode == 0, checked.stdout + checked.stderr


def _rows_if_up(gateway: Gateway) -> list[dict[str, Any]]:
    with contextlib.suppress(OSError):
        return gateway.limits()
    return []


def _assert_books_agree(gateway: Gateway, bank: Bank, told: list[Told]) -> None:
    events = _events(gateway)
    billed: dict[str, Line] = {}
    for line in bank.statement:
        assert line.call not in billed, f"{line.call} was sent twice"
        billed[line.call] = line
    answered = [one for one in told if one.complete]
    assert len(answered) > 20 * CYCLES, "there was hardly any load"
    for one in answered:
        event = events[one.call]
        assert event["request_id"] == one.request_id
        assert event["cost_basis"] == "computed", one
        assert event["cost_nanousd"] == one.output * OUTPUT_NANOUSD
        assert one.output == billed[one.call].billed_output
    finished = {one.call for one in answered}
    for line in bank.statement:
        if line.call not in finished:
            event = events[line.call]
            assert 0 <= event["cost_nanousd"] <= line.max_tokens * OUTPUT_NANOUSD, event
            assert event["cost_basis"] == "estimated" or event["cost_nanousd"] == line.billed_output * OUTPUT_NANOUSD
    total = sum(event["cost_nanousd"] for event in events.values())
    assert gateway.settled("budget") == total
    dispatched = sum(1 for event in events.values() if event["attempts"])
    assert gateway.settled("requests") <= dispatched
    assert gateway.settled("requests") >= len(bank.statement)
