"""Machine, journal, committer and database together: wherever it is interrupted, every call counts exactly once.

Calls run, the committer is cut down between any two of its statements or before it clears a file away, workers die and
new ones take over. In the end the database holds what was posted, with a full estimate for what a death left open.
"""

import asyncio
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event, text

from penstock.domain.events import UsageEvent
from penstock.domain.policy import Limit
from penstock.domain.usage import Usage
from penstock.errors import GatewayError
from penstock.ledger import journal as journals
from penstock.ledger.committer import Committer
from penstock.ledger.journal import Journal
from penstock.ledger.ledger import Admission, Ask, Ledger
from penstock.ledger.verify import verify
from penstock.ledger.windows import oldest_open
from penstock.store.engine import committer_engine, database_url
from penstock.store.tables import ledger as tables
from penstock.store.tables.control import limits
from penstock.store.tables.schema import metadata
from penstock.testing.at_once import at_once

NOW_NS = 1_795_200_000 * 1_000_000_000
LIMITS = {
    limit.id: limit
    for limit in (
        Limit("month", "month", "usd", 2_000, "month"),
        Limit("customer", "customer", "usd", 800, "day", each="customer"),
        Limit("minute", "minute", "requests", 500, "minute"),
        Limit("hour", "hour", "tokens", 10_000, "hour", mode="observe"),
        Limit("lanes", "lanes", "concurrent", 20),
        Limit("berlin", "berlin", "usd", 1_900, "day", timezone="Europe/Berlin"),
        Limit("last-minute", "last-minute", "requests", 400, "minute", window="sliding"),
        Limit("last-hour", "last-hour", "usd", 700, "hour", each="customer", window="sliding"),
        Limit("meter", "meter", "usd", 1_500, "hour", mode="metered"),
        Limit("last-meter", "last-meter", "output_tokens", 300, "minute", window="sliding", mode="metered"),
    )
}
UNDER_AN_HOUR = {"minute", "last-minute", "last-meter"}


class Cut(Exception):
    """The process ended here."""


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.sampled_from("xyz"), st.integers(0, 120)),
        st.tuples(st.just("hold"), st.sampled_from("xyz")),
        st.tuples(st.just("extend"), st.integers(0, 9), st.integers(10, 110)),
        st.tuples(st.just("post"), st.integers(0, 9), st.integers(0, 120)),
        st.tuples(st.just("void"), st.integers(0, 9)),
        st.tuples(st.just("drain")),
        st.tuples(st.just("cut drain"), st.integers(1, 9)),
        st.tuples(st.just("cut clearing")),
        st.tuples(st.just("die")),
        st.tuples(st.just("die and cut"), st.integers(1, 12)),
        st.tuples(st.just("wait"), st.sampled_from([1, 61, 3_700])),
    ),
    min_size=12,
    max_size=40,
)


class World:
    """One box: a database, a directory of journals, a committer, a worker, and what ought to come of it all."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.now = NOW_NS
        self.engine = committer_engine(database_url("sqlite", home))
        ledger = [tables.entries, tables.carried, tables.balances, tables.shares, tables.open_holds, tables.journals]
        metadata.create_all(self.engine, tables=[*ledger, tables.leases, tables.lease_requests, limits])
        with self.engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE seen (event_id TEXT PRIMARY KEY)")
        self.committer = self.new_committer()
        self.admissions: list[Admission] = []
        self.calls = 0
        self.owed: Counter[tuple[str, int, str]] = Counter()
        self.events: set[str] = set()

    def new_committer(self) -> Committer:
        return Committer(self.engine, self.home / "journals", _record, clock=lambda: self.now)

    async def begin_worker(self) -> None:
        opened = await self.committer.open_epoch()
        self.journal = Journal(Path(opened.journal))
        self.ledger = Ledger(self.journal, lambda: self.now)
        self.ledger.seed(opened.balances)

    async def restart_committer(self) -> None:
        await self.committer.close()
        self.committer = self.new_committer()

    def hold(self, customer: str) -> Admission | None:
        self.calls += 1
        dims = {"customer": customer}
        name = f"{self.calls:05d}"
        ask = Ask(100, 20, 10, metered=Ask(10, 20, 1))
        try:
            admission = at_once(self.ledger.reserve(self.ledger.applying(LIMITS, dims), dims, ask, f"{name}:1"))
        except GatewayError:
            return None
        admission.dispatch(_event(name, 100))
        return admission

    def extend(self, admission: Admission, amount: int) -> None:
        name = admission.attempt_id.split(":")[0]
        with suppress(GatewayError):
            at_once(admission.extend(LIMITS, Ask(amount, 20, amount // 5), lambda: _event(name, amount)))

    def post(self, admission: Admission, amount: int) -> None:
        owed = admission.owed(amount, Usage(input=amount, output=amount // 5))
        name = admission.attempt_id.split(":")[0]
        places = [(held.limit, held.window_start, held.value) for held in admission.charges]
        admission.post(owed, "computed", _event(name, amount))
        self.expect(zip(places, owed, strict=True), name)

    def void(self, admission: Admission) -> None:
        name = admission.attempt_id.split(":")[0]
        admission.void("cut", _event(name, 0))
        self.expect((), name)

    def die(self) -> None:
        """The worker's locks are given up, as the kernel does; what it held is to become estimates."""
        for descriptor in (self.journal._descriptor, *self.journal._retired):
            os.close(descriptor)
        for admission in self.admissions:
            held = [((of.limit, of.window_start, of.value), of.amount) for of in admission.charges]
            self.expect(held, admission.attempt_id.split(":")[0])
        self.admissions.clear()

    def expect(self, charges: Iterable[tuple[tuple[str, int, str], int]], name: str) -> None:
        self.events.add(f"evt_{name}")
        for place, amount in charges:
            self.owed[place] += amount

    def balances(self, table: str) -> dict[tuple[str, int, str], int]:
        with self.engine.begin() as connection:
            rows = connection.execute(text(f"SELECT limit_id, window_start, value, settled FROM {table}"))
            return {(row[0], row[1], row[2]): row[3] for row in rows}

    def everything(self) -> list[object]:
        """All that lasts; shares are dropped when they are old."""
        names = ("entries", "balances", "open_holds", "seen")
        with self.engine.begin() as connection:
            return [
                [tuple(row) for row in connection.execute(text(f"SELECT * FROM {name} ORDER BY 1, 2"))]
                if name != "seen"
                else sorted(row[0] for row in connection.execute(text("SELECT * FROM seen")))
                for name in names
            ]


def _event(name: str, cost: int) -> UsageEvent:
    return UsageEvent(
        event_id=f"evt_{name}", request_id=f"req_{name}", started_at=NOW_NS, ended_at=NOW_NS, cost_nanousd=cost
    )


def _record(connection: Connection, events: Sequence[UsageEvent]) -> None:
    """The records room in small: an event that is handed on twice breaks the key."""
    connection.exec_driver_sql("INSERT INTO seen VALUES (?)", [(one.event_id,) for one in events])


@contextmanager
def cut_at(engine: Engine, statement: int) -> Iterator[None]:
    """Ends the process at the n-th statement that the committer runs."""
    count = 0

    def before(*_arguments: object) -> None:
        nonlocal count
        count += 1
        if count == statement:
            raise Cut

    event.listen(engine, "before_cursor_execute", before)
    try:
        yield
    except Cut:
        pass
    finally:
        event.remove(engine, "before_cursor_execute", before)


def _cut(*_arguments: object, **_named: object) -> None:
    raise Cut


async def live(world: World, steps: Sequence[tuple[object, ...]]) -> None:
    """Runs the steps; afterwards everything is resolved and drained."""
    await world.begin_worker()
    for name, *arguments in steps:
        await _STEPS[str(name)](world, *arguments)
    for admission in world.admissions:
        world.void(admission)
    world.admissions.clear()
    await world.committer.drain()


async def _call(world: World, customer: str, amount: int) -> None:
    admission = world.hold(customer)
    if admission is not None:
        world.post(admission, amount)


async def _hold(world: World, customer: str) -> None:
    admission = world.hold(customer)
    if admission is not None:
        world.admissions.append(admission)


async def _extend(world: World, n: int, amount: int) -> None:
    if n < len(world.admissions):
        world.extend(world.admissions[n], amount)


async def _post(world: World, n: int, amount: int) -> None:
    if n < len(world.admissions):
        world.post(world.admissions.pop(n), amount)


async def _void(world: World, n: int) -> None:
    if n < len(world.admissions):
        world.void(world.admissions.pop(n))


async def _drain(world: World) -> None:
    await world.committer.drain()


async def _cut_drain(world: World, statement: int) -> None:
    with cut_at(world.engine, statement):
        await world.committer.drain()
    await world.restart_committer()


async def _cut_clearing(world: World) -> None:
    world.committer._shelf.discard = _cut  # type: ignore[method-assign]
    with suppress(Cut):
        await world.committer.drain()
    await world.restart_committer()


async def _die(world: World) -> None:
    world.die()
    await world.begin_worker()


async def _die_and_cut(world: World, statement: int) -> None:
    world.die()
    with cut_at(world.engine, statement):
        await world.committer.open_epoch()
    await world.restart_committer()
    await world.begin_worker()


async def _wait(world: World, seconds: int) -> None:
    world.now += seconds * 1_000_000_000


_STEPS: dict[str, Callable[..., object]] = {
    "call": _call,
    "hold": _hold,
    "extend": _extend,
    "post": _post,
    "void": _void,
    "drain": _drain,
    "cut drain": _cut_drain,
    "cut clearing": _cut_clearing,
    "die": _die,
    "die and cut": _die_and_cut,
    "wait": _wait,
}


async def check(world: World) -> None:
    owed = {key: amount for key, amount in world.owed.items() if amount}
    assert world.balances("balances") == {key: n for key, n in owed.items() if key[0] not in UNDER_AN_HOUR}
    for (limit, start, value), amount in world.balances("shares").items():
        if (start + 60) * 1_000_000_000 > world.now:
            assert owed[(limit, start, value)] == amount
    stored = {**world.balances("balances"), **world.balances("shares")}
    for charge in world.ledger._machine.settled():
        if charge.amount and charge.window_start >= oldest_open(charge.per, world.now // 1_000_000_000):
            assert stored[(charge.limit, charge.window_start, charge.value)] == charge.amount
    assert world.ledger.held() == {}
    assert await world.committer.held() == {}
    with world.engine.begin() as connection:
        assert {row[0] for row in connection.execute(text("SELECT event_id FROM seen"))} == world.events
    assert await verify(world.engine) == []
    before = world.everything()
    await world.restart_committer()
    assert await world.committer.drain() == 0
    assert world.everything() == before


async def run(steps: Sequence[tuple[object, ...]]) -> None:
    home = Path(tempfile.mkdtemp())
    world = World(home)
    try:
        await live(world, steps)
        await check(world)
    finally:
        await world.committer.close()
        world.engine.dispose()
        shutil.rmtree(home)


# A failure is told as it was found: making it smaller takes minutes, since every example is a database.
@settings(max_examples=30, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(steps=STEPS)
@example(steps=[("call", "x", 1), ("drain",), ("wait", 61), ("call", "x", 1)])
@example(steps=[("hold", "x"), ("wait", 61), ("call", "x", 1), ("drain",), ("post", 0, 5), ("drain",)])
@example(steps=[("hold", "x"), ("extend", 0, 60), ("drain",), ("wait", 3_700), ("extend", 0, 90), ("post", 0, 100)])
@example(steps=[("hold", "x"), ("drain",), ("extend", 0, 60), ("extend", 0, 80), ("cut drain", 3), ("die",)])
@example(steps=[("hold", "x"), ("extend", 0, 60), ("drain",), ("extend", 0, 80), ("die and cut", 4)])
def test_every_call_counts_exactly_once_wherever_it_is_interrupted(steps: list[tuple[object, ...]]) -> None:
    with pytest.MonkeyPatch.context() as small:
        small.setattr(journals, "PART_BYTES", 1_500)
        asyncio.run(run(steps))
