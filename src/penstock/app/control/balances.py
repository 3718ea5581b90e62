"""The ledger as it is shown: what each limit has settled and held, balance by balance, in the windows that are open."""

import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.money import usd
from penstock.domain.policy import Limit
from penstock.ledger.windows import window
from penstock.records.receipts import rfc3339
from penstock.store.tables.ledger import balances, shares

NS_PER_S = 1_000_000_000

Place = tuple[str, int, str]
"""Limit id, start of the window in Unix seconds, value of the limit's `each`."""


async def settled_places(conn: AsyncConnection) -> dict[Place, int]:
    """What is settled on every balance that the store has."""
    found: dict[Place, int] = {}
    for table in (balances, shares):
        rows = await conn.execute(select(table.c.limit_id, table.c.window_start, table.c.value, table.c.settled))
        found.update({(limit, start, value): settled for limit, start, value, settled in rows})
    return found


def shown(
    limits: Mapping[str, Limit], settled: Mapping[Place, int], held: Mapping[Place, int], concurrent: Mapping[str, int]
) -> list[dict[str, Any]]:
    """A row per balance of an open window, and per older one that still holds something.

    `concurrent`: limit id -> calls in flight now, as the workers said last; such limits have no other balance.
    """
    rows = []
    now_s = int(time.time())
    starts = {limit.id: window(limit.per, now_s)[0] for limit in limits.values()}
    places: defaultdict[str, set[Place]] = defaultdict(set)
    for place in settled:
        if place[1] == starts.get(place[0]):
            places[place[0]].add(place)
    for place in held:
        places[place[0]].add(place)
    for limit in sorted(limits.values(), key=lambda each: each.name):
        if limit.unit == "concurrent":
            rows.append(_row(limit, (limit.id, 0, ""), 0, concurrent.get(limit.id, 0)))
            continue
        if limit.each is None:
            places[limit.id].add((limit.id, starts[limit.id], ""))
        rows += [_row(limit, place, settled.get(place, 0), held.get(place, 0)) for place in sorted(places[limit.id])]
    return rows


def settled_ratios(limits: Mapping[str, Limit], settled: Mapping[Place, int]) -> dict[str, float]:
    """Limit name -> settled share of its amount on the fullest balance of the open window."""
    ratios: dict[str, float] = {limit.name: 0.0 for limit in limits.values() if limit.unit != "concurrent"}
    now_s = int(time.time())
    for (limit_id, start, _), amount in settled.items():
        limit = limits.get(limit_id)
        if limit is not None and limit.amount and start == window(limit.per, now_s)[0]:
            ratios[limit.name] = max(ratios.get(limit.name, 0.0), amount / limit.amount)
    return ratios


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
