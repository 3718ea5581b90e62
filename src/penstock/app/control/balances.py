"""The ledger as it is shown: what each limit has settled and held, balance by balance, in the windows that are open."""

import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.money import usd
from penstock.domain.policy import Limit
from penstock.ledger.windows import window
from penstock.records.receipts import rfc3339
from penstock.store.tables.ledger import balances, shares

NS_PER_S = 1_000_000_000
MAX_ROWS = 10_000
"""A limit per customer can have a hundred thousand balances; showing them all would keep a kill waiting."""

Place = tuple[str, int, str]
"""Limit id, start of the window in Unix seconds, value of the limit's `each`."""


def open_windows(limits: Mapping[str, Limit]) -> dict[str, int]:
    """Limit id -> start of its window at this moment."""
    now_s = int(time.time())
    return {limit.id: window(limit.per, now_s)[0] for limit in limits.values()}


async def settled_places(conn: AsyncConnection, starts: Mapping[str, int]) -> dict[Place, int]:
    """What is settled on the balances of the windows that begin at `starts`: the `MAX_ROWS` with the most."""
    found: dict[Place, int] = {}
    for table in (balances, shares):
        query = select(table.c.limit_id, table.c.window_start, table.c.value, table.c.settled)
        current = query.where(table.c.window_start.in_(set(starts.values()))).order_by(table.c.settled.desc())
        for limit, start, value, settled in await conn.execute(current.limit(MAX_ROWS)):
            if starts.get(limit) == start:
                found[(limit, start, value)] = settled
    return found


async def settled_ratios(conn: AsyncConnection, limits: Mapping[str, Limit]) -> dict[str, float]:
    """Limit name -> settled share of its amount on the fullest balance of the open window."""
    starts = open_windows(limits)
    ratios = {limit.name: 0.0 for limit in limits.values() if limit.unit != "concurrent"}
    for table in (balances, shares):
        fullest = select(table.c.limit_id, table.c.window_start, func.max(table.c.settled))
        current = fullest.where(table.c.window_start.in_(set(starts.values())))
        for limit_id, start, settled in await conn.execute(current.group_by(table.c.limit_id, table.c.window_start)):
            if starts.get(limit_id) == start and limits[limit_id].amount:
                ratios[limits[limit_id].name] = settled / limits[limit_id].amount
    return ratios


def shown(
    limits: Mapping[str, Limit], settled: Mapping[Place, int], held: Mapping[Place, int], concurrent: Mapping[str, int]
) -> list[dict[str, Any]]:
    """A row per balance of an open window, and per older one that still holds something; `MAX_ROWS` at most.

    `concurrent`: limit id -> calls in flight now, as the workers said last; such limits have no other balance.
    """
    rows: list[dict[str, Any]] = []
    starts = open_windows(limits)
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
        "mode": limit.mode,
        "each": limit.each,
        "match": dict(limit.match),
    }
    if limit.unit == "usd":
        row |= {"settled_usd": usd(settled), "held_usd": usd(held), "amount_usd": usd(limit.amount)}
    return row
