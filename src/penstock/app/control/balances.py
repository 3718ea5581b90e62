"""The ledger as it is shown: what each limit has settled, held and leased, balance by balance, in the windows that are
open.

What calls hold is part of what their workers were leased, and of a share also what the window has settled; `leased` is
what workers may still spend beyond that, so that settled, held and leased are together within the amount."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from sqlalchemy import desc, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.money import usd
from penstock.domain.policy import Limit
from penstock.ledger.slices import stands
from penstock.ledger.windows import SHORT, SLIDING_S, oldest_open, span_of, window
from penstock.records.receipts import rfc3339
from penstock.store.tables.ledger import balances, leases, shares

NS_PER_S = 1_000_000_000
MAX_ROWS = 10_000
"""A limit per customer can have a hundred thousand balances; showing them all would keep a kill waiting."""

Place = tuple[str, int, str]
"""Limit id, start of the window in Unix seconds, value of the limit's `each`."""


def _open_windows(limits: Mapping[str, Limit], now_s: int) -> dict[str, int]:
    """Limit id -> start of its window at this moment; of a sliding one, of the oldest bucket that counts."""
    return {
        limit.id: oldest_open(span_of(limit), now_s)
        if limit.window == "sliding"
        else window(limit.per, now_s, limit.timezone)[0]
        for limit in limits.values()
    }


async def settled_places(conn: AsyncConnection, limits: Mapping[str, Limit], now_s: int) -> dict[Place, int]:
    """What is settled on the balances of the windows that are open at `now_s`: the `MAX_ROWS` with the most."""
    starts = _open_windows(limits, now_s)
    found = await _sliding_places(conn, limits, now_s)
    fixed = {starts[limit.id] for limit in limits.values() if limit.window == "fixed"}
    for table in (balances, shares):
        query = select(table.c.limit_id, table.c.window_start, table.c.value, table.c.settled)
        current = query.where(table.c.window_start.in_(fixed)).order_by(table.c.settled.desc())
        for limit, start, value, settled in await conn.execute(current.limit(MAX_ROWS)):
            if starts.get(limit) == start and limits[limit].window == "fixed":
                found[(limit, start, value)] = settled
    return found


async def _sliding_places(conn: AsyncConnection, limits: Mapping[str, Limit], now_s: int) -> dict[Place, int]:
    """The same for sliding windows, each the sum of its buckets."""
    found: dict[Place, int] = {}
    for span in SLIDING_S:
        oldest = oldest_open(span, now_s)
        table = shares if span in SHORT else balances
        query = select(table.c.limit_id, table.c.value, func.sum(table.c.settled).label("settled"))
        current = query.where(table.c.per == span, table.c.window_start >= oldest)
        grouped = current.group_by(table.c.limit_id, table.c.value).order_by(desc("settled"))
        for limit, value, settled in await conn.execute(grouped.limit(MAX_ROWS)):
            if limit in limits and span_of(limits[limit]) == span:
                found[(limit, oldest, value)] = int(settled)
    return found


async def leased_places(conn: AsyncConnection, limits: Mapping[str, Limit], now_s: int) -> dict[Place, int]:
    """What workers were granted and have not settled, in the windows that are open at `now_s`: the `MAX_ROWS` with the
    most."""
    starts = _open_windows(limits, now_s)
    columns = leases.c
    amount = func.sum(columns.granted - columns.posted).label("amount")
    query = select(columns.limit_id, columns.window_start, columns.value, columns.per, amount).where(
        columns.granted > columns.posted,
        or_(columns.until_s.is_(None), columns.until_s > now_s),
        or_(columns.window_start == 0, columns.window_start.in_(set(starts.values()))),
    )
    grouped = query.group_by(columns.limit_id, columns.window_start, columns.value, columns.per)
    found: dict[Place, int] = {}
    for limit, start, value, span, outstanding in await conn.execute(grouped.order_by(desc("amount")).limit(MAX_ROWS)):
        if limit in limits and span == span_of(limits[limit]) and start in (0, starts[limit]):
            found[(limit, starts[limit], value)] = int(outstanding)
    return found


async def settled_ratios(conn: AsyncConnection, limits: Mapping[str, Limit], now_s: int) -> dict[str, float]:
    """Limit name -> settled share of its amount on the fullest balance of the window that is open at `now_s`."""
    starts = _open_windows(limits, now_s)
    ratios = {limit.name: 0.0 for limit in limits.values() if limit.unit != "concurrent"}
    fullest: dict[str, int] = {}
    for (limit_id, _, _), settled in (await _sliding_places(conn, limits, now_s)).items():
        fullest[limit_id] = max(settled, fullest.get(limit_id, 0))
    fixed = {starts[limit.id] for limit in limits.values() if limit.window == "fixed"}
    for table in (balances, shares):
        query = select(table.c.limit_id, table.c.window_start, func.max(table.c.settled))
        current = query.where(table.c.window_start.in_(fixed))
        for limit_id, start, settled in await conn.execute(current.group_by(table.c.limit_id, table.c.window_start)):
            if starts.get(limit_id) == start and limits[limit_id].window == "fixed":
                fullest[limit_id] = settled
    for limit_id, settled in fullest.items():
        if limits[limit_id].amount:
            ratios[limits[limit_id].name] = settled / limits[limit_id].amount
    return ratios


class Amounts(Struct, frozen=True):
    """What lies on each place: settled, held by open calls, and leased to workers (`leased_places`)."""

    settled: Mapping[Place, int]
    held: Mapping[Place, int]
    leased: Mapping[Place, int]


def shown(
    limits: Mapping[str, Limit], amounts: Amounts, concurrent: Mapping[str, int], now_s: int
) -> list[dict[str, Any]]:
    """A row per balance of a window that is open at `now_s`, and per older one that still holds something; `MAX_ROWS`
    at most.

    `concurrent`: limit id -> calls in flight now, as the workers said last; such limits have no other balance.
    """
    rows: list[dict[str, Any]] = []
    starts = _open_windows(limits, now_s)
    settled, held, leased = amounts.settled, _by_window(limits, starts, amounts.held), amounts.leased
    places: defaultdict[str, set[Place]] = defaultdict(set)
    for place in (*settled, *held, *leased):
        places[place[0]].add(place)
    for limit in sorted(limits.values(), key=lambda each: each.name):
        if limit.unit == "concurrent":
            granted = sum(leased.get(place, 0) for place in places[limit.id])
            rows.append(_row(limit, (limit.id, 0, ""), (0, concurrent.get(limit.id, 0), granted)))
            continue
        if limit.each is None:
            places[limit.id].add((limit.id, starts[limit.id], ""))
        rows += [
            _row(limit, place, (settled.get(place, 0), held.get(place, 0), leased.get(place, 0)))
            for place in sorted(places[limit.id])
        ]
    return rows[:MAX_ROWS]


def _by_window(
    limits: Mapping[str, Limit], starts: Mapping[str, int], amounts: Mapping[Place, int]
) -> dict[Place, int]:
    """The same amounts, those on buckets of a sliding window summed up under the start of the window."""
    sums: dict[Place, int] = {}
    for (limit, start, value), amount in amounts.items():
        slides = limit in limits and limits[limit].window == "sliding"
        place = (limit, starts[limit] if slides and start >= starts[limit] else start, value)
        sums[place] = sums.get(place, 0) + amount
    return sums


def _row(limit: Limit, place: Place, amounts: tuple[int, int, int]) -> dict[str, Any]:
    """`amounts`: settled, held, and granted to workers, what is held included."""
    _, start, value = place
    settled, held, granted = amounts
    in_use = held + settled if stands(limit, span_of(limit)) else held
    row: dict[str, Any] = {
        "limit": limit.name,
        "window_start": rfc3339(start * NS_PER_S) if start else None,
        "value": value,
        "settled": settled,
        "held": held,
        "leased": max(granted - in_use, 0),
        "amount": limit.amount,
        "unit": limit.unit,
        "per": limit.per,
        "window": limit.window,
        "timezone": limit.timezone,
        "mode": limit.mode,
        "each": limit.each,
        "match": dict(limit.match),
    }
    if limit.unit == "usd":
        row |= {"settled_usd": usd(settled), "held_usd": usd(held), "amount_usd": usd(limit.amount)}
    return row
