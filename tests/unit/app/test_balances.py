"""The ledger as it is shown: what workers were leased, less what their calls hold, on the balance it is part of."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from penstock.app.control import balances as subject
from penstock.app.control.balances import Amounts
from penstock.domain.policy import Limit
from penstock.store.tables.ledger import balances, leases, shares

NOW_S = 1_795_200_000 + 20
MINUTE_S = 1_795_200_000
HOUR_S = MINUTE_S - 2_400
LIMITS = {
    limit.id: limit
    for limit in (
        Limit("all", "a-total", "usd", 1_000),
        Limit("rpm", "calls", "requests", 100, "minute"),
        Limit("each", "customers", "usd", 1_000, each="customer"),
        Limit("hourly", "hourly", "usd", 1_000, "hour", window="sliding"),
        Limit("lanes", "lanes", "concurrent", 8),
    )
}


@pytest.fixture
async def conn(whole_store: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    async with whole_store.begin() as conn:
        yield conn


async def lease(conn: AsyncConnection, limit: str, per: str, amounts: tuple[int, int], **fields: Any) -> None:
    row = {"limit_id": limit, "window_start": 0, "value": "", "per": per, "epoch": 1, "since": 0, "until_s": None}
    await conn.execute(insert(leases).values({**row, "granted": amounts[0], "posted": amounts[1], **fields}))


async def test_leased_is_what_workers_may_still_spend(conn: AsyncConnection) -> None:
    await conn.execute(insert(balances).values(limit_id="all", window_start=0, value="", per="total", settled=70))
    await conn.execute(insert(shares).values(limit_id="rpm", window_start=MINUTE_S, value="", per="minute", settled=12))
    await lease(conn, "all", "total", (300, 70))
    await lease(conn, "all", "total", (50, 0), epoch=2)
    await lease(conn, "rpm", "minute", (40, 0))
    await lease(conn, "rpm", "minute", (10, 0), epoch=2, until_s=NOW_S + 1)
    await lease(conn, "rpm", "minute", (30, 0), epoch=3, until_s=NOW_S)
    await lease(conn, "each", "total", (200, 0), value="acme")
    await lease(conn, "hourly", "sliding-hour", (500, 100))
    await lease(conn, "lanes", "total", (8, 0))
    await lease(conn, "gone", "total", (9, 0))
    amounts = Amounts(
        await subject.settled_places(conn, LIMITS, NOW_S),
        {("all", 0, ""): 100, ("rpm", MINUTE_S, ""): 3, ("hourly", MINUTE_S, ""): 5},
        await subject.leased_places(conn, LIMITS, NOW_S),
    )
    rows = subject.shown(LIMITS, amounts, {"lanes": 2}, NOW_S)
    assert [(row["limit"], row["value"], row["settled"], row["held"], row["leased"]) for row in rows] == [
        ("a-total", "", 70, 100, 180),
        ("calls", "", 12, 3, 35),
        ("customers", "acme", 0, 0, 200),
        ("hourly", "", 0, 5, 395),
        ("lanes", "", 0, 2, 6),
    ]


async def test_a_lease_of_a_window_that_is_over_is_not_shown(conn: AsyncConnection) -> None:
    limits = {"hour": Limit("hour", "hour", "usd", 1_000, "hour")}
    await lease(conn, "hour", "hour", (300, 0), window_start=HOUR_S - 3_600)
    assert await subject.leased_places(conn, limits, NOW_S) == {}
    await lease(conn, "hour", "hour", (200, 20), window_start=HOUR_S)
    assert await subject.leased_places(conn, limits, NOW_S) == {("hour", HOUR_S, ""): 180}
