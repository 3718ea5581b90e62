"""The ledger as it is shown: what each limit has settled and held, balance by balance, in the windows that are open."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import desc, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.money import usd
from penstock.domain.policy import Limit
from penstock.ledger.windows import SHORT, SLIDING_S, oldest_open, span_of, window
from penstock.records.receipts import rfc3339
from penstock.store.tables.ledger import balances, shares

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


def shown(
    limits: Mapping[str, Limit],
    settled: Mapping[Place, int],
    held: Mapping[Place, int],
    concurrent: Mapping[str, int],
    now_s: int,
) -> list[dict[str, Any]]:
    """A row per balance of a window that is open at `now_s`, and per older one that still holds something; `MAX_ROWS`
    at most.

    `concurrent`: limit id -> calls in flight now, as the workers said last; such limits have no other balance.
    """
    rows: list[dict[str, Any]] = []
    starts = _open_windows(limits, now_s)
    held = _by_window(limits, starts, held)
    places: defaultdict[str, set[Place]] = defaultdict(set)
    for place in (*settled, *held):
        places[place[0]].add(place)
    for limit in sorted(limits.values(), key=lambda each: each.name):
        if limit.unit == "concurrent":
            rows.append(_row(limit, (limit.id, 0, ""), 0, concurrent.get(limit.id, 0)))
            continue
        if limit.each is None:
            places[limit.id].add((limit.id, starts[limit.id], ""))
        rows += [_row(limit, place, settled.get(place, 0), held.get(place, 0)) for place in sorted(places[limit.id])]
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


def _row(limit: Limit, place: Place, settled: int, held: int) -> dict[str, Any]:
    _, start, value = place
    row: dict[str, Any] = {
        "limit": limit.name,
        "window_start": rfc3339(start * NS_PER_S) if start else None,
        "value": value,
        "settled": settled,
        "held": held,
        "leased": 0,
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
