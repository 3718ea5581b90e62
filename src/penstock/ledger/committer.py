"""The committer: moves journals into the database, exactly once.

It reads whatever journals lie in its directory, in batches. One transaction per batch adds the entries, the balances
and everything that follows from them, hands the usage events on, and stores how far the journal has been read: what
is rolled back is read again, and what is committed is not. All of it happens in one thread of its own.

A journal whose lock can be taken belongs to a dead process. `open_epoch` reads it to its end, posts what it left
unresolved as estimates, ends its leases, and deletes it.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TypeVar

from msgspec import Struct
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from penstock.domain.events import UsageEvent
from penstock.domain.policy import BalanceKey, Charge, Limit
from penstock.errors import JournalDamaged, StoreInUse
from penstock.ledger import leases
from penstock.ledger.adjustments import newest
from penstock.ledger.batch import Batch, crashed, decode_hold
from penstock.ledger.frames import after_damage, frames
from penstock.ledger.postings import (
    Cursor,
    add_journal,
    adopt,
    advance,
    drop_old_shares,
    finish_journal,
    held_records,
    known_steps,
    load_cursors,
    newest_epoch,
    open_balances,
    owner,
    settled_on,
    unfinished,
    write_batch,
)
from penstock.ledger.shelf import Shelf
from penstock.ledger.windows import SLIDING_S, oldest_open
from penstock.store.engine import durably, reading

BATCH_RECORDS = 1_000
SHARES_KEPT_S = 180
"""Longer than any window that is a share counts, and a call is late."""
SHARES_LOOKED_AT_S = 60
NS_PER_S = 1_000_000_000

OnEvents = Callable[[Connection, Sequence[UsageEvent]], None]
"""Called inside the batch's transaction, in the committer's own thread, with a synchronous connection."""

_T = TypeVar("_T")


class Alert(Struct, frozen=True):
    """`settled` has crossed `fraction` of the limit's amount on one balance; of a limit on concurrent calls, how many
    are in flight. `window_start`: Unix seconds."""

    limit: Limit
    window_start: int
    value: str
    fraction: float
    settled: int


class Watch(Struct, frozen=True):
    """`limits`: those in force, by id; called in the committer's thread. `on_alert`: called on the event loop, once per
    crossing."""

    limits: Callable[[], Mapping[str, Limit]]
    on_alert: Callable[[Alert], None]


class Opened(Struct, frozen=True):
    """What a new worker begins with: its epoch, the file that it opens, and, for one that is alone, what is settled in
    every open window, the adjustments up to number `adjusted` included."""

    epoch: int
    journal: str
    balances: tuple[Charge, ...] = ()
    adjusted: int = 0


class Committer:
    """`engine`: of `store.engine.committer_engine`. `directory` holds the journals and is made where it is missing.
    `clock` gives Unix nanoseconds. `box`: the id of the box that the directory belongs to; empty for the only one."""

    def __init__(
        self,
        engine: Engine,
        directory: Path,
        on_events: OnEvents,
        watch: Watch | None = None,
        clock: Callable[[], int] = time.time_ns,
        *,
        box: str = "",
    ) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._engine = engine
        self._shelf = Shelf(directory)
        self._on_events = on_events
        self._watch = watch
        self._clock = clock
        self._box = box
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="committer")
        self._turn = asyncio.Lock()
        self._passes_begun = 0
        self._last_good_pass = 0
        self._cursors: dict[int, Cursor] = {}
        self._alerts: list[Alert] = []
        self._shares_dropped_at_s = 0

    # -- what the control process calls -------------------------------------------------------------------------------

    async def drain(self) -> int:
        """Moves everything that was written before this call into the database. Returns how many records this pass
        moved; calls that come while a pass runs share the next one, and all but its first get 0."""
        begun = self._passes_begun
        async with self._turn:
            if self._last_good_pass > begun:
                return 0
            self._passes_begun += 1
            moved = await self._in_thread(self._drain)
            self._last_good_pass = self._passes_begun
        self._raise_alerts()
        return moved

    async def open_epoch(self, starting: Collection[int] = (), *, is_sole: bool = True) -> Opened:
        """Finishes every journal whose process is dead, and makes the next one. `starting`: epochs of processes that
        live and may not have locked their journals yet. `is_sole`: whether its worker holds the whole of every balance
        and is told what is settled; one that lives from leases has no use for it."""
        async with self._turn:
            opened = await self._in_thread(lambda: self._open_epoch(starting, is_sole))
        self._raise_alerts()
        return opened

    async def own_journals(self) -> None:
        """Makes sure of it that the journals in the directory are this box's. Raises StoreInUse for another's."""
        async with self._turn:
            await self._in_thread(self._own_journals)

    async def finish_dead(self) -> bool:
        """Finishes every journal of this box whose process is dead. Whether that was all of them: none lives."""
        async with self._turn:
            none_lives = await self._in_thread(self._finish_dead)
        self._raise_alerts()
        return none_lives

    def live(self, epoch: int) -> bool:
        """Whether a living process holds this epoch's journal."""
        return self._shelf.is_live(epoch)

    def any_live(self) -> bool:
        """Whether a living process holds any journal of this box."""
        return any(self._shelf.is_live(epoch) for epoch in self._shelf.parts())

    async def held(self) -> dict[tuple[str, int, str], int]:
        """What the open holds hold as of the last drain: `(limit, window_start, value)` -> amount. Concurrency is no
        part of it: only workers know."""
        async with self._turn:
            return held_sums(await self._in_thread(self._held_records))

    def backlog_bytes(self) -> int:
        """How much of the journals is not in the database yet, as far as this committer has looked."""
        backlog = 0
        for epoch, parts in self._shelf.parts().items():
            cursor = self._cursors.get(epoch) or Cursor(epoch, 0, 0)
            for part in parts:
                if part >= cursor.part:
                    read = cursor.position if part == cursor.part else 0
                    backlog += max(self._shelf.size(epoch, part) - read, 0)
        return backlog

    async def close(self) -> None:
        """Waits for a pass that runs. The engine is its maker's to close."""
        async with self._turn:
            self._thread.shutdown()

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        """Runs `work` to its end even where the caller is cancelled, so that the turn is not given up half-way."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._attempt, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    def _attempt(self, work: Callable[[], _T]) -> _T:
        """A commit whose answer was lost may stand all the same: after an error the database says again how far each
        journal is read."""
        try:
            return work()
        except Exception:
            self._cursors = {}
            raise

    def _raise_alerts(self) -> None:
        alerts, self._alerts = self._alerts, []
        for alert in alerts:
            if self._watch is not None:
                self._watch.on_alert(alert)

    # -- in the thread: one pass --------------------------------------------------------------------------------------

    def _drain(self) -> int:
        self._drop_old_shares()
        return sum(self._drain_epoch(epoch, parts) for epoch, parts in sorted(self._shelf.parts().items()))

    def _drain_epoch(self, epoch: int, parts: Sequence[int]) -> int:
        """Reads one epoch as far as it is written now. `parts` were listed before, so all but the last are complete.

        What is written meanwhile is for the next pass: a busy worker writes as fast as this reads, and the others, the
        dead among them, would never have their turn.
        """
        cursor = self._cursor(epoch, parts)
        written = {part: self._shelf.size(epoch, part) for part in parts}
        moved = 0
        while True:
            if written.get(cursor.part, 0) > cursor.position:
                following, records = self._move_batch(cursor)
                if following != cursor:
                    cursor, moved = following, moved + records
                    continue
            later = [part for part in parts if part > cursor.part]
            if not later:
                return moved
            following = Cursor(epoch, later[0], 0, cursor.damages)
            with durably(self._engine) as connection:
                advance(connection, cursor, following)
            self._cursors[epoch] = cursor = following
            self._shelf.discard(epoch, [part for part in parts if part not in later], damaged=cursor.damages > 0)
            parts = later

    def _move_batch(self, cursor: Cursor) -> tuple[Cursor, int]:
        """Moves the next batch, or past the next damaged place, and the cursor with it: where it is afterwards, which
        is where it was when there is nothing more, and how many records were moved."""
        path = self._shelf.path(cursor.epoch, cursor.part)
        payloads, position, damages = [], cursor.position, cursor.damages
        try:
            for frame in islice(frames(path, position), BATCH_RECORDS):
                payloads.append(frame.payload)
                position = frame.next_offset
        except JournalDamaged:
            if not payloads:
                position, damages = after_damage(path, position), damages + 1
        if position == cursor.position:
            return cursor, 0
        batch = Batch(cursor.epoch)
        batch.read(payloads)
        following = Cursor(cursor.epoch, cursor.part, position, damages + batch.unreadable)
        try:
            self._commit(batch, cursor, following)
        except IntegrityError:
            batch = self._without_known(batch, payloads)
            if not batch.repeated:
                raise
            following = Cursor(cursor.epoch, cursor.part, position, damages + batch.unreadable + batch.repeated)
            self._commit(batch, cursor, following)
        self._cursors[cursor.epoch] = following
        return following, len(payloads)

    def _without_known(self, batch: Batch, payloads: Iterable[memoryview]) -> Batch:
        """The same records but for those whose step the ledger has already: the first stands."""
        with reading(self._engine).begin() as connection:
            known = known_steps(connection, {entry[0] for entry in batch.entries})
        careful = Batch(batch.epoch, known)
        careful.read(payloads)
        return careful

    def _commit(self, batch: Batch, cursor: Cursor, following: Cursor) -> None:
        with self._engine.begin() as connection:
            alerts = self._write(connection, batch)
            advance(connection, cursor, following)
        self._alerts += alerts

    def _write(self, connection: Connection, batch: Batch) -> list[Alert]:
        write_batch(connection, batch)
        leases.post(connection, batch.epoch, batch.sums)
        if batch.events:
            self._on_events(connection, batch.events)
        return self._crossings(connection, batch)

    def _crossings(self, connection: Connection, batch: Batch) -> list[Alert]:
        limits = self._limits()
        alerts = []
        for key, added in self._counting(batch.sums).items():
            limit = limits.get(key[0])
            if limit is None or not limit.alert_at:
                continue
            settled = settled_on(connection, key)
            for fraction in limit.alert_at:
                # By way of its decimal digits, so that 0.8 of an amount is exactly that.
                if settled - added < Decimal(str(fraction)) * limit.amount <= settled:
                    alerts.append(Alert(limit, key[1], key[2], fraction, settled))
        return alerts

    def _counting(self, sums: Mapping[BalanceKey, int]) -> Mapping[BalanceKey, int]:
        """The same sums, but those of one sliding window together, under its oldest bucket that counts now."""
        if not any(span in SLIDING_S for *_, span in sums):
            return sums
        now_s = self._clock() // NS_PER_S
        together: dict[BalanceKey, int] = {}
        for (limit, start, value, span), added in sums.items():
            first = oldest_open(span, now_s) if span in SLIDING_S else start
            if start >= first:
                key = (limit, first, value, span)
                together[key] = together.get(key, 0) + added
        return together

    def _limits(self) -> Mapping[str, Limit]:
        return self._watch.limits() if self._watch is not None else {}

    def _held_records(self) -> list[bytes]:
        with reading(self._engine).begin() as connection:
            return held_records(connection)

    def _drop_old_shares(self) -> None:
        now_s = self._clock() // NS_PER_S
        if now_s - self._shares_dropped_at_s >= SHARES_LOOKED_AT_S:
            with self._engine.begin() as connection:
                drop_old_shares(connection, now_s - SHARES_KEPT_S)
                leases.prune(connection, now_s)
            self._shares_dropped_at_s = now_s

    # -- in the thread: epochs ----------------------------------------------------------------------------------------

    def _cursor(self, epoch: int, parts: Sequence[int]) -> Cursor:
        """Where this epoch was left; a journal that the database does not know is read from its beginning. Raises
        StoreInUse for the journal of another box."""
        if epoch not in self._cursors:
            with self._engine.begin() as connection:
                whose = owner(connection, epoch)
                if whose is None:
                    add_journal(connection, Cursor(epoch, parts[0], 0), self._clock(), self._box)
                elif whose == "":
                    adopt(connection, epoch, self._box)
                elif whose != self._box:
                    raise StoreInUse(
                        f"journal {epoch} in {self._shelf} is of box {whose}, and this is box {self._box}: "
                        f"put {whose} into the file `box` of the data directory, or move the journal away"
                    )
                self._cursors = load_cursors(connection, self._box)
        return self._cursors[epoch]

    def _own_journals(self) -> None:
        for epoch, parts in self._shelf.parts().items():
            self._cursor(epoch, parts)

    def _finish_dead(self, starting: Collection[int] = ()) -> bool:
        with reading(self._engine).begin() as connection:
            self._cursors = load_cursors(connection, self._box)
            left_open = unfinished(connection, self._box)
        none_lives = True
        for epoch in sorted(left_open.union(self._shelf.parts()).difference(starting)):
            with self._shelf.locked_if_dead(epoch) as dead:
                if dead:
                    self._finish(epoch)
                none_lives = none_lives and dead
        return none_lives

    def _open_epoch(self, starting: Collection[int], is_sole: bool) -> Opened:
        self._finish_dead(starting)
        self._drain()
        with durably(self._engine) as connection:
            epoch = max([newest_epoch(connection), *self._shelf.parts()]) + 1
            cursor = Cursor(epoch, 0, 0)
            add_journal(connection, cursor, self._clock(), self._box)
        self._cursors[epoch] = cursor
        path = self._shelf.add(epoch)
        if not is_sole:
            return Opened(epoch, str(path))
        # One picture of both: an adjustment that is made between the two would count twice or not at all.
        with reading(self._engine).begin() as connection:
            balances = open_balances(connection, self._clock() // NS_PER_S)
            adjusted = newest(connection)
        return Opened(epoch, str(path), tuple(balances), adjusted)

    def _finish(self, epoch: int) -> None:
        """Reads a dead journal to its end, estimates what it left open, and deletes it."""
        parts = self._shelf.parts().get(epoch, [])
        if parts:
            self._drain_epoch(epoch, parts)
        now, limits = self._clock(), self._limits()
        batch = Batch(epoch)
        with durably(self._engine) as connection:
            leases.lock(connection)
            for record in held_records(connection, epoch):
                hold = decode_hold(record)
                batch.estimate(hold, crashed(hold, now, limits))
            alerts = self._write(connection, batch)
            leases.end(connection, epoch, now // NS_PER_S)
            finish_journal(connection, epoch)
        self._alerts += alerts
        remaining = self._shelf.parts().get(epoch, [])
        self._shelf.discard(epoch, remaining, damaged=self._cursors[epoch].damages > 0)


def held_sums(records: Iterable[bytes]) -> dict[tuple[str, int, str], int]:
    """What these records of open holds hold: `(limit, window_start, value)` -> amount."""
    sums: dict[tuple[str, int, str], int] = {}
    for record in records:
        for charge in decode_hold(record).charges:
            key = (charge.limit, charge.window_start, charge.value)
            sums[key] = sums.get(key, 0) + charge.amount
    return sums
