"""Receipts: the public form of a usage event, and one looked up by its request id.

`public` is the one place where an event gets its public names and shapes: receipts, exports and sinks use it.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import structs
from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.access import EVERYTHING, Reach, Tenant
from penstock.domain.events import UsageEvent
from penstock.domain.money import usd
from penstock.domain.usage import PARTS, Usage
from penstock.records.events import decode
from penstock.store.tables.control import keys
from penstock.store.tables.records import usage_events

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(ns: int) -> str:
    """Unix nanoseconds -> `2026-11-20T10:00:00.123456Z`, in UTC, without a fraction when there is none."""
    return (_EPOCH + timedelta(microseconds=ns // 1_000)).isoformat().replace("+00:00", "Z")


def public(event: UsageEvent) -> dict[str, Any]:
    """Plain values only: times in RFC 3339, money as whole nano-USD and, for people, `cost_usd` as decimal text.
    A window that never ends (`total`) has `window_start` None."""
    shown = structs.asdict(event)
    del shown["kept"]
    for name in ("cost_lines", "attempts", "limits_charged"):
        shown[name] = [structs.asdict(part) for part in shown[name]]
    for name in ("guardrails", "dropped", "flags"):
        shown[name] = list(shown[name])
    shown["started_at"], shown["ended_at"] = rfc3339(event.started_at), rfc3339(event.ended_at)
    shown["usage"] = public_usage(event.usage)
    shown["cost_usd"] = usd(event.cost_nanousd)
    for attempt, mapping in zip(event.attempts, shown["attempts"], strict=True):
        mapping["started_at"], mapping["ended_at"] = rfc3339(attempt.started_at), rfc3339(attempt.ended_at)
        mapping["usage"] = public_usage(attempt.usage)
    for charged in shown["limits_charged"]:
        charged["window_start"] = rfc3339(charged["window_start"] * 1_000_000_000) if charged["window_start"] else None
    return shown


_WHERE_THERE_ARE_ANY = frozenset(("web_searches", *PARTS))


def public_usage(usage: Usage) -> dict[str, Any]:
    """Every class with its count, also the empty ones; searches, pictures and films only where there were any."""
    shown = {name: getattr(usage, name) for name in Usage.__struct_fields__}
    return {name: count for name, count in shown.items() if count or name not in _WHERE_THERE_ARE_ANY}


async def receipt(conn: AsyncConnection, request_id: str, reach: Reach = EVERYTHING) -> dict[str, Any] | None:
    """The receipt of one call, or None when there is none within `reach` (yet, or any more: see `retention`)."""
    event = await find(conn, request_id)
    return None if event is None or not reach.covers(Tenant(event.team, event.project)) else public(event)


async def own_receipt(conn: AsyncConnection, request_id: str, asker: str) -> dict[str, Any] | None:
    """The receipt, for the key that made the call and for nobody else. `asker`: the id or the digest of a key.

    An event knows its key by name, so a call from before the asking key was made is not its own: its name may have been
    another's.
    """
    query = select(keys.c.name, keys.c.created_at).where(or_(keys.c.id == asker, keys.c.digest == asker))
    key = (await conn.execute(query)).mappings().first()
    event = await find(conn, request_id)
    if key is None or event is None or event.key != key["name"] or event.started_at < key["created_at"]:
        return None
    return public(event)


async def find(conn: AsyncConnection, request_id: str) -> UsageEvent | None:
    if "\x00" in request_id:
        return None  # PostgreSQL would refuse the question: no text in it has a zero byte
    query = select(usage_events.c.body).where(usage_events.c.request_id == request_id)
    body = (await conn.execute(query)).scalar()
    return None if body is None else decode(body)
