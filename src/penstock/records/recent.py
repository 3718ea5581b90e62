"""Receipts in the order of their calls, the newest first, a page at a time."""

import re
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.errors import InvalidNoun
from penstock.records.events import decode
from penstock.records.receipts import public
from penstock.store.tables.records import usage_events

_CURSOR = re.compile(r"(\d{1,19}):([\x21-\x7e]{1,128})")
_LATEST_NS = 2**63 - 1


async def recent(conn: AsyncConnection, limit: int, after: str | None) -> tuple[list[dict[str, Any]], str | None]:
    """Up to `limit` receipts after the cursor `after`, and the cursor of what follows, None at the end.

    Raises InvalidNoun for a cursor that is none.
    """
    table = usage_events.c
    query = select(table.started_at, table.request_id, table.body)
    if after is not None:
        place = _CURSOR.fullmatch(after)
        if place is None:
            raise InvalidNoun("this is not a cursor of this listing", "after")
        started_at = min(int(place[1]), _LATEST_NS)
        query = query.where(tuple_(table.started_at, table.request_id) < (started_at, place[2]))
    newest_first = query.order_by(table.started_at.desc(), table.request_id.desc()).limit(limit + 1)
    rows = (await conn.execute(newest_first)).all()
    items = [public(decode(row.body)) for row in rows[:limit]]
    if len(rows) <= limit:
        return items, None
    last = rows[limit - 1]
    return items, f"{last.started_at}:{last.request_id}"
