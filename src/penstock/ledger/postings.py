"""Postings: the ledger's SQL. Each function works inside the transaction of the connection it is given.

The statements are written out, with `?` for each value, and run with rows of plain tuples: they are what every call
costs in the control process.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection

from penstock.domain.money import MAX_NANOUSD
from penstock.domain.policy import BalanceKey, Charge, Span
from penstock.errors import PenstockError
from penstock.ledger.batch import Batch
from penstock.ledger.windows import SHORT, SLIDING_S, SPANS, oldest_open

_ADD_ENTRY = "INSERT INTO entries (attempt_id, step, kind, at, epoch, charges, cause) VALUES (?, ?, ?, ?, ?, ?, ?)"
_ADD_HOLD = "INSERT INTO open_holds (attempt_id, epoch, record) VALUES (?, ?, ?)"
_EXTEND_HOLD = _ADD_HOLD + " ON CONFLICT (attempt_id) DO UPDATE SET record = excluded.record"
_DROP_HOLD = "DELETE FROM open_holds WHERE attempt_id = ?"
_SETTLE_BALANCE = """
    INSERT INTO balances (limit_id, window_start, value, per, settled) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (limit_id, window_start, value) DO UPDATE SET settled =
        CASE WHEN balances.settled > 9223372036854775807 - excluded.settled THEN 9223372036854775807
             ELSE balances.settled + excluded.settled END"""
"""A sum that does not fit stays at the highest amount there is, where no limit admits anything any more."""
_SETTLE_SHARE = _SETTLE_BALANCE.replace("balances", "shares")
_OPEN_BALANCES = "SELECT limit_id, window_start, value, settled, per FROM balances WHERE per = ? AND window_start >= ?"
_OPEN_SHARES = "SELECT limit_id, window_start, value, settled, per FROM shares WHERE per = ? AND window_start >= ?"
_BALANCE = "SELECT settled FROM balances WHERE limit_id = ? AND window_start = ? AND value = ?"
_SHARE = _BALANCE.replace("balances", "shares")
_TRAIL_OF_BALANCES = """
    SELECT settled FROM balances WHERE limit_id = ? AND window_start >= ? AND value = ? AND per = ?"""
_TRAIL_OF_SHARES = _TRAIL_OF_BALANCES.replace("balances", "shares")
_DROP_OLD_SHARES = "DELETE FROM shares WHERE window_start < ?"
_KNOWN_STEPS = "SELECT attempt_id, step FROM entries WHERE attempt_id = ?"
_HELD_BY = "SELECT record FROM open_holds WHERE epoch = ? ORDER BY attempt_id"
_ALL_HELD = """
    SELECT record FROM open_holds WHERE epoch NOT IN (SELECT epoch FROM journals WHERE state = 'lost')"""
"""What a lost box held is charged with all that it had leased."""

_CURSORS = "SELECT epoch, part, position, damages FROM journals WHERE box = ?"
_OWNER = "SELECT box FROM journals WHERE epoch = ?"
_ADOPT = "UPDATE journals SET box = ? WHERE epoch = ? AND box = ''"
_ADOPT_ALL = "UPDATE journals SET box = ? WHERE state <> 'lost'"
_UNFINISHED = "SELECT epoch FROM journals WHERE state <> 'finished' AND box = ?"
_NEWEST_EPOCH = "SELECT max(epoch) FROM journals"
_ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(7305611970447105)"
_ADD_JOURNAL = """
    INSERT INTO journals (epoch, part, position, state, damages, opened_at, box) VALUES (?, ?, ?, 'open', 0, ?, ?)"""
_ADVANCE = "UPDATE journals SET part = ?, position = ?, damages = ? WHERE epoch = ? AND part = ? AND position = ?"
_FINISH = "UPDATE journals SET state = 'finished' WHERE epoch = ?"


class Cursor(Struct, frozen=True):
    """How far one epoch's journal is in the ledger: which of its files, how many bytes of it, and in how many places
    it could not be read or repeated itself."""

    epoch: int
    part: int
    position: int
    damages: int = 0


def run(connection: Connection, statement: str, values: Sequence[Any] = ()) -> Any:
    """One statement in the dialect's own placeholders."""
    return connection.exec_driver_sql(_placed(connection, statement), tuple(values))


def run_many(connection: Connection, statement: str, rows: list[Any]) -> None:
    """One statement with each of these rows; there is at least one."""
    connection.exec_driver_sql(_placed(connection, statement), rows)


def write_batch(connection: Connection, batch: Batch) -> None:
    """Adds a batch's entries and what follows from them. Raises `IntegrityError` when a step is in the ledger."""
    if batch.entries:
        run_many(connection, _ADD_ENTRY, batch.entries)
    if batch.opened:
        run_many(connection, _ADD_HOLD, [(attempt, batch.epoch, record) for attempt, record in batch.opened.items()])
    if batch.extended:
        held = sorted(batch.extended.items())
        run_many(connection, _EXTEND_HOLD, [(attempt, batch.epoch, record) for attempt, record in held])
    if batch.resolved:
        run_many(connection, _DROP_HOLD, [(attempt,) for attempt in batch.resolved])
    _settle(connection, _SETTLE_BALANCE, batch.sums, lambda per: per not in SHORT)
    _settle(connection, _SETTLE_SHARE, batch.sums, lambda per: per in SHORT)


def settled_on(connection: Connection, key: BalanceKey) -> int:
    """What is settled on one balance; 0 when its window has turned. Of a sliding window, on every bucket from that of
    `key` on."""
    limit, start, value, span = key
    if span in SLIDING_S:
        trail = _TRAIL_OF_SHARES if span in SHORT else _TRAIL_OF_BALANCES
        return min(sum(int(row[0]) for row in run(connection, trail, (limit, start, value, span))), MAX_NANOUSD)
    row = run(connection, _SHARE if span in SHORT else _BALANCE, (limit, start, value)).first()
    return int(row[0]) if row else 0


def open_balances(connection: Connection, now_s: int) -> list[Charge]:
    """What is settled in every window that may be open at `now_s`, whatever its time zone, or begins after it."""
    found: list[Charge] = []
    for span in SPANS:
        rows = run(connection, _OPEN_SHARES if span in SHORT else _OPEN_BALANCES, (span, oldest_open(span, now_s)))
        found.extend(Charge(*row) for row in rows)
    return found


def drop_old_shares(connection: Connection, before_s: int) -> None:
    run(connection, _DROP_OLD_SHARES, (before_s,))


def known_steps(connection: Connection, attempts: Iterable[str]) -> set[tuple[str, int]]:
    """Which steps of these attempts the ledger has."""
    return {(row[0], row[1]) for attempt in attempts for row in run(connection, _KNOWN_STEPS, (attempt,))}


def held_records(connection: Connection, epoch: int | None = None) -> list[bytes]:
    """The records of the open holds: of one epoch, or of all."""
    rows = run(connection, _ALL_HELD) if epoch is None else run(connection, _HELD_BY, (epoch,))
    return [row[0] for row in rows]


def load_cursors(connection: Connection, box: str) -> dict[int, Cursor]:
    """Of the journals on the disk of `box`."""
    return {row[0]: Cursor(*row) for row in run(connection, _CURSORS, (box,))}


def unfinished(connection: Connection, box: str) -> set[int]:
    """The epochs of `box` that nobody has finished."""
    return {row[0] for row in run(connection, _UNFINISHED, (box,))}


def owner(connection: Connection, epoch: int) -> str | None:
    """The box on whose disk this epoch's journal lies; None for an epoch that the database does not know."""
    row = run(connection, _OWNER, (epoch,)).first()
    return None if row is None else str(row[0])


def adopt(connection: Connection, epoch: int, box: str) -> None:
    """Makes a journal that is no box's, from before there were several, that of `box`."""
    run(connection, _ADOPT, (box, epoch))


def adopt_all(connection: Connection, box: str) -> None:
    """Makes every journal that of `box`, in a store that has no other box from now on. Those of lost boxes, which are
    charged in full, stay as they are."""
    run(connection, _ADOPT_ALL, (box,))


def newest_epoch(connection: Connection) -> int:
    """Over all boxes; no other takes the one after it before this transaction has ended."""
    if connection.dialect.name == "postgresql":
        run(connection, _ONE_AT_A_TIME)
    return run(connection, _NEWEST_EPOCH).scalar() or 0


def add_journal(connection: Connection, cursor: Cursor, at: int, box: str) -> None:
    """`at`: Unix nanoseconds."""
    run(connection, _ADD_JOURNAL, (cursor.epoch, cursor.part, cursor.position, at, box))


def advance(connection: Connection, read: Cursor, following: Cursor) -> None:
    """Moves a cursor. Raises `PenstockError` when it is not where it was thought to be: someone else reads this
    journal, and the transaction must not stand."""
    values = (following.part, following.position, following.damages, read.epoch, read.part, read.position)
    if run(connection, _ADVANCE, values).rowcount != 1:
        raise PenstockError(f"journal {read.epoch} is read by another committer")


def finish_journal(connection: Connection, epoch: int) -> None:
    run(connection, _FINISH, (epoch,))


def _settle(
    connection: Connection, statement: str, sums: Mapping[BalanceKey, int], chosen: Callable[[Span], bool]
) -> None:
    """In one order always, so that two writers never wait for each other."""
    rows = sorted((start, limit, value, per, sum_) for (limit, start, value, per), sum_ in sums.items() if chosen(per))
    if rows:
        run_many(connection, statement, [(limit, start, value, per, sum_) for start, limit, value, per, sum_ in rows])


def _placed(connection: Connection, statement: str) -> str:
    return statement if connection.dialect.paramstyle == "qmark" else statement.replace("?", "%s")
