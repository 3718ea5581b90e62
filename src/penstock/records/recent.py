"""Receipts in the order of their calls, the newest first, a page at a time."""

import re
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.access import EVERYTHING, Reach, Tenant
from penstock.errors import InvalidNoun
from penstock.records.events import decode
from penstock.records.receipts import public
from penstock.store.tables.records import usage_events

_CURSOR = re.compile(r"(\d{1,19}):([\x21-\x7e]{1,128})")
_LATEST_NS = 2**63 - 1
_CHUNK = 500
_CHUNKS = 10
"""A page of a tenant with few calls among many looks at so many of others', and has what it found by then."""


async def recent(
    conn: AsyncConnection, limit: int, after: str | None, reach: Reach = EVERYTHING
) -> tuple[list[dict[str, Any]], str | None]:
    """Up to `limit` receipts within `reach` after the cursor `after`, and the cursor of what follows, None at the end.
    A page may have fewer with more to follow.

    Raises InvalidNoun for a cursor that is none.
    """
    table = usage_events.c
    query = select(table.started_at, table.request_id, table.body)
    newest_first = query.order_by(table.started_at.desc(), table.request_id.desc())
    items: list[dict[str, Any]] = []
    place = None if after is None else _place(after)
    size = limit if reach.everything else _CHUNK
    for _ in range(_CHUNKS):
        following = newest_first if place is None else newest_first.where(_behind(place))
        rows = (await conn.execute(following.limit(size + 1))).all()
        for row in rows[:size]:
            place = (row.started_at, row.request_id)
            event = decode(row.body)
            if reach.covers(Tenant(event.team, event.project)):
                items.append(public(event))
            if len(items) == limit:
                return items, f"{place[0]}:{place[1]}" if row is not rows[-1] else None
        if len(rows) <= size:
            return items, None
    assert place is not None
    return items, f"{place[0]}:{place[1]}"


def _behind(place: tuple[int, str]) -> Any:
    return tuple_(usage_events.c.started_at, usage_events.c.request_id) < place


def _place(cursor: str) -> tuple[int, str]:
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise InvalidNoun("this is not a cursor of this listing", "after")
    return min(int(found[1]), _LATEST_NS), found[2]
