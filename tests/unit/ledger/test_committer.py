"""The committer: exactly once, whatever the journals and the database go through."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.engine import URL

from penstock.domain.events import UsageEvent
from penstock.domain.journal import Extend, Hold, Note, Post
from penstock.domain.policy import Charge, Charges, Limit, Window
from penstock.domain.usage import Usage
from penstock.errors import InsufficientQuota, PenstockError, StoreInUse, StoreUnavailable
from penstock.ledger import journal as journals
from penstock.ledger.committer import Alert, Committer, Watch
from penstock.ledger.frames import scan
from penstock.ledger.journal import Journal
from penstock.ledger.ledger import Admission, Ask, Ledger
from penstock.ledger.verify import verify
from penstock.store.engine import committer_engine
from penstock.testing.at_once import at_once

MakeEvent = Callable[..., UsageEvent]
MONEY = Limit("usd", "growth", "usd", 1_000, "month", alert_at=(0.5, 0.8))
CALLS = Limit("calls", "calls", "requests", 100, "minute")
LIMITS = (MONEY, CALLS)
ASK = Ask(usd_nanousd=100, input_tokens=20, output_tokens=10)


class Worker:
    """A worker's ledger on the journal that a committer opened for it."""

    def __init__(self, path: str, clock: Callable[[], int], event: MakeEvent) -> None:
        self.path = Path(path)
        self.journal = Journal(self.path)
        self.ledger = Ledger(self.journal, clock)
        self._event = event

    def hold(self, name: str) -> Admission:
        admission = at_once(self.ledger.reserve(LIMITS, {}, ASK, f"{name}:1"))
        admission.dispatch(self._event(name, 100))
        return admission

    def post(self, admission: Admission, amount: int) -> None:
        event = self._event(admission.attempt_id.split(":")[0], amount)
        admission.post(admission.owed(amount, Usage(input=1)), "computed", event)

    def call(self, name: str, amount: int) -> None:
        self.post(self.hold(name), amount)

    def die(self) -> None:
        """Gives the lock up as the kernel does for a dead process."""
        journals.os.close(self.journal._descriptor)
        for descriptor in self.journal._retired:
            journals.os.close(descriptor)


def _lose_the_next_answer(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next commit stands, and whoever made it is told that it failed."""
    commit = engine.dialect.do_commit

    def commit_and_fail(connection: Any) -> None:
        commit(connection)
        monkeypatch.setattr(engine.dialect, "do_commit", commit)
        raise ConnectionError("the server went away after it had committed")

    monkeypatch.setattr(engine.dialect, "do_commit", commit_and_fail)


@pytest.fixture
async def worker(committer: Committer, clock: Callable[[], int], event: MakeEvent) -> Worker:
    return Worker((await committer.open_epoch()).journal, clock, event)


def rows(engine: Engine, query: str) -> list[tuple[object, ...]]:
    with engine.begin() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def settled(engine: Engine) -> dict[str, int]:
    found = rows(engine, "SELECT limit_id, settled FROM balances UNION SELECT limit_id, settled FROM shares")
    return {str(limit): int(str(amount)) for limit, amount in found}


async def test_a_call_becomes_entries_balances_and_its_event(
    committer: Committer, worker: Worker, engine: Engine, events: list[UsageEvent]
) -> None:
    worker.call("a", 70)
    assert committer.backlog_bytes() > 0
    assert await committer.drain() == 2
    assert committer.backlog_bytes() == 0
    assert await committer.drain() == 0
    assert rows(engine, "SELECT attempt_id, step, kind, cause FROM entries ORDER BY step") == [
        ("a:1", 0, "hold", ""),
        ("a:1", 1, "post", "computed"),
    ]
    assert settled(engine) == {"usd": 70, "calls": 1}
    assert [event.cost_nanousd for event in events] == [70]
    assert await verify(engine) == []


async def test_a_hold_that_straddles_batches_is_open_in_between(
    committer: Committer, worker: Worker, engine: Engine
) -> None:
    admission = worker.hold("a")
    await committer.drain()
    window = next(iter(admission.charges)).window_start
    assert (await committer.held())[("usd", window, "")] == 100
    assert rows(engine, "SELECT attempt_id FROM open_holds") == [("a:1",)]
    assert await verify(engine) == []
    admission.void("cut", None)
    await committer.drain()
    assert await committer.held() == {}
    assert settled(engine) == {}
    assert rows(engine, "SELECT kind, cause FROM entries WHERE step = 1") == [("void", "cut")]
    assert await verify(engine) == []


async def test_a_note_is_its_event_and_no_entry(
    committer: Committer, worker: Worker, engine: Engine, events: list[UsageEvent], event: MakeEvent
) -> None:
    worker.ledger.note(Note(1, event("refused")))
    await committer.drain()
    assert [one.event_id for one in events] == ["evt_refused"]
    assert rows(engine, "SELECT * FROM entries") == []


async def test_more_records_than_a_batch_holds_are_all_moved(
    committer: Committer, worker: Worker, engine: Engine
) -> None:
    limits: tuple[Limit, ...] = ()
    for n in range(1_300):
        admission = at_once(worker.ledger.reserve(limits, {}, ASK, f"{n}:1"))
        admission.dispatch(worker._event(str(n)))
        admission.void("cut", None)
    assert await committer.drain() == 2_600
    assert rows(engine, "SELECT count(*) FROM entries") == [(2_600,)]
    assert rows(engine, "SELECT count(*) FROM open_holds") == [(0,)]


async def test_a_batch_that_fails_is_read_again_and_counts_once(
    engine: Engine, tmp_path: Path, clock: Callable[[], int], event: MakeEvent
) -> None:
    handed: list[UsageEvent] = []
    broken = True

    def on_events(_connection: Connection, batch: Sequence[UsageEvent]) -> None:
        if broken:
            raise RuntimeError("the records room is broken")
        handed.extend(batch)

    committer = Committer(engine, tmp_path / "journals", on_events, clock=clock)
    worker = Worker((await committer.open_epoch()).journal, clock, event)
    worker.call("a", 70)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            await committer.drain()
    assert settled(engine) == {}
    broken = False
    await committer.drain()
    assert settled(engine) == {"usd": 70, "calls": 1}
    assert len(handed) == 1
    await committer.close()


async def test_drains_that_come_together_share_a_pass_and_each_sees_what_was_written_before_it(
    committer: Committer, worker: Worker, engine: Engine
) -> None:
    seen = []

    async def write_and_read(n: int) -> None:
        await asyncio.sleep(n % 3 / 1_000)  # ten of them at a time
        worker.call(str(n), 1)
        await committer.drain()
        seen.append(rows(engine, f"SELECT count(*) FROM entries WHERE attempt_id = '{n}:1'") == [(2,)])

    await asyncio.gather(*[write_and_read(n) for n in range(30)])
    assert seen == [True] * 30
    assert committer._passes_begun < 30


async def test_a_worker_that_never_stops_writing_keeps_no_other_from_its_turn(
    engine: Engine, tmp_path: Path, clock: Callable[[], int], event: MakeEvent
) -> None:
    order: list[str] = []

    def on_events(_connection: Connection, batch: Sequence[UsageEvent]) -> None:
        order.extend(event.event_id for event in batch)
        if len(order) < 50:
            busy.call(f"busy-{len(order)}", 1)  # there is more by the time that this is committed

    committer = Committer(engine, tmp_path / "journals", on_events, clock=clock)
    busy = Worker((await committer.open_epoch()).journal, clock, event)
    other = Worker((await committer.open_epoch([busy.journal.epoch])).journal, clock, event)
    busy.call("busy", 1)
    other.call("other", 1)
    await committer.drain()
    assert order == ["evt_busy", "evt_other"]
    await committer.drain()
    assert order == ["evt_busy", "evt_other", "evt_busy-1", "evt_busy-2"]
    await committer.close()


async def test_a_commit_whose_answer_was_lost_counts_once_and_is_no_damage(
    committer: Committer, worker: Worker, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.call("a", 70)
    _lose_the_next_answer(engine, monkeypatch)
    with pytest.raises(ConnectionError):
        await committer.drain()
    worker.call("b", 30)
    await committer.drain()
    assert settled(engine) == {"usd": 100, "calls": 2}
    assert await verify(engine) == []


async def test_a_cancelled_drain_finishes_its_pass(committer: Committer, worker: Worker, engine: Engine) -> None:
    worker.call("a", 5)
    task = asyncio.create_task(committer.drain())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    worker.call("b", 5)
    await committer.drain()
    assert settled(engine) == {"usd": 10, "calls": 2}


async def test_a_new_worker_begins_with_what_is_settled_in_open_windows(
    committer: Committer, worker: Worker, clock: Callable[[], int], event: MakeEvent
) -> None:
    worker.call("a", 70)
    worker.journal.close()
    opened = await committer.open_epoch()
    assert opened.epoch == 2
    assert {(charge.limit, charge.amount, charge.per) for charge in opened.balances} == {
        ("usd", 70, "month"),
        ("calls", 1, "minute"),
    }
    clock.pass_s(60)  # type: ignore[attr-defined]
    opened = await committer.open_epoch()
    assert {charge.limit for charge in opened.balances} == {"usd"}


async def test_the_holds_of_a_dead_worker_become_estimates(
    committer: Committer, worker: Worker, engine: Engine, tmp_path: Path, events: list[UsageEvent]
) -> None:
    worker.call("a", 70)
    worker.hold("b")
    assert committer.live(1)
    worker.die()
    assert not committer.live(1)
    opened = await committer.open_epoch()
    assert settled(engine) == {"usd": 170, "calls": 2}
    assert {(charge.limit, charge.amount) for charge in opened.balances} == {("usd", 170), ("calls", 2)}
    assert rows(engine, "SELECT kind, cause FROM entries WHERE attempt_id = 'b:1' AND step = 1") == [
        ("estimate", "estimated")
    ]
    crash = events[-1]
    assert (crash.request_id, crash.cause, crash.cost_basis, crash.cost_nanousd) == (
        "req_b",
        "failed",
        "estimated",
        100,
    )
    assert "crash" in crash.flags
    assert crash.attempts[-1].basis == "estimated"
    assert {(charged.limit, charged.amount) for charged in crash.limits_charged} == {("usd", 100), ("calls", 1)}
    assert await committer.held() == {}
    assert [path.name for path in (tmp_path / "journals").iterdir()] == ["2-0.journal"]
    assert await verify(engine) == []


async def test_the_journal_that_a_starting_worker_has_not_opened_yet_is_kept_for_it(
    committer: Committer, engine: Engine, clock: Callable[[], int], event: MakeEvent
) -> None:
    first = await committer.open_epoch()
    second = await committer.open_epoch({first.epoch})
    for number, opened in enumerate((first, second)):
        Worker(opened.journal, clock, event).call(str(number), 5)
    await committer.open_epoch()
    assert settled(engine) == {"usd": 10, "calls": 2}
    assert await verify(engine) == []


async def test_the_journal_of_a_living_worker_is_left_alone(
    committer: Committer, worker: Worker, engine: Engine
) -> None:
    admission = worker.hold("a")
    await committer.open_epoch()
    worker.post(admission, 30)
    await committer.drain()
    assert settled(engine) == {"usd": 30, "calls": 1}
    assert await verify(engine) == []


async def test_a_worker_that_comes_too_late_to_its_journal_is_sent_away(committer: Committer) -> None:
    late = (await committer.open_epoch()).journal
    await committer.open_epoch()
    with pytest.raises(StoreUnavailable):
        Journal(Path(late))


async def test_a_restarted_committer_goes_on_where_the_last_one_was(
    committer: Committer, worker: Worker, engine: Engine, tmp_path: Path, clock: Callable[[], int]
) -> None:
    worker.call("a", 70)
    await committer.drain()
    admission = worker.hold("b")
    again = Committer(engine, tmp_path / "journals", lambda _connection, _events: None, clock=clock)
    assert await again.drain() == 1
    worker.post(admission, 30)
    assert await again.drain() == 1
    assert settled(engine) == {"usd": 100, "calls": 2}
    await again.close()


async def test_two_committers_on_one_journal_cannot_both_count(
    committer: Committer, worker: Worker, engine: Engine, tmp_path: Path, clock: Callable[[], int]
) -> None:
    other = Committer(engine, tmp_path / "journals", lambda _connection, _events: None, clock=clock)
    await other.drain()
    worker.call("a", 70)
    await committer.drain()
    with pytest.raises(PenstockError):
        await other.drain()
    assert settled(engine) == {"usd": 70, "calls": 1}
    await other.close()


async def test_a_journal_of_several_files_is_read_through_and_cleared_away(
    committer: Committer, worker: Worker, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "PART_BYTES", 3_000)
    for n in range(10):
        worker.call(f"a{n}", 1)
        if n % 4 == 3:
            await committer.drain()
    open_hold = worker.hold("b")
    await committer.drain()
    assert settled(engine) == {"usd": 10, "calls": 10}
    assert len(list((tmp_path / "journals").iterdir())) == 1
    assert committer.backlog_bytes() == 0
    assert committer.live(1)
    worker.post(open_hold, 1)
    worker.die()
    await committer.open_epoch()
    assert settled(engine) == {"usd": 11, "calls": 11}
    assert [path.name for path in (tmp_path / "journals").iterdir()] == ["2-0.journal"]


async def test_a_journal_the_database_has_never_heard_of_is_counted(
    committer: Committer, worker: Worker, engine: Engine, tmp_path: Path, clock: Callable[[], int]
) -> None:
    worker.call("a", 70)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM journals"))
    again = Committer(engine, tmp_path / "journals", lambda _connection, _events: None, clock=clock)
    assert await again.drain() == 2
    assert (await again.open_epoch()).epoch == 2
    assert settled(engine) == {"usd": 70, "calls": 1}
    await again.close()


async def test_damage_loses_what_it_covers_and_is_told_by_verify(
    committer: Committer, worker: Worker, engine: Engine, tmp_path: Path
) -> None:
    worker.call("a", 10)
    worker.call("b", 20)
    worker.call("c", 40)
    offsets = [offset for _, offset in scan(worker.path)]
    content = bytearray(worker.path.read_bytes())
    content[offsets[2] + 30] ^= 0xFF
    worker.path.write_bytes(content)
    worker.die()
    await committer.open_epoch()
    assert settled(engine) == {"usd": 10 + 100 + 40, "calls": 3}
    assert [fault.kind for fault in await verify(engine)] == ["journal_damaged"]
    assert sorted(path.name for path in (tmp_path / "journals").iterdir()) == ["1-0.damaged", "2-0.journal"]


async def test_a_torn_tail_was_never_written(committer: Committer, worker: Worker, engine: Engine) -> None:
    worker.call("a", 10)
    admission = worker.hold("b")
    size = worker.path.stat().st_size
    worker.post(admission, 20)
    worker.die()
    with worker.path.open("r+b") as file:
        file.truncate(size + 50)
    await committer.open_epoch()
    assert settled(engine) == {"usd": 110, "calls": 2}
    assert await verify(engine) == []


async def test_a_second_resolution_is_refused_by_the_key_and_the_first_stands(
    committer: Committer, worker: Worker, engine: Engine, event: MakeEvent
) -> None:
    worker.call("a", 10)
    await committer.drain()
    charges = Charges.of([Charge("usd", 0, "", 999)])
    worker.journal.append(Post("a:1", 1, charges, "computed", event("a", 999)))
    worker.journal.append(Hold("a:1", 1, charges, event("a")))
    worker.call("b", 20)
    await committer.drain()
    assert settled(engine) == {"usd": 30, "calls": 2}
    assert [fault.kind for fault in await verify(engine)] == ["journal_damaged"]


async def test_a_bill_beyond_all_numbers_stays_a_whole_number(
    committer: Committer, worker: Worker, engine: Engine
) -> None:
    for name in ("a", "b"):
        admission = at_once(worker.ledger.reserve((), {}, ASK, f"{name}:1"))
        admission.dispatch(worker._event(name))
        charges = Charges.of([Charge("usd", 0, "", 2**63 - 1)])
        worker.journal.append(Post(f"{name}:1", 1, charges, "computed"))
        await committer.drain()
    ((settled_amount,),) = rows(engine, "SELECT settled FROM balances")
    assert type(settled_amount) is int and settled_amount == 2**63 - 1


async def test_alerts_are_raised_once_when_spend_crosses_them(
    engine: Engine, tmp_path: Path, clock: Callable[[], int], event: MakeEvent
) -> None:
    alerts: list[Alert] = []
    watch = Watch(lambda: {limit.id: limit for limit in LIMITS}, alerts.append)
    committer = Committer(engine, tmp_path / "journals", lambda _connection, _events: None, watch, clock)
    worker = Worker((await committer.open_epoch()).journal, clock, event)
    crossed = []
    for n in range(10):
        worker.call(str(n), 100)
        await committer.drain()
        crossed.append([alert.fraction for alert in alerts])
        alerts.clear()
    assert crossed == [[], [], [], [], [0.5], [], [], [0.8], [], []]
    await committer.close()


@pytest.mark.parametrize("window", ["fixed", "sliding"])
@pytest.mark.parametrize("unit", ["usd", "tokens", "input_tokens", "output_tokens", "requests"])
async def test_every_unit_and_window_alerts_when_its_mark_is_crossed(
    engine: Engine, tmp_path: Path, clock: Callable[[], int], event: MakeEvent, unit: Any, window: Any
) -> None:
    spans = ("minute", "hour", "day", "week") if window == "sliding" else get_args(Window)
    each = {"usd": 50, "tokens": 30, "input_tokens": 20, "output_tokens": 10, "requests": 1}[unit]
    limits = [
        Limit(per, per, unit, 10 * each, per, window=window, each="customer", alert_at=(0.2, 0.3)) for per in spans
    ]
    alerts: list[Alert] = []
    watch = Watch(lambda: {limit.id: limit for limit in limits}, alerts.append)
    committer = Committer(engine, tmp_path / "journals", lambda _connection, _events: None, watch, clock)
    worker = Worker((await committer.open_epoch()).journal, clock, event)

    async def call(name: str, customer: str) -> list[tuple[str, str, float]]:
        dims = {"customer": customer}
        admission = at_once(worker.ledger.reserve(limits, dims, Ask(50, 20, 10), f"{name}:1"))
        admission.dispatch(event(name, 50))
        admission.post(admission.owed(50, Usage(input=20, output=10)), "computed", event(name, 50))
        await committer.drain()
        told = [(alert.limit.per, alert.value, alert.fraction) for alert in alerts]
        alerts.clear()
        return sorted(told)

    assert await call("a", "acme") == []
    assert await call("b", "zeta") == []
    assert await call("c", "acme") == sorted((per, "acme", 0.2) for per in spans)
    assert await call("d", "acme") == sorted((per, "acme", 0.3) for per in spans)
    assert await call("e", "acme") == []
    assert await call("f", "zeta") == sorted((per, "zeta", 0.2) for per in spans)
    await committer.close()


async def test_shares_of_windows_long_over_are_dropped(
    committer: Committer, worker: Worker, engine: Engine, clock: Callable[[], int]
) -> None:
    worker.call("a", 1)
    await committer.drain()
    clock.pass_s(7_200)  # type: ignore[attr-defined]
    await committer.drain()
    assert rows(engine, "SELECT * FROM shares") == []


async def test_a_share_is_kept_until_its_window_is_over(
    committer: Committer, worker: Worker, engine: Engine, clock: Callable[[], int]
) -> None:
    late = worker.hold("a")
    clock.pass_s(60)  # type: ignore[attr-defined]
    worker.call("b", 1)
    await committer.drain()
    worker.post(late, 1)
    worker.call("c", 1)
    await committer.drain()
    assert rows(engine, "SELECT settled FROM shares ORDER BY window_start") == [(1,), (2,)]


@pytest.mark.parametrize(("per", "step_s"), [("minute", 20), ("hour", 1_200), ("day", 28_800), ("week", 201_600)])
async def test_a_sliding_window_survives_a_restart_bucket_by_bucket(
    engine: Engine, tmp_path: Path, clock: Callable[[], int], event: MakeEvent, per: str, step_s: int
) -> None:
    limit = Limit("slides", "slides", "usd", 200, per, window="sliding", alert_at=(0.9,))  # type: ignore[arg-type]
    alerts: list[Alert] = []
    watch = Watch(lambda: {limit.id: limit}, alerts.append)
    committer = Committer(engine, tmp_path / "journals", lambda _connection, _events: None, watch, clock)

    async def begun() -> Worker:
        opened = await committer.open_epoch()
        worker = Worker(opened.journal, clock, event)
        worker.ledger.seed(opened.balances)
        return worker

    def call(worker: Worker, name: str, amount: int) -> None:
        admission = at_once(worker.ledger.reserve([limit], {}, Ask(amount, 1, 1), f"{name}:1"))
        admission.dispatch(event(name, amount))
        worker.post(admission, amount)

    worker = await begun()
    for name, amount in (("a", 90), ("b", 80), ("c", 20)):
        call(worker, name, amount)
        clock.pass_s(step_s)  # type: ignore[attr-defined]
        worker.die()
        worker = await begun()
    assert [alert.settled for alert in alerts] == [190]
    with pytest.raises(InsufficientQuota):
        call(worker, "d", 11)
    clock.pass_s(step_s)  # type: ignore[attr-defined]
    worker.die()
    worker = await begun()
    call(worker, "e", 100)
    with pytest.raises(InsufficientQuota):
        call(worker, "f", 1)
    await committer.drain()
    assert await verify(engine) == []
    worker.journal.close()
    await committer.close()


async def test_boxes_on_one_database_have_epochs_in_one_order_and_look_at_their_own_journals(
    engine: Engine, tmp_path: Path, clock: Callable[[], int], event: MakeEvent
) -> None:
    here, there = (
        Committer(engine, tmp_path / box / "journals", lambda *_: None, clock=clock, box=box) for box in ("a", "b")
    )
    opened = [await here.open_epoch(), await there.open_epoch(), await here.open_epoch()]
    assert [each.epoch for each in opened] == [1, 2, 3]
    workers = [Worker(each.journal, clock, event) for each in opened[1:]]
    for number, worker in enumerate(workers):
        worker.call(f"call{number}", 100)
    assert await here.drain() == 2 and settled(engine)["usd"] == 100
    assert await there.drain() == 2 and settled(engine)["usd"] == 200
    workers[0].hold("left")
    workers[0].die()
    assert await here.finish_dead() is False, "its own second worker lives"
    assert rows(engine, "SELECT epoch, state, box FROM journals ORDER BY epoch") == [
        (1, "finished", "a"),
        (2, "open", "b"),
        (3, "open", "a"),
    ]
    assert (here.any_live(), there.any_live()) == (True, False)
    assert await there.finish_dead() is True and settled(engine)["usd"] == 300
    for committer in (here, there):
        await committer.close()


async def test_epochs_that_boxes_open_at_once_are_different_ones(
    whole_store_url: URL, engine: Engine, tmp_path: Path
) -> None:
    engines = [committer_engine(whole_store_url) for _ in range(4)]
    boxes = [
        Committer(own, tmp_path / str(number), lambda *_: None, box=str(number)) for number, own in enumerate(engines)
    ]
    for _ in range(5):
        opened = await asyncio.gather(*(box.open_epoch() for box in boxes))
        assert len({each.epoch for each in opened}) == len(boxes)
    assert len(rows(engine, "SELECT epoch FROM journals")) == 20
    for box, own in zip(boxes, engines, strict=True):
        await box.close()
        own.dispose()


async def test_a_journal_of_another_box_is_refused_and_one_of_no_box_is_taken_over(
    engine: Engine, tmp_path: Path, clock: Callable[[], int], event: MakeEvent
) -> None:
    directory = tmp_path / "journals"
    first = Committer(engine, directory, lambda *_: None, clock=clock, box="a")
    Worker((await first.open_epoch()).journal, clock, event).call("one", 100)
    await first.close()
    other = Committer(engine, directory, lambda *_: None, clock=clock, box="b")
    with pytest.raises(StoreInUse, match="put a into the file `box`"):
        await other.own_journals()
    with engine.begin() as connection:
        connection.execute(text("UPDATE journals SET box = ''"))
    await other.own_journals()
    assert await other.drain() == 2 and settled(engine)["usd"] == 100
    assert rows(engine, "SELECT box FROM journals") == [("b",)]
    await other.close()


# -- extensions -----------------------------------------------------------------------------------------------------

METER = Limit("meter", "meter", "usd", 1_000, "day", mode="metered")


class Stream:
    """A call under a metered limit, which holds 10 at first."""

    def __init__(self, worker: Worker, name: str) -> None:
        self.worker = worker
        self.name = name
        ask = Ask(500, 20, 10, metered=Ask(10, 20, 1))
        self.admission = at_once(worker.ledger.reserve((METER,), {}, ask, f"{name}:1"))
        self.admission.dispatch(worker._event(name, 10))

    def extend(self, usd: int) -> None:
        made = self.admission.extend({"meter": METER}, Ask(usd, 20, 1), lambda: self.worker._event(self.name, usd))
        at_once(made)


async def test_an_extension_takes_the_place_of_its_hold_however_the_batches_fall(
    committer: Committer, worker: Worker, engine: Engine
) -> None:
    early, late = Stream(worker, "early"), Stream(worker, "late")
    day = next(iter(early.admission.charges)).window_start
    early.extend(30)
    await committer.drain()
    assert await committer.held() == {("meter", day, ""): 40}
    for usd in (60, 90):
        early.extend(usd)
        late.extend(usd)
    await committer.drain()
    assert await committer.held() == {("meter", day, ""): 180}
    assert await verify(engine) == []
    early.extend(100)
    worker.post(early.admission, 95)
    late.admission.void("cut", None)
    await committer.drain()
    assert await committer.held() == {}
    assert rows(engine, "SELECT * FROM open_holds") == []
    assert settled(engine) == {"meter": 95}
    assert rows(engine, "SELECT step, kind FROM entries WHERE attempt_id = 'early:1' ORDER BY step") == [
        (0, "hold"),
        (1, "post"),
        *[(step, "extension") for step in (2, 3, 4, 5)],
    ]
    assert await verify(engine) == []


async def test_a_dead_workers_stream_is_charged_all_that_was_held_in_both_days(
    committer: Committer, worker: Worker, engine: Engine, events: list[UsageEvent], clock: Any
) -> None:
    stream = Stream(worker, "a")
    stream.extend(30)
    await committer.drain()
    clock.pass_s(86_400)
    stream.extend(75)
    day = next(iter(stream.admission.charges)).window_start
    worker.die()
    await committer.open_epoch()
    found = rows(engine, "SELECT window_start, settled FROM balances ORDER BY 1")
    assert found == [(day, 30), (day + 86_400, 45)]
    (event,) = events
    assert (event.cost_nanousd, event.error_code, event.flags) == (75, "crash", ("crash",))
    assert [charged.amount for charged in event.limits_charged] == [30, 45]
    assert await verify(engine) == []


async def test_an_extension_that_is_read_twice_counts_once(
    committer: Committer, worker: Worker, engine: Engine
) -> None:
    stream = Stream(worker, "a")
    stream.extend(30)
    await committer.drain()
    twice = next(record for record, _ in scan(worker.path) if isinstance(record, Extend))
    worker.journal.append(twice)
    stream.extend(50)
    await committer.drain()
    assert list((await committer.held()).values()) == [50]
    assert [fault.kind for fault in await verify(engine)] == ["journal_damaged"]


async def test_an_extension_that_cannot_be_written_is_told_and_a_stream_is_not_extended_without_end(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream(worker, "a")
    monkeypatch.setattr("penstock.ledger.ledger.MAX_EXTENSIONS", 2)
    stream.extend(30)
    with pytest.raises(InsufficientQuota):
        stream.extend(1_001)
    stream.extend(40)
    with pytest.raises(PenstockError):
        stream.extend(50)
    other = Stream(worker, "b")
    worker.die()
    with pytest.raises(StoreUnavailable):
        other.extend(30)
