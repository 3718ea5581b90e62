"""The log of changes: how boxes on one database learn what the others changed.

Every change writes `(kind, name)` into the audit log. Changes of all boxes run one after another, so the order of their
numbers is the order in which they became durable: whoever has seen the log up to a number has missed nothing before it.
A change also calls out to whoever listens, which is only a hint; what counts is a look at the log.

On SQLite there is one box, whose changes the database puts in order by itself.

The same way goes the news that a box lacks what workers of others have leased, and that a provider has rejected a
credential: hints as well, since what is not used comes back by itself, and each box finds out by its own calls.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.lease import Place
from penstock.providers.rejections import Verdict
from penstock.store.tables.control import audit

CHANNEL = "penstock_changes"
RECALLS = "penstock_recalls"
ASIDES = "penstock_asides"
RIGHTS = ("binding", "user", "group", "token", "session", "organisation", "team", "project")
"""The kinds of what rights come from."""
_MAX_PAYLOAD_BYTES = 7_900
"""PostgreSQL takes less than 8,000."""
_LOCK = 7_305_611_970_447_104
"""The key of the advisory lock; any number that is always the same, and none of the other locks'."""
_ONE_AT_A_TIME = text(
    "SELECT set_config('lock_timeout', '30s', true), "
    "set_config('idle_in_transaction_session_timeout', '15s', true), pg_advisory_xact_lock(:key), "
    "pg_notify(:channel, '')"
)
"""A box that stands still in the middle of a change must not hold up those of the others for ever. The call goes out
when the transaction is durable, and not at all when it is not: to say it here saves a trip to the database before
that."""


class Aside(Struct, frozen=True, array_like=True):
    """What the workers of box `box` have heard of a provider's credential. `mark` tells one value from the next, and is
    keyed, so that it says nothing of the value to others on the database. `verdict`: empty when it is taken again."""

    box: str
    provider: str
    credential: str
    mark: str
    verdict: Verdict


class News(NamedTuple):
    """`newest`: the log's last number. `names`: kind -> what was written of it."""

    newest: int
    names: dict[str, set[str]]


async def take_turn(conn: AsyncConnection) -> None:
    """Until this transaction ends, no other box changes anything; those who listen are woken once it is durable. Raises
    OperationalError when another takes too long."""
    if conn.dialect.name == "postgresql":
        await conn.execute(_ONE_AT_A_TIME, {"key": _LOCK, "channel": CHANNEL})


def take_turn_now(connection: Connection) -> None:
    """`take_turn` for a process beside the gateway, such as one that makes a backup."""
    if connection.dialect.name == "postgresql":
        connection.execute(_ONE_AT_A_TIME, {"key": _LOCK, "channel": CHANNEL})


async def newest(conn: AsyncConnection) -> int:
    """The log's last number; 0 while it is empty."""
    return (await conn.execute(select(func.max(audit.c.seq)))).scalar() or 0


async def after(conn: AsyncConnection, seq: int) -> News:
    """What was written after number `seq`, in the picture that `conn` has."""
    names: dict[str, set[str]] = {}
    for number, kind, name in await conn.execute(
        select(audit.c.seq, audit.c.kind, audit.c.name).where(audit.c.seq > seq)
    ):
        names.setdefault(kind, set()).add(name)
        seq = max(seq, number)
    return News(seq, names)


async def moved_rights(conn: AsyncConnection, seq: int) -> bool:
    """Whether anything was written after number `seq` on which depends who may come in, and what they may do."""
    later = select(audit.c.seq).where(audit.c.seq > seq, audit.c.kind.in_(RIGHTS)).limit(1)
    return (await conn.execute(later)).first() is not None


async def recall(conn: AsyncConnection, recalls: Mapping[int, Sequence[Place]]) -> None:
    """Tells those who listen which places others lack of what these epochs have."""
    for epoch, places in recalls.items():
        for place in places:
            payload = msgspec.json.encode((epoch, place)).decode()
            if len(payload.encode()) <= _MAX_PAYLOAD_BYTES:
                await conn.execute(select(func.pg_notify(RECALLS, payload)))


async def tell_asides(conn: AsyncConnection, asides: Sequence[Aside]) -> None:
    """Tells those who listen what was heard of credentials."""
    for aside in asides:
        await conn.execute(select(func.pg_notify(ASIDES, msgspec.json.encode(aside).decode())))


def read_aside(payload: str) -> Aside:
    """What `tell_asides` said. Raises `msgspec.MsgspecError` for anything else."""
    return msgspec.json.decode(payload, type=Aside)


def read_recall(payload: str) -> dict[int, tuple[Place, ...]]:
    """What `recall` said. Raises `msgspec.MsgspecError` for anything else."""
    epoch, place = msgspec.json.decode(payload, type=tuple[int, Place])
    return {epoch: (place,)}
