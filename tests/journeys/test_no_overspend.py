"""A thousand callers at once cannot spend more than the limit, and can spend nearly all of it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.testing.bank import Bank
from penstock.testing.gateway import Gateway, new_secret, usd_price
from penstock.testing.wire import eventually

CALLERS = 1_000
MAX_TOKENS = 10
OUTPUT_NANOUSD = 10_000
WORST_NANOUSD = MAX_TOKENS * OUTPUT_NANOUSD
LIMIT_NANOUSD = 100 * WORST_NANOUSD


@pytest.fixture
def bank() -> Iterator[Bank]:
    with Bank(delay_ms=300) as bank:
        yield bank


@pytest.fixture
def key() -> str:
    return new_secret()


@pytest.fixture
def gateway(bank: Bank, key: str, tmp_path: Path) -> Iterator[Gateway]:
    config = {
        "providers": [{"name": "bank", "kind": "compatible", "base_url": bank.base_url}],
        "models": [{"name": "m", "targets": [{"provider": "bank", "model": "m"}], "price": usd_price(0, 10)}],
        "teams": [{"name": "growth"}],
        "keys": [{"name": "ci", "team": "growth", "secret": "env:KEY"}],
        "limits": [
            {"name": "budget", "match": {"team": "growth"}, "unit": "usd", "amount": 0.01, "per": "total"},
            {"name": "all-requests", "match": {}, "unit": "requests", "amount": 1_000_000, "per": "day"},
        ],
    }
    with Gateway(tmp_path / "gateway", config, {"KEY": key}) as gateway:
        yield gateway


async def _call(gateway: Gateway, key: str, stream: bool) -> tuple[int, bytes]:
    """Status and body of one call on a connection of its own."""
    body = {"model": "m", "max_tokens": MAX_TOKENS, "messages": [{"role": "user", "content": "x"}], "stream": stream}
    request = gateway.caller(key).request_bytes(
        "POST", "/v1/chat/completions", msgspec.json.encode(body), {"connection": "close"}
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
    try:
        writer.write(request)
        answer = await reader.read(-1)
    finally:
        writer.close()
    return int(answer.split(b" ", 2)[1]), answer


async def _all_at_once(gateway: Gateway, key: str, stream: bool) -> list[tuple[int, bytes]]:
    return await asyncio.gather(*(_call(gateway, key, stream) for _ in range(CALLERS)))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_thousand_parallel_calls_spend_a_limit_of_a_hundred_and_not_one_more(
    gateway: Gateway, bank: Bank, key: str, stream: bool
) -> None:
    watching = asyncio.create_task(_highest_use(gateway))
    answers = await _all_at_once(gateway, key, stream)
    watching.cancel()
    statuses = [status for status, _ in answers]
    assert set(statuses) == {200, 429}
    assert 99 <= statuses.count(200) <= 100
    assert len(bank.statement) == statuses.count(200)
    billed = sum(line.billed_output for line in bank.statement) * OUTPUT_NANOUSD
    assert billed == statuses.count(200) * WORST_NANOUSD <= LIMIT_NANOUSD
    await asyncio.to_thread(eventually, lambda: gateway.settled("budget") == billed, 5, "the ledger equals the bank")
    assert gateway.held() == 0
    refusals: list[Any] = [body for status, body in answers if status == 429]
    assert all(b'"limit_held"' in body or b'"insufficient_quota"' in body for body in refusals)
    while statuses.count(200) * WORST_NANOUSD + WORST_NANOUSD <= LIMIT_NANOUSD:
        statuses.append((await _call(gateway, key, stream))[0])
    status, last = await _call(gateway, key, stream)
    assert status == 429
    assert b'"insufficient_quota"' in last
    assert len(bank.statement) == 100
    assert gateway.verify().returncode == 0


async def _highest_use(gateway: Gateway) -> None:
    """Asserts at every sampled moment that what is settled and held is within the limit."""
    while True:
        rows = await asyncio.to_thread(gateway.limits)
        for row in rows:
            assert row["settled"] + row["held"] <= row["amount"], row
        await asyncio.sleep(0.05)
