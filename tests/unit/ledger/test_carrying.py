"""Old entries become sums, and the ledger agrees with itself before and after."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.domain.events import UsageEvent
from penstock.domain.policy import Charge, Limit
from penstock.domain.usage import Usage
from penstock.ledger import adjustments
from penstock.ledger.carrying import carry_forward
from penstock.ledger.committer import Committer
from penstock.ledger.journal import Journal
from penstock.ledger.ledger import Admission, Ask, Ledger
from penstock.ledger.verify import verify
from penstock.testing.at_once import at_once

MONEY = Limit("usd", "growth", "usd", 1_000)
DAILY = Limit("daily", "daily", "usd", 1_000, "day")
CALLS = Limit("calls", "calls", "requests", 1_000, "minute")
DAY_S = 86_400
DAYS = 400


@pytest.fixture
def control(whole_store: AsyncEngine) -> AsyncEngine:
    return whole_store


class Calls:
    """A worker whose calls are named as real ones are, by when they came."""

    def __init__(self, ledger: Ledger, clock: Any, event: Callable[..., UsageEvent]) -> None:
        self._ledger, self._clock, self._event = ledger, clock, event
        self._count = 0

    def hold(self) -> tuple[Admission, str]:
        self._count += 1
        name = f"{self._clock() // 1_000_000:011x}{self._count:016x}"
        admission = at_once(self._ledger.reserve([MONEY, DAILY, CALLS], {}, Ask(100, 1, 1), f"req_{name}:1"))
        admission.dispatch(self._event(name))
        return admission, name

    def post(self, usd: int) -> None:
        admission, name = self.hold()
        admission.post(admission.owed(usd, Usage()), "computed", self._event(name))

    def void(self) -> None:
        admission, name = self.hold()
        admission.void("cut", self._event(name))


@pytest.fixture
async def calls(committer: Committer, clock: Any, event: Callable[..., UsageEvent]) -> Calls:
    """Two that were posted, one over its hold, one void and one that is open, 401 days ago; one today."""
    calls = Calls(Ledger(Journal(Path((await committer.open_epoch()).journal)), clock), clock, event)
    for usd in (70, 120):
        calls.post(usd)
    calls.void()
    calls.hold()
    clock.pass_s(401 * DAY_S)
    calls.post(30)
    await committer.drain()
    return calls


def _rows(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


async def test_old_entries_become_a_sum_per_balance_and_balances_of_windows_long_over_go(
    calls: Calls, engine: Engine, control: AsyncEngine, clock: Any
) -> None:
    assert await verify(engine) == []
    assert await carry_forward(control, clock(), 402) == 0
    assert await carry_forward(control, clock(), DAYS) == 3
    assert _rows(engine, "SELECT step, count(*) FROM entries GROUP BY step ORDER BY step") == [(0, 2), (1, 1)]
    assert _rows(engine, "SELECT limit_id, settled, exceeded FROM carried ORDER BY limit_id") == [
        ("daily", 190, 1),
        ("usd", 190, 1),
    ]
    assert _rows(engine, "SELECT settled FROM balances WHERE limit_id = 'usd'") == [(220,)]
    assert await verify(engine) == []
    clock.pass_s(30 * DAY_S)
    assert await carry_forward(control, clock(), DAYS) == 0
    assert _rows(engine, "SELECT settled FROM balances WHERE limit_id = 'daily'") == [(30,)]
    assert [row[0] for row in _rows(engine, "SELECT limit_id FROM carried")] == ["usd"]
    assert await verify(engine) == []


async def test_what_was_adjusted_keeps_its_balance_and_its_entries(
    calls: Calls, engine: Engine, control: AsyncEngine, clock: Any
) -> None:
    ((start,),) = _rows(engine, "SELECT min(window_start) FROM balances WHERE limit_id = 'daily'")
    async with control.begin() as conn:
        made = adjustments.Adjustment(1, clock(), Charge("daily", start, "", -40, "day"), "credited", "ada")
        await adjustments.write(conn, made)
    clock.pass_s(30 * DAY_S)
    await carry_forward(control, clock(), DAYS)
    assert _rows(engine, "SELECT settled FROM balances WHERE limit_id = 'daily' ORDER BY settled") == [(30,), (150,)]
    assert await verify(engine) == []


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("entry_unreadable", "UPDATE entries SET charges = :blob WHERE step = 1"),
        ("hold_lost", "DELETE FROM entries WHERE step = 1 AND kind = 'void'"),
        ("resolved_without_hold", "DELETE FROM entries WHERE step = 0 AND at < 1795200001000000000"),
    ],
)
async def test_what_is_not_in_order_stays_to_be_found(
    calls: Calls, engine: Engine, control: AsyncEngine, clock: Any, kind: str, change: str
) -> None:
    with engine.begin() as connection:
        connection.execute(text(change), {"blob": b"\xc1"} if ":blob" in change else {})
    before = {fault.kind for fault in await verify(engine)}
    await carry_forward(control, clock(), DAYS)
    assert kind in before and kind in {fault.kind for fault in await verify(engine)}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("balance_differs", "UPDATE carried SET settled = settled + 1"),
        ("carried_damaged", "UPDATE carried SET settled = -1"),
        ("balance_differs", "DELETE FROM carried"),
    ],
)
async def test_a_sum_that_was_changed_by_hand_is_found(
    calls: Calls, engine: Engine, control: AsyncEngine, clock: Any, kind: str, change: str
) -> None:
    await carry_forward(control, clock(), DAYS)
    with engine.begin() as connection:
        connection.execute(text(change))
    assert kind in [fault.kind for fault in await verify(engine)]
