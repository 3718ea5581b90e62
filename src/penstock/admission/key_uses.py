"""Which Idempotency-Keys are in use: one row per virtual key and Idempotency-Key, for a day.

A use counts from before anything is held until it is released, because the call used nothing, or is a day old. One
whose worker died before it had sent anything counts no more either: its journal has been read to the end without a
damage, and has no entry of the call.

Each function works inside the transaction of the connection that it is given.
"""

from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from penstock.domain.idempotency import KeyUse
from penstock.store.chunks import delete_in_chunks
from penstock.store.tables.admission import idempotency_keys
from penstock.store.tables.ledger import entries, journals

KEPT_NS = 24 * 3600 * 1_000_000_000

_TAKE = text(
    "INSERT INTO idempotency_keys (key_id, name, content, request_id, epoch, taken_at)"
    " VALUES (:key_id, :name, :content, :request_id, :epoch, :taken_at) ON CONFLICT (key_id, name) DO NOTHING"
)


async def take(conn: AsyncConnection, use: KeyUse, epoch: int, now_ns: int) -> KeyUse:
    """The use that counts from here on: `use`, or the one that came before it. `epoch`: of the worker that asks. Asking
    again for the same request changes nothing."""
    values = {"content": use.content, "request_id": use.request_id, "epoch": epoch, "taken_at": now_ns}
    while True:
        if (await conn.execute(_TAKE, {"key_id": use.key, "name": use.name, **values})).rowcount:
            return use
        row = (await conn.execute(select(idempotency_keys).where(_at(use)).with_for_update())).first()
        if row is None:
            continue  # whoever had it has just released it
        if row.taken_at > now_ns - KEPT_NS and not await _is_abandoned(conn, row):
            return KeyUse(use.key, use.name, row.content, row.request_id)
        await conn.execute(update(idempotency_keys).where(_at(use)).values(values))
        return use


async def release(conn: AsyncConnection, use: KeyUse) -> None:
    """Lets the Idempotency-Key be used again. Where another request has it, that one keeps it."""
    own = idempotency_keys.c.request_id == use.request_id
    await conn.execute(delete(idempotency_keys).where(_at(use), own))


async def prune(engine: AsyncEngine, now_ns: int) -> int:
    """Deletes the uses that count no more because of their age; how many there were."""
    return await delete_in_chunks(engine, idempotency_keys, idempotency_keys.c.taken_at <= now_ns - KEPT_NS)


def _at(use: KeyUse) -> ColumnElement[bool]:
    return and_(idempotency_keys.c.key_id == use.key, idempotency_keys.c.name == use.name)


async def _is_abandoned(conn: AsyncConnection, row: Any) -> bool:
    """Attempts are named `<request id>:<n>`, and `;` comes after `:`."""
    read = exists().where(journals.c.epoch == row.epoch, journals.c.state == "finished", journals.c.damages == 0)
    attempt = entries.c.attempt_id
    sent = exists().where(attempt >= f"{row.request_id}:", attempt < f"{row.request_id};")
    return bool((await conn.execute(select(and_(read, ~sent)))).scalar())
