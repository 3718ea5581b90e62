"""How long usage events are kept, and what is known of what providers keep. Roll-ups stay."""

from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.records import kept
from penstock.records.rollups import HOUR_NS
from penstock.store.chunks import delete_in_chunks
from penstock.store.tables.records import usage_events

_DAY_NS = 24 * HOUR_NS


async def prune(engine: AsyncEngine, now_ns: int, days: int) -> int:
    """Deletes the events that began more than `days` ago, by whole hours; how many there were. Also what is known of
    things that their providers keep no more."""
    await kept.prune(engine, now_ns)
    before = (now_ns - days * _DAY_NS) // HOUR_NS * HOUR_NS
    return await delete_in_chunks(engine, usage_events, usage_events.c.started_at < before)
