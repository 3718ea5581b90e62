"""How long usage events are kept. Roll-ups and the ledger stay."""

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.records.rollups import HOUR_NS
from penstock.store.tables.records import usage_events

_DAY_NS = 24 * HOUR_NS
_CHUNK = 2_000


async def prune(engine: AsyncEngine, now_ns: int, days: int) -> int:
    """Deletes the events that began more than `days` ago, by whole hours; how many there were.

    A little at a time, each in a transaction of its own, so that the commit of the ledger never waits long for it.
    """
    before = (now_ns - days * _DAY_NS) // HOUR_NS * HOUR_NS
    oldest = select(usage_events.c.request_id).where(usage_events.c.started_at < before).limit(_CHUNK)
    pruned = 0
    while True:
        async with engine.begin() as conn:
            count = (await conn.execute(delete(usage_events).where(usage_events.c.request_id.in_(oldest)))).rowcount
        pruned += count
        if count < _CHUNK:
            return pruned
