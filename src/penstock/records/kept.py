"""What providers keep for callers: a row for each response, each item and each container, for as long as it is kept.

Rows are written with the usage event of the call that made it, in the transaction that settles its money. So a caller
that has seen the end of an answer can go on with it as soon as the journal is in the store.
"""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from penstock.domain.events import UsageEvent
from penstock.domain.kept import KEPT_DAYS, Keeper
from penstock.store.chunks import chunks, delete_in_chunks
from penstock.store.tables.records import kept

KEPT_NS = KEPT_DAYS * 24 * 3600 * 1_000_000_000

_INSERT = (
    "INSERT INTO kept (id, provider, owner, credential, model, alias, request_id, made_at) "
    "VALUES ({0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}) ON CONFLICT (id, provider) DO UPDATE SET "
    "owner = CASE WHEN kept.owner = excluded.owner THEN kept.owner ELSE '' END, credential = excluded.credential, "
    "model = excluded.model, alias = excluded.alias, request_id = excluded.request_id, made_at = excluded.made_at"
)
"""An id that a provider gives to two owners is nobody's: what lies under it may be either's."""


def write(conn: Connection, events: Sequence[UsageEvent]) -> None:
    """Remembers what these calls have left at their providers, inside the caller's transaction."""
    rows = [
        (id, event.provider, left.owner, left.credential, event.model, event.alias, event.request_id, event.ended_at)
        for event in events
        if (left := event.kept) is not None
        for id in left.ids
    ]
    if rows:
        rows.sort(key=lambda row: row[:2])  # in one order always, so that two boxes never wait for each other
        conn.exec_driver_sql(_INSERT.format("?" if conn.dialect.name == "sqlite" else "%s"), rows)


async def find(conn: AsyncConnection, owner: str, ids: Collection[str], now_ns: int) -> list[Keeper]:
    """Where these are, one for each id that is known; the owner's own before others', and the newest first."""
    found: dict[str, Any] = {}
    for some in chunks(list(ids)):
        query = select(kept).where(kept.c.id.in_(some), kept.c.made_at > now_ns - KEPT_NS).order_by(kept.c.made_at)
        for row in await conn.execute(query):
            if row.owner == owner or row.id not in found or found[row.id].owner != owner:
                found[row.id] = row
    return [Keeper(id, it.provider, it.credential, it.model, it.alias, it.owner == owner) for id, it in found.items()]


async def prune(engine: AsyncEngine, now_ns: int) -> int:
    """Deletes what providers keep no more; how much there was."""
    return await delete_in_chunks(engine, kept, kept.c.made_at <= now_ns - KEPT_NS)
