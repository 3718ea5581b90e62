"""Adjustments: entries by which a person moves a balance, and the order in which workers learn of them.

An adjustment is an entry like any other: it is added and never changed, and its balance is still the sum of its
entries. Adjustments are numbered from 1 without a gap, in the order in which they became durable. A worker applies them
in that order and remembers the last one, so that each counts once however often it is told.
"""

from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, and_, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.policy import Charge
from penstock.store.tables.ledger import balances, entries

STEP = 2
_PREFIX = "adj"
_DIGITS = 12

_MOVE = text("""
    INSERT INTO balances (limit_id, window_start, value, per, settled)
    VALUES (:limit_id, :window_start, :value, :per, :amount)
    ON CONFLICT (limit_id, window_start, value) DO UPDATE SET settled = balances.settled + excluded.settled""")
"""In one statement, since a committer may make the same balance at this moment."""

_encoder = msgspec.msgpack.Encoder()
_charges = msgspec.msgpack.Decoder(tuple[Charge, ...])


class Adjustment(Struct, frozen=True, array_like=True):
    """`charge.amount` is what was added to the balance, below 0 what was taken off it. `at`: Unix nanoseconds."""

    number: int
    at: int
    charge: Charge
    reason: str
    actor: str

    @property
    def id(self) -> str:
        return f"{_PREFIX}{self.number:0{_DIGITS}d}"


def newest(connection: Connection) -> int:
    """The number of the last adjustment; 0 when there was none."""
    last = connection.execute(select(func.max(entries.c.attempt_id)).where(_is_adjustment())).scalar()
    return 0 if last is None else _number(last)


async def settled(conn: AsyncConnection, place: Charge) -> int:
    """What is settled on the balance of `place` at this moment, which nobody else may change meanwhile."""
    query = select(balances.c.settled).where(_balance_of(place)).with_for_update()
    return (await conn.execute(query)).scalar() or 0


async def write(conn: AsyncConnection, made: Adjustment) -> None:
    """Adds the entry and moves the balance; whether the balance can bear it was checked before."""
    charge = made.charge
    entry = {"attempt_id": made.id, "step": STEP, "kind": "adjustment", "at": made.at, "epoch": 0}
    words = {"cause": made.reason, "actor": made.actor}
    await conn.execute(insert(entries).values(**entry, **words, charges=_encoder.encode((charge,))))
    place = {"limit_id": charge.limit, "window_start": charge.window_start, "value": charge.value}
    await conn.execute(_MOVE, {**place, "per": charge.per, "amount": charge.amount})


async def after(conn: AsyncConnection, number: int, limit: int) -> list[Adjustment]:
    """Up to `limit` adjustments that came after number `number`, in their order."""
    query = _chosen().where(entries.c.attempt_id > f"{_PREFIX}{number:0{_DIGITS}d}").order_by(entries.c.attempt_id)
    return [_read(row) for row in await conn.execute(query.limit(limit))]


async def before(conn: AsyncConnection, number: int | None, limit: int) -> list[Adjustment]:
    """Up to `limit` adjustments that came before number `number` (None: all), the newest first."""
    query = _chosen().order_by(entries.c.attempt_id.desc())
    if number is not None:
        query = query.where(entries.c.attempt_id < f"{_PREFIX}{number:0{_DIGITS}d}")
    return [_read(row) for row in await conn.execute(query.limit(limit))]


def _chosen() -> Any:
    columns = entries.c
    return select(columns.attempt_id, columns.at, columns.charges, columns.cause, columns.actor).where(_is_adjustment())


def _read(row: Any) -> Adjustment:
    (charge,) = _charges.decode(row.charges)
    return Adjustment(_number(row.attempt_id), row.at, charge, row.cause, row.actor)


def _number(id: str) -> int:
    return int(id.removeprefix(_PREFIX))


def _is_adjustment() -> ColumnElement[bool]:
    """By the primary key, so that it is quick in a ledger of many entries. Calls' attempts begin with `req_`."""
    return and_(entries.c.attempt_id >= f"{_PREFIX}0", entries.c.attempt_id < f"{_PREFIX}a", entries.c.step == STEP)


def _balance_of(place: Charge) -> ColumnElement[bool]:
    return and_(
        balances.c.limit_id == place.limit,
        balances.c.window_start == place.window_start,
        balances.c.value == place.value,
    )
