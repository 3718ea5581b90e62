"""Several workers that share limits by leases: whatever happens to them, to what they say and to their clocks, no limit
is passed, and when all is quiet nothing is stranded.

The workers are real machines and lessees. The control process is first a model of thirty lines: it grants what is free,
obeys each request once, and takes what a dead worker had left when its journal has been read. Then it is the grantor
and the SQL that settles, on a real database.

`PENSTOCK_LAW_STEPS` sets how many steps are made with the model, over all runs; half as many are made in SQL.
"""

import asyncio
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from penstock.domain.lease import Given, Granted, Place, Want
from penstock.domain.policy import Charge, Denial, Limit
from penstock.errors import StoreUnavailable
from penstock.ledger import leases
from penstock.ledger.batch import Batch
from penstock.ledger.grantor import Grantor
from penstock.ledger.lessee import PATIENCE_ROUNDS, Lessee
from penstock.ledger.machine import Ask, Extended, Machine, Short
from penstock.ledger.matching import Matching
from penstock.ledger.postings import Cursor, add_journal, drop_old_shares, finish_journal, run, write_batch
from penstock.ledger.reservations import ONE_PLACE, Reservation
from penstock.ledger.slices import IDLE_ROUNDS
from penstock.ledger.windows import SHORT, SLIDING_S, oldest_open
from penstock.store.engine import committer_engine, database_url
from penstock.store.tables import ledger as tables
from penstock.store.tables.schema import metadata

STEPS = int(os.environ.get("PENSTOCK_LAW_STEPS", "8000"))
STEPS_OF_A_RUN = 60
WINDOWS = [("day", "fixed"), ("total", "fixed"), ("minute", "fixed"), ("second", "fixed")]
WINDOWS += [("minute", "sliding"), ("hour", "sliding")]
FATES = ["answered", "answered", "answered", "answer lost", "not known", "twice"]
START = 1_795_200_000
WORKERS = 3


@dataclass
class Row:
    granted: int = 0
    posted: int = 0
    since: int = 0
    until_s: int | None = None

    @property
    def outstanding(self) -> int:
        return max(0, self.granted - self.posted)


@dataclass
class Store:
    """What the control process knows. `settled`: limit, window or bucket, value -> amount."""

    limits: dict[str, Limit]
    rows: dict[tuple[Place, int], Row] = field(default_factory=dict)
    settled: dict[tuple[str, int, str], int] = field(default_factory=dict)
    answers: dict[int, tuple[int, tuple[Granted, ...]]] = field(default_factory=dict)

    def serve(
        self, epoch: int, number: int, wants: tuple[Want, ...], given: tuple[Given, ...], now: int
    ) -> tuple[Granted, ...]:
        last, answer = self.answers.get(epoch, (0, ()))
        if number == last:
            return answer
        assert number == last + 1
        for it in given:
            row = self.rows[it.place, epoch]
            row.granted -= it.amount
            row.since = max(row.since, it.since)
            assert row.granted >= 0
        answer = tuple([self._grant(epoch, want, now) for want in wants])
        self.answers[epoch] = (number, answer)
        return answer

    def _grant(self, epoch: int, want: Want, now: int) -> Granted:
        place, limit = want.place, self.limits[want.place.limit]
        stands = place.per in SHORT or limit.unit == "concurrent"
        settled = self.settled_at(place, min(now, want.at_s)) if not stands else 0
        rows = {
            e: r for (p, e), r in self.rows.items() if p == place and not (r.until_s is not None and r.until_s <= now)
        }
        taken = settled + sum(row.outstanding for row in rows.values())
        free = limit.amount - taken
        amount = want.total + (free - want.total) // 4 if free >= want.total else free if free >= want.least else 0
        amount = max(amount, 0)
        row = self.rows.setdefault((place, epoch), Row())
        row.granted += amount
        since = max((r.since for e, r in rows.items() if e != epoch), default=0) if stands else 0
        return Granted(amount, settled, taken - settled + amount, since)

    def settled_at(self, place: Place, now: int) -> int:
        if place.per in SLIDING_S:
            oldest = oldest_open(place.per, now)
            return sum(
                n
                for (limit, start, value), n in self.settled.items()
                if (limit, value) == (place.limit, place.value) and start >= oldest
            )
        return self.settled.get((place.limit, place.window_start, place.value), 0)

    def post(self, epoch: int, charge: Charge) -> None:
        key = (charge.limit, charge.window_start, charge.value)
        self.settled[key] = self.settled.get(key, 0) + charge.amount
        if charge.per not in SHORT:
            place = Place(charge.limit, 0 if charge.per in SLIDING_S else charge.window_start, charge.value, charge.per)
            row = self.rows.get((place, epoch))
            if row is not None:
                row.posted += charge.amount
                row.granted = max(row.granted, row.posted)

    def finish(self, epoch: int, now: int) -> None:
        for place, owner in list(self.rows):
            if owner == epoch:
                if place.per in SHORT:
                    self.rows[place, epoch].until_s = now + 200
                else:
                    del self.rows[place, epoch]

    def prune(self, now: int) -> None:
        """Forgets what counts no more."""

    def close(self) -> None:
        """Nothing of a model has to be closed."""


class SqlStore(Store):
    """The same, but what it says comes from the grantor and a database. `settled` stays the model's."""

    def __init__(self, limits: dict[str, Limit], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limits)
        self.now = START
        self._loop = loop
        self._home = tempfile.TemporaryDirectory()
        self._engine = committer_engine(database_url("sqlite", Path(self._home.name)))
        ledger = [tables.entries, tables.carried, tables.balances, tables.shares, tables.open_holds, tables.journals]
        metadata.create_all(self._engine, tables=[*ledger, tables.leases, tables.lease_requests])
        self._grantor = Grantor(self._engine, lambda: limits, lambda _: None, lambda: self.now * 10**9)
        self._epochs: set[int] = set()

    def serve(
        self, epoch: int, number: int, wants: tuple[Want, ...], given: tuple[Given, ...], now: int
    ) -> tuple[Granted, ...]:
        self._open(epoch)
        self.now = now
        answer = self._loop.run_until_complete(self._grantor.serve(epoch, number, wants, given))
        self.answers[epoch] = (number, answer)
        self._read()
        return answer

    def post(self, epoch: int, charge: Charge) -> None:
        super().post(epoch, charge)
        self._open(epoch)
        batch = Batch(epoch)
        if charge.amount:
            batch.sums[(charge.limit, charge.window_start, charge.value, charge.per)] = charge.amount
        with self._engine.begin() as connection:
            write_batch(connection, batch)
            leases.post(connection, epoch, batch.sums)
        self._read()

    def finish(self, epoch: int, now: int) -> None:
        self._open(epoch)
        with self._engine.begin() as connection:
            leases.lock(connection)
            leases.end(connection, epoch, now)
            finish_journal(connection, epoch)
        self._read()

    def prune(self, now: int) -> None:
        with self._engine.begin() as connection:
            drop_old_shares(connection, now - leases.KEPT_S)
            leases.prune(connection, now)
        self._read()

    def close(self) -> None:
        self._loop.run_until_complete(self._grantor.close())
        self._engine.dispose()
        self._home.cleanup()

    def _open(self, epoch: int) -> None:
        if epoch not in self._epochs:
            with self._engine.begin() as connection:
                add_journal(connection, Cursor(epoch, 0, 0), 1, "")
            self._epochs.add(epoch)

    def _read(self) -> None:
        columns = "limit_id, window_start, value, per, epoch, granted, posted, since, until_s"
        with self._engine.begin() as connection:
            found = list(run(connection, f"SELECT {columns} FROM leases"))
        self.rows = {(Place(*row[:4]), row[4]): Row(*row[5:]) for row in found}


class Worker:
    def __init__(self, epoch: int, clock: "World") -> None:
        self.epoch = epoch
        self.world = clock
        self.skew = 0
        self.machine = Machine(leased=True)
        self.matching = Matching()
        self.sent: list[tuple[int, tuple[Want, ...], tuple[Given, ...]]] = []
        self.lessee = Lessee(self.machine, lambda *said: self.sent.append(said), lambda: self.now * 10**9)
        self.open: list[Reservation] = []
        self.waiting: list[asyncio.Task[None]] = []
        self.growing: list[tuple[Reservation, asyncio.Task[None]]] = []

    @property
    def now(self) -> int:
        return self.world.at + self.skew

    async def call(self, dims: dict[str, str], ask: Ask) -> None:
        if not self.matching.knows(self.world.store.limits):
            self.matching.learn(self.world.store.limits)
        limits = self.matching.applying(dims)
        outcome = self.machine.reserve(limits, dims, ask, self.now)
        if isinstance(outcome, Short):
            try:
                outcome = await self.lessee.obtain(
                    outcome, lambda final: self.machine.reserve(limits, dims, ask, self.now, final=final)
                )
            except StoreUnavailable:
                return
        if isinstance(outcome, Denial):
            return
        assert isinstance(outcome, Reservation)
        self.open.append(outcome)

    async def extend(self, held: Reservation, ask: Ask) -> None:
        def attempt(final: bool) -> Extended | Denial | Short:
            return self.machine.extend(held, self.world.store.limits, ask, self.now, final=final)

        outcome = attempt(False)
        if isinstance(outcome, Short):
            with suppress(StoreUnavailable):
                await self.lessee.obtain(outcome, attempt)


def _rest(lessee: Lessee) -> None:
    """Long enough for what lies idle to go back."""
    for _ in range(IDLE_ROUNDS + 1):
        lessee.tick()


class Loop(asyncio.SelectorEventLoop):
    """Its time can be put forward."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


class World(RuleBasedStateMachine):
    @initialize(
        limits=st.lists(
            st.tuples(
                st.sampled_from(["usd", "tokens", "requests", "concurrent"]),
                st.sampled_from(WINDOWS),
                st.integers(5, 15),
                st.sampled_from([None, None, "customer"]),
                st.sampled_from(["strict", "metered"]),
            ),
            min_size=1,
            max_size=3,
        )
    )
    def begin(self, limits: list[tuple[str, tuple[str, str], int, str | None, str]]) -> None:
        self.loop = Loop()
        made = {}
        for n, (unit, (per, kind), amount, each, mode) in enumerate(limits):
            if unit == "concurrent":
                per, kind = "total", "fixed"
            made[f"l{n}"] = Limit(f"l{n}", f"l{n}", unit, amount, per, (), each, mode, window=kind)  # type: ignore[arg-type]
        self.at = START
        self.store = self._new_store(made)
        self.epochs = 0
        self.workers = [self._worker() for _ in range(WORKERS)]

    def _new_store(self, limits: dict[str, Limit]) -> Store:
        return Store(limits)

    def _worker(self) -> Worker:
        self.epochs += 1
        return Worker(self.epochs, self)

    def _run(self, step: Callable[[], object] = lambda: None) -> None:
        """Takes a step and lets everything run that follows from it."""

        async def run() -> None:
            step()
            for _ in range(4):
                await asyncio.sleep(0)

        self.loop.run_until_complete(run())

    @rule(by_s=st.sampled_from([0.05, 0.3]))
    def a_pause_is_over(self, by_s: float) -> None:
        self.loop.ahead_s += by_s
        self._run()

    @rule(n=st.integers(0, WORKERS - 1))
    def those_who_wait_lose_patience(self, n: int) -> None:
        for _ in range(PATIENCE_ROUNDS):
            self._run(self.workers[n].lessee.tick)

    @rule(by=st.sampled_from([0, 1, 1, 2, 30, 60, 61, 3_660, 86_400]))
    def time_passes(self, by: int) -> None:
        self.at += by

    @rule(n=st.integers(0, WORKERS - 1), skew=st.integers(-30, 30))
    def a_clock_is_wrong(self, n: int, skew: int) -> None:
        worker = self.workers[n]
        worker.skew = max(skew, worker.skew)

    @rule(
        n=st.integers(0, WORKERS - 1),
        customer=st.sampled_from("xxxy"),
        usd=st.integers(1, 6),
        tokens=st.integers(0, 3),
        link=st.sampled_from(["good", "good", "good", "good", "slow"]),
    )
    def a_call_comes(self, n: int, customer: str, usd: int, tokens: int, link: str) -> None:
        worker = self.workers[n]

        def come() -> None:
            call = worker.call({"customer": customer}, Ask(usd, tokens, 1, metered=Ask(min(usd, 2), tokens, 1)))
            worker.waiting.append(self.loop.create_task(call))

        self._run(come)
        if link == "good":
            self._deliver(n)
            self._recall_for(n)

    @rule(
        n=st.integers(0, WORKERS - 1),
        which=st.integers(0, 9),
        usd=st.integers(1, 15),
        link=st.sampled_from(["good", "good", "slow"]),
    )
    def a_stream_goes_on(self, n: int, which: int, usd: int, link: str) -> None:
        worker = self.workers[n]
        if worker.open:
            held = worker.open[which % len(worker.open)]
            self._run(
                lambda: worker.growing.append((held, self.loop.create_task(worker.extend(held, Ask(usd, 3, usd)))))
            )
            if link == "good":
                self._deliver(n)
                self._recall_for(n)

    def _deliver(self, n: int) -> None:
        while self.workers[n].sent:
            self.a_request_arrives(n, "answered")

    def _recall_for(self, n: int) -> None:
        """Whoever waits for more has it recalled, and asks again."""
        if any(not task.done() for task in self.workers[n].waiting):
            for other in range(WORKERS):
                if other != n:
                    self.everything_is_recalled(other)
                    self._deliver(other)
            self.loop.ahead_s += 0.05
            self._run()
            self._deliver(n)

    @rule(n=st.integers(0, WORKERS - 1), which=st.integers(0, 9), part=st.sampled_from([0.0, 0.5, 1.0, 1.0, 1.0]))
    def a_call_is_settled(self, n: int, which: int, part: float) -> None:
        worker = self.workers[n]
        if worker.open:
            held = self._ended(worker, which)
            owed = [int(amount * part) for amount in held.amounts]
            worker.machine.settle(held, owed)
            for charge in held.charges(owed):
                self.store.post(worker.epoch, charge)
        self._run()

    def _ended(self, worker: Worker, which: int) -> Reservation:
        """One of the open calls, which waits for nothing any more."""
        ended = worker.open.pop(which % len(worker.open))
        for held, task in worker.growing:
            if held is ended:
                self._run(task.cancel)
        return ended

    @rule(n=st.integers(0, WORKERS - 1), which=st.integers(0, 9))
    def a_call_is_released(self, n: int, which: int) -> None:
        worker = self.workers[n]
        if worker.open:
            worker.machine.release(self._ended(worker, which))
        self._run()

    @rule(
        n=st.integers(0, WORKERS - 1),
        fate=st.sampled_from(FATES),
    )
    def a_request_arrives(self, n: int, fate: str) -> None:
        worker = self.workers[n]
        if not worker.sent:
            return
        number, wants, given = worker.sent.pop(0)
        if fate == "not known":
            self._run(lambda: worker.lessee.answered(number, None))
            worker.sent.append((number, wants, given))
        else:
            last = self.store.answers.get(worker.epoch, (0, ()))[0]
            if number < last:
                return
            answer = self.store.serve(worker.epoch, number, wants, given, self.at)
            if fate == "answer lost":
                worker.sent.insert(0, (number, wants, given))
            else:
                self._run(lambda: worker.lessee.answered(number, answer))
            if fate == "twice":
                self._run(lambda: worker.lessee.answered(number, answer))

    @rule(n=st.integers(0, WORKERS - 1))
    def a_second_turns(self, n: int) -> None:
        self._run(self.workers[n].lessee.tick)

    @rule(n=st.integers(0, WORKERS - 1))
    def everything_is_recalled(self, n: int) -> None:
        worker = self.workers[n]
        self._run(lambda: worker.lessee.recalled([place for place, _ in self.store.rows]))

    @rule(n=st.integers(0, WORKERS - 1))
    def a_worker_dies(self, n: int) -> None:
        worker = self.workers[n]
        self._cancel(worker)
        for held in worker.open:
            for charge in held.held:
                self.store.post(worker.epoch, charge)
        self.store.finish(worker.epoch, self.at)
        self.workers[n] = self._worker()

    @rule()
    def what_counts_no_more_is_forgotten(self) -> None:
        self.store.prune(self.at)

    def _cancel(self, worker: Worker) -> None:
        """Ends the calls that wait, and takes in what came of them."""

        async def end() -> None:
            tasks = [*worker.waiting, *(task for _, task in worker.growing)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.loop.run_until_complete(end())

    @invariant()
    def no_limit_is_passed(self) -> None:
        """What is settled and held, in every window and every stretch of a sliding one."""
        if not hasattr(self, "store"):
            return
        spent = dict(self.store.settled)
        flying: dict[tuple[str, str], int] = {}
        for worker in self.workers:
            for held in worker.open:
                for charge in held.held:
                    key = (charge.limit, charge.window_start, charge.value)
                    spent[key] = spent.get(key, 0) + charge.amount
                for line in held.places:
                    place = (line.limit.id, line.balance.value)
                    flying[place] = flying.get(place, 0) + ONE_PLACE
        for (limit_id, _), amount in flying.items():
            assert amount <= self.store.limits[limit_id].amount
        for (limit_id, start, value), amount in spent.items():
            limit = self.store.limits[limit_id]
            if limit.window == "sliding":
                length = SLIDING_S[f"sliding-{limit.per}"]  # type: ignore[index]
                amount = sum(
                    n
                    for (other, at, of), n in spent.items()
                    if (other, of) == (limit_id, value) and start - length <= at <= start
                )
            assert amount <= limit.amount

    @invariant()
    def what_is_leased_is_bounded(self) -> None:
        for (place, _), row in getattr(self, "store", Store({})).rows.items():
            rows = [r for (p, _), r in self.store.rows.items() if p == place]
            leased = sum(r.outstanding for r in rows if r.until_s is None or r.until_s > self.at)
            limit = self.store.limits[place.limit]
            stands = place.per in SHORT or limit.unit == "concurrent"
            assert leased + (0 if stands else self.store.settled_at(place, self.at)) <= limit.amount
            assert row.granted >= row.posted

    def teardown(self) -> None:
        """Everybody ends: nothing is held any more, and everything that is not spent has come back."""
        if not hasattr(self, "store"):
            return
        for worker in self.workers:
            self._cancel(worker)
            for held in worker.open:
                worker.machine.release(held)
            worker.open.clear()
        self.at += 2 * 86_400
        for _ in range(12):
            for worker in self.workers:
                self._run(partial(_rest, worker.lessee))
                for number, wants, given in worker.sent:
                    if number >= self.store.answers.get(worker.epoch, (0, ()))[0]:
                        answer = self.store.serve(worker.epoch, number, wants, given, self.at)
                        self._run(partial(worker.lessee.answered, number, answer))
                worker.sent.clear()
                self._run(worker.lessee.linked)
        for (place, _), row in self.store.rows.items():
            assert row.until_s is not None or not row.outstanding, place
        for worker in self.workers:
            assert worker.machine.held() == {}
        self.store.close()
        self.loop.close()


def _settings(steps: int) -> settings:
    return settings(max_examples=-(-steps // STEPS_OF_A_RUN), stateful_step_count=STEPS_OF_A_RUN, deadline=None)


TestLeases = pytest.mark.timeout(120 + STEPS // 25)(World.TestCase)
TestLeases.settings = _settings(STEPS)


class WorldInSql(World):
    def _new_store(self, limits: dict[str, Limit]) -> Store:
        return SqlStore(limits, self.loop)


TestLeasesInSql = pytest.mark.timeout(120 + STEPS // 10)(WorldInSql.TestCase)
TestLeasesInSql.settings = _settings(STEPS // 2)
