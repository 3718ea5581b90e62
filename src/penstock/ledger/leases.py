"""Leases: the SQL of what workers may spend without asking. Each function works inside the transaction of the
connection it is given.

A grant and a settlement may run at the same moment: a grant changes a row by what it adds, a settlement by what it
posts, and both come to the rows in the order of their keys. Two grants may not, on whatever box they are made, nor may
a grant and whatever ends an epoch's leases; these take `lock` first.
"""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct
from sqlalchemy import Connection

from penstock.domain.lease import Granted, Place
from penstock.domain.money import MAX_NANOUSD
from penstock.domain.policy import BalanceKey, Span
from penstock.ledger.postings import run, run_many
from penstock.ledger.registers import Register, Row
from penstock.ledger.windows import SHORT, SLIDING_S, last_counts_until, oldest_open

KEPT_S = 180
"""How long a row is kept that only says since when a share may be used: longer than a clock is behind another."""
PLACES_AT_ONCE = 50

_LOCK_KEY = 7_305_611_970_447_103
"""The key of PostgreSQL's advisory lock; any number that is always the same and nobody else's in this database."""
_LOCK = "SELECT pg_advisory_xact_lock(?)"

_POST = """
    UPDATE leases SET
        posted = CASE WHEN posted > 9223372036854775807 - ? THEN 9223372036854775807 ELSE posted + ? END,
        granted = CASE WHEN posted > 9223372036854775807 - ? THEN 9223372036854775807
                       WHEN granted > posted + ? THEN granted ELSE posted + ? END
    WHERE limit_id = ? AND window_start = ? AND value = ? AND per = ? AND epoch = ?"""
_CHANGE = """
    INSERT INTO leases (limit_id, window_start, value, per, epoch, granted, posted, since)
    VALUES (?, ?, ?, ?, ?, ?, 0, ?)
    ON CONFLICT (limit_id, window_start, value, per, epoch) DO UPDATE SET
        granted = excluded.granted + CASE WHEN leases.granted - ? > leases.posted THEN leases.granted - ?
                                          ELSE leases.posted END,
        since = CASE WHEN leases.since > excluded.since THEN leases.since ELSE excluded.since END"""
_ROWS = """
    SELECT {place} AS place, epoch, granted, posted, since, until_s FROM leases
    WHERE limit_id = ? AND window_start = ? AND value = ? AND per = ?"""
_SETTLED = """
    SELECT {place}, 0, window_start, settled, 0, NULL FROM {table}
    WHERE limit_id = ? AND window_start BETWEEN ? AND ? AND value = ? AND per = ?"""
_LIVING = """
    SELECT journals.epoch, lease_requests.number, lease_requests.answer FROM journals
    LEFT JOIN lease_requests ON lease_requests.epoch = journals.epoch WHERE journals.state = 'open'"""
_REMEMBER = """
    INSERT INTO lease_requests (epoch, number, answer) VALUES (?, ?, ?)
    ON CONFLICT (epoch) DO UPDATE SET number = excluded.number, answer = excluded.answer"""

_HAS_ASKED = "SELECT 1 FROM lease_requests WHERE epoch = ?"
_FORGET_REQUEST = "DELETE FROM lease_requests WHERE epoch = ?"
_BOUND = "UPDATE leases SET until_s = ? WHERE epoch = ? AND per = ?"
_DROP_UNBOUND = "DELETE FROM leases WHERE epoch = ? AND until_s IS NULL"
_USED = "SELECT limit_id, value, SUM(settled) FROM shares WHERE per = ? AND window_start >= ? GROUP BY limit_id, value"
_NEWEST = "SELECT per, MAX(window_start) FROM shares GROUP BY per"
_SHARED = """
    SELECT limit_id, value, SUM(granted) FROM leases WHERE per = ? AND (until_s IS NULL OR until_s > ?)
    GROUP BY limit_id, value"""
_ADD_USED = """
    INSERT INTO leases (limit_id, window_start, value, per, epoch, granted, posted, since, until_s)
    VALUES (?, 0, ?, ?, ?, ?, 0, 0, ?)"""
_FIND_IDLE = """
    SELECT limit_id, window_start, value, per, epoch FROM leases
    WHERE (granted <= posted AND since < ?) OR until_s < ?"""
_DROP_IDLE = """
    DELETE FROM leases WHERE limit_id = ? AND window_start = ? AND value = ? AND per = ? AND epoch = ?
    AND ((granted <= posted AND since < ?) OR until_s < ?)"""


class Living(Struct, frozen=True):
    """A living worker's last request and its answer; 0 and none before the first."""

    number: int = 0
    answer: tuple[Granted, ...] = ()


_encoder = msgspec.msgpack.Encoder()
_answers = msgspec.msgpack.Decoder(tuple[Granted, ...])


def lock(connection: Connection) -> None:
    """From here to the end of the transaction nobody else, on any box, makes or ends leases. On SQLite a transaction
    that writes is alone as it is."""
    if connection.dialect.name == "postgresql":
        run(connection, _LOCK, (_LOCK_KEY,))


def post(connection: Connection, epoch: int, sums: Mapping[BalanceKey, int]) -> None:
    """What an epoch settles comes off what it was leased, in the same transaction. What was billed beyond a lease is
    settled all the same, and makes the lease as large as that. An epoch without leases has no rows to change."""
    together: dict[Place, int] = {}
    for (limit, start, value, span), sum_ in sums.items():
        if span not in SHORT:
            place = Place(limit, 0 if span in SLIDING_S else start, value, span)
            together[place] = min(together.get(place, 0) + sum_, MAX_NANOUSD)
    if together:
        run_many(connection, _POST, [(*[sum_] * 5, *place, epoch) for place, sum_ in sorted(together.items())])


def living(connection: Connection) -> dict[int, Living]:
    """The workers whose journals nobody has finished, by epoch."""
    return {
        epoch: Living() if number is None else Living(number, _answers.decode(answer))
        for epoch, number, answer in run(connection, _LIVING)
    }


def load(connection: Connection, places: Mapping[Place, tuple[int, int]], now_s: int) -> dict[Place, Register]:
    """What the store knows of these places. With each come the first and the last start of the windows, or buckets,
    that count there. One statement reads what is settled and what is leased, so that it sees every settlement on
    both sides or on none."""
    found: dict[Place, Register] = {}
    wanted = list(places)
    for first in range(0, len(wanted), PLACES_AT_ONCE):
        some = wanted[first : first + PLACES_AT_ONCE]
        parts, values = [], []
        for number, place in enumerate(some):
            parts += [_ROWS.format(place=number), _SETTLED.format(place=number, table=_table(place))]
            values += [*place, place.limit, *places[place], place.value, place.per]
        settled: list[dict[int, int]] = [{} for _ in some]
        rows: list[dict[int, Row]] = [{} for _ in some]
        for number, epoch, *amounts in run(connection, " UNION ALL ".join(parts), values):
            if epoch:
                rows[number][epoch] = Row(*amounts)
            else:
                settled[number][amounts[0]] = amounts[1]
        found.update((place, Register(place, settled[n], rows[n], now_s)) for n, place in enumerate(some))
    return found


def write(connection: Connection, registers: Iterable[Register]) -> None:
    """Makes the changes of all registers."""
    rows = [
        (*register.place, epoch, change.added, change.since, change.given, change.given)
        for register in registers
        for epoch, change in register.changes.items()
    ]
    if rows:
        run_many(connection, _CHANGE, sorted(rows))


def remember(connection: Connection, epoch: int, number: int, answer: tuple[Granted, ...]) -> None:
    run(connection, _REMEMBER, (epoch, number, _encoder.encode(answer)))


def end(connection: Connection, epoch: int, now_s: int) -> None:
    """Ends the leases of an epoch whose journal is settled to its end: nothing is spent from them any more. What it
    had of shares may be used up in windows that are still open, and counts until they are over. The transaction began
    with `lock`."""
    asked = run(connection, _HAS_ASKED, (epoch,)).first() is not None
    # A worker's clock that was put back stands still until it has caught up: its window may begin after `now_s`.
    newest: dict[Span, int] = {row[0]: row[1] for row in run(connection, _NEWEST)}
    for span in sorted(SHORT):
        until_s = last_counts_until(span, min(max(now_s, newest.get(span, 0)), now_s + KEPT_S))
        if asked:
            run(connection, _BOUND, (until_s, epoch, span))
        elif used := _used(connection, span, now_s):
            # It was alone, and had the whole of every share: what it used is not free for those who live from slices.
            run_many(connection, _ADD_USED, [(limit, value, span, epoch, n, until_s) for limit, value, n in used])
    run(connection, _DROP_UNBOUND, (epoch,))
    run(connection, _FORGET_REQUEST, (epoch,))


def prune(connection: Connection, now_s: int) -> None:
    """Forgets the rows that take nothing from anybody."""
    before = (now_s - KEPT_S, now_s - KEPT_S)
    if idle := sorted(tuple(row) for row in run(connection, _FIND_IDLE, before)):
        lock(connection)
        run_many(connection, _DROP_IDLE, [(*row, *before) for row in idle])


def _used(connection: Connection, span: Span, now_s: int) -> list[tuple[str, str, int]]:
    """Limit, value, and what was used of a share in the windows that are open and is nobody's slice."""
    shared = {(limit, value): int(sum_) for limit, value, sum_ in run(connection, _SHARED, (span, now_s))}
    used = run(connection, _USED, (span, oldest_open(span, now_s)))
    found = [(limit, value, min(int(sum_), MAX_NANOUSD) - shared.get((limit, value), 0)) for limit, value, sum_ in used]
    return [(limit, value, amount) for limit, value, amount in found if amount > 0]


def _table(place: Place) -> str:
    """Which has what is settled there."""
    return "shares" if place.per in SHORT else "balances"
