"""The roll: which boxes share this database, which workers they have, and which of them obey a kill.

Each box writes what its own workers confirm; any box answers for all. Everything here is PostgreSQL's: an embedded
database has one box, whose control process knows its workers by itself.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.records.receipts import rfc3339
from penstock.store.claim import timed

SILENT_S = 5.0
"""A box that was not heard of for this long is not waited for."""
KEPT_GENERATIONS = 300
FORGOTTEN_AFTER_S = 30 * 86_400
"""How long a box that stopped in good order is remembered."""

_SAY_NODE = text("""
    INSERT INTO nodes (node, box, connected) VALUES (:node, :box, :connected)
    ON CONFLICT (node) DO UPDATE SET box = excluded.box, connected = excluded.connected""")
_SAY_CONFIRMED = text("""
    INSERT INTO confirmations (node, generation, confirmed_at, streams_cut)
    VALUES (:node, :generation, :confirmed_at, :streams_cut)
    ON CONFLICT (node, generation) DO UPDATE SET streams_cut = excluded.streams_cut""")
_FORGET_NODES = text("DELETE FROM nodes WHERE box = :box")
_BOXES = timed(
    "SELECT id, node, release, state, started_at, seen_at, NOW_NS - seen_at AS silent FROM boxes ORDER BY node"
)
_OBEYING = timed("""
    SELECT nodes.node, nodes.connected = 1 AND boxes.state = 'live' AND NOW_NS - boxes.seen_at < :silent AS reachable,
        first.confirmed_at, first.streams_cut
    FROM nodes JOIN boxes ON boxes.id = nodes.box LEFT JOIN LATERAL (
        SELECT confirmed_at, streams_cut FROM confirmations
        WHERE confirmations.node = nodes.node AND generation >= :generation ORDER BY generation LIMIT 1
    ) AS first ON true
    WHERE nodes.box <> :box AND boxes.state <> 'stopped' ORDER BY nodes.node""")
_FORGET_BOXES = timed("DELETE FROM boxes WHERE state = 'stopped' AND seen_at < NOW_NS - :age")
_FORGET_STRAYS = text("DELETE FROM nodes WHERE box NOT IN (SELECT id FROM boxes)")
_FORGET_CONFIRMATIONS = text(
    "DELETE FROM confirmations WHERE generation < (SELECT max(generation) FROM kills) - :kept "
    "OR node NOT IN (SELECT node FROM nodes)"
)


class Confirmed(Struct, frozen=True):
    """A worker obeys every kill up to `generation` since `at` (Unix nanoseconds of its box's clock)."""

    generation: int
    at: int
    streams_cut: int


class Report(Struct, frozen=True):
    """What a box knows of one of its workers. `confirmed`: the newest, in ascending order."""

    node: str
    connected: bool
    confirmed: tuple[Confirmed, ...] = ()


class KnownBox(Struct, frozen=True):
    """`silent_s`: for how long it was not heard of, by the database's clock. Times are Unix nanoseconds."""

    id: str
    node: str
    release: str
    state: str
    started_at: int
    seen_at: int
    silent_s: float


async def say(conn: AsyncConnection, box: str, reports: Sequence[Report]) -> None:
    """Writes what `box` knows of its workers."""
    if not reports:
        return
    await conn.execute(
        _SAY_NODE, [{"node": each.node, "box": box, "connected": int(each.connected)} for each in reports]
    )
    confirmed = [
        {"node": each.node, "generation": it.generation, "confirmed_at": it.at, "streams_cut": it.streams_cut}
        for each in reports
        for it in each.confirmed
    ]
    if confirmed:
        await conn.execute(_SAY_CONFIRMED, confirmed)


async def forget_workers(conn: AsyncConnection, box: str) -> None:
    """For a box that has none: nobody needs to wait for those that it had."""
    await conn.execute(_FORGET_NODES, {"box": box})


async def boxes(conn: AsyncConnection) -> list[KnownBox]:
    """All of them, by node."""
    return [
        KnownBox(row.id, row.node, row.release, row.state, row.started_at, row.seen_at, row.silent / 1e9)
        for row in await conn.execute(_BOXES)
    ]


async def obeying(conn: AsyncConnection, generation: int, box: str) -> list[dict[str, Any]]:
    """Per worker of the other boxes than `box`: whether it obeys the kill, since when, and how many of its calls were
    cut for it, as `GET /admin/v1/kill/N` shows it."""
    asked = {"generation": generation, "box": box, "silent": int(SILENT_S * 1e9)}
    return [
        kill_status(row.node, row.reachable, _first(generation, row.confirmed_at, row.streams_cut))
        for row in await conn.execute(_OBEYING, asked)
    ]


def kill_status(node: str, reachable: bool, confirmed: Confirmed | None) -> dict[str, Any]:
    """One worker and one kill, as shown. `confirmed`: the confirmation that covered it first."""
    if confirmed is not None:
        at, cut = rfc3339(confirmed.at), confirmed.streams_cut
        return {"node": node, "state": "confirmed", "confirmed_at": at, "streams_cut": cut}
    state = "pending" if reachable else "unreachable"
    return {"node": node, "state": state, "confirmed_at": None, "streams_cut": 0}


async def prune(conn: AsyncConnection) -> None:
    """Forgets the boxes that stopped long ago, their workers, and what was confirmed of old kills."""
    await conn.execute(_FORGET_BOXES, {"age": int(FORGOTTEN_AFTER_S * 1e9)})
    await conn.execute(_FORGET_STRAYS)
    await conn.execute(_FORGET_CONFIRMATIONS, {"kept": KEPT_GENERATIONS})


def _first(generation: int, at: int | None, streams_cut: int | None) -> Confirmed | None:
    return None if at is None else Confirmed(generation, at, streams_cut or 0)
