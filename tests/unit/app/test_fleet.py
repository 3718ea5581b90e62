"""The control process's end of the link, over a real socket."""

import asyncio
import stat
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path

import msgspec
import pytest

from penstock.app.control import fleet as subject
from penstock.app.control.fleet import Answers, Fleet
from penstock.app.link import Confirm, Hello, LeaseAnswer, LeaseRequest, Pulse, Question, Welcome, encode
from penstock.domain.lease import Granted, Place, Want
from penstock.domain.policy import Limit
from penstock.domain.snapshot import Change, Kill, Snapshot, applied
from penstock.errors import PenstockError, StoreDown
from penstock.records.families import exposition
from penstock.records.metrics import Metrics
from penstock.store.claim import Box
from penstock.testing.worker import FakeWorker


class World:
    """A fleet on a socket, and what it asks of the rest of the process. New workers get epochs from 9 on; `starting` is
    what was said with each Hello. Leases are granted in full unless `lease_fault` is set."""

    def __init__(self, directory: Path, expected: tuple[str, ...] = ()) -> None:
        self.socket = directory / "control.sock"
        limits = {"lim_1": Limit("lim_1", "monthly", "usd", 100)}
        self.snapshot = Snapshot(version=3, generation=1, limits=limits)
        self.epochs = {5}
        self.newest_epoch = 8
        self.starting: list[set[int]] = []
        self.lease_fault: Exception | None = None
        self.leased: list[tuple[int, int]] = []
        self.metrics = Metrics()
        questions = {"receipt": self._receipt, "broken": self._broken}
        self.is_fresh = True
        answers = Answers(self._welcome, lambda: self.snapshot, questions, lambda: self.is_fresh, self._lease)
        self.fleet = Fleet(answers, self.metrics, expected)

    async def _welcome(self, epoch: int, starting: Collection[int]) -> Welcome | None:
        self.starting.append(set(starting))
        if epoch and epoch not in self.epochs:
            return None
        if not epoch:
            await asyncio.sleep(0.01)
            self.newest_epoch += 1
        given = epoch or self.newest_epoch
        return Welcome(given, f"{given}-0.journal", Snapshot(), b"pepper")

    async def _lease(self, epoch: int, request: LeaseRequest) -> tuple[Granted, ...]:
        self.leased.append((epoch, request.number))
        if self.lease_fault is not None:
            raise self.lease_fault
        return tuple(Granted(want.total, settled=1, leased=want.total) for want in request.wants)

    async def _receipt(self, request_id: str, key_id: str) -> bytes | None:
        return msgspec.msgpack.encode({"request_id": request_id}) if key_id == "key_1" else None

    async def _broken(self) -> bytes | None:
        raise RuntimeError("the store is gone")

    def publish(self, change: Change) -> None:
        self.snapshot = applied(self.snapshot, change)
        self.fleet.publish(change)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.fleet.listen(world.socket)
    yield world
    await world.fleet.close()


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.005)


async def test_a_new_worker_is_welcomed_with_an_epoch_the_snapshot_and_the_pepper(world: World, tmp_path: Path) -> None:
    worker = await FakeWorker(tmp_path).connect()
    assert (worker.welcome.epoch, worker.welcome.pepper) == (9, b"pepper")
    assert worker.snapshot == world.snapshot
    assert stat.S_IMODE(world.socket.stat().st_mode) == 0o600
    await worker.close()


async def test_a_worker_that_comes_back_keeps_its_epoch_and_one_that_is_not_known_is_let_go(
    world: World, tmp_path: Path
) -> None:
    worker = await FakeWorker(tmp_path, epoch=5).connect()
    assert worker.welcome.epoch == 5
    await worker.close()
    with pytest.raises(ConnectionError):
        await FakeWorker(tmp_path, epoch=4).connect()


async def test_every_change_reaches_every_worker_in_order(world: World, tmp_path: Path) -> None:
    workers = [await FakeWorker(tmp_path, f"box/worker-{number}").connect() for number in range(3)]
    for version in range(4, 54):
        world.publish(Change(version=version, generation=1))
    for worker in workers:
        await worker.until(lambda worker=worker: worker.snapshot.version == 53)
        await worker.close()


async def test_no_change_is_lost_between_the_welcome_and_what_follows(world: World, tmp_path: Path) -> None:
    async def change() -> None:
        for version in range(4, 200):
            world.publish(Change(version=version, generation=1))
            await asyncio.sleep(0)

    changing = asyncio.create_task(change())
    workers = [await FakeWorker(tmp_path, f"box/worker-{number}").connect() for number in range(5)]
    await changing
    for worker in workers:
        await worker.until(lambda worker=worker: worker.snapshot.version == 199)
        await worker.close()


async def test_a_pulse_says_what_is_newest_without_being_asked(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await FakeWorker(tmp_path).connect()
    world.snapshot = msgspec.structs.replace(world.snapshot, version=8, generation=2)
    await worker.until(lambda: worker.pulse == Pulse(2, 8))
    await worker.close()


async def test_no_pulse_vouches_for_a_store_that_is_away(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "PULSE_S", 0.02)
    world.is_fresh = False
    worker = await FakeWorker(tmp_path).connect()
    await asyncio.sleep(1.2)  # the pulse before the first look may have been a slow one
    worker.pulse = None
    await asyncio.sleep(0.2)
    assert worker.pulse is None
    world.is_fresh = True
    await worker.until(lambda: worker.pulse is not None)
    await worker.close()


async def test_a_kill_is_pending_then_confirmed_with_what_was_cut_for_it(world: World, tmp_path: Path) -> None:
    worker = FakeWorker(tmp_path)
    worker.confirming = False
    await worker.connect()
    world.publish(Change(version=4, generation=2, put_kills={2: Kill(2, {"all": "true"})}))
    (status,) = world.fleet.kill_status(2)
    assert status == {"node": "box/worker-0", "state": "pending", "confirmed_at": None, "streams_cut": 0}
    worker.say(Confirm(2, 3))
    await eventually(lambda: world.fleet.kill_status(2)[0]["state"] == "confirmed")
    (status,) = world.fleet.kill_status(2)
    assert status["streams_cut"] == 3
    assert status["confirmed_at"].endswith("Z")
    worker.say(Confirm(2, 0))
    worker.say(Confirm(3, 1))
    await eventually(lambda: world.fleet.kill_status(3)[0]["state"] == "confirmed")
    assert world.fleet.kill_status(2)[0]["streams_cut"] == 3
    await worker.close()


async def test_a_later_confirmation_covers_every_kill_before_it(world: World, tmp_path: Path) -> None:
    worker = FakeWorker(tmp_path)
    worker.confirming = False
    await worker.connect()
    worker.say(Confirm(7, 2))
    await eventually(lambda: world.fleet.kill_status(5)[0]["state"] == "confirmed")
    assert world.fleet.kill_status(8)[0]["state"] == "pending"
    await worker.close()


async def test_a_node_that_is_gone_is_unreachable_for_what_it_has_not_confirmed(world: World, tmp_path: Path) -> None:
    worker = await FakeWorker(tmp_path).connect()
    await eventually(lambda: world.fleet.kill_status(1)[0]["state"] == "confirmed")
    await worker.close()
    await eventually(lambda: world.fleet.status()[0]["state"] == "unreachable")
    assert world.fleet.kill_status(1)[0]["state"] == "confirmed"
    assert world.fleet.kill_status(2)[0]["state"] == "unreachable"
    assert b'penstock_worker_up{node="box/worker-0"} 0.0' in exposition(world.metrics)


async def test_what_other_boxes_may_know_of_the_workers_is_reported_as_it_changes(world: World, tmp_path: Path) -> None:
    assert world.fleet.reports() == [] and not world.fleet.reported.is_set()
    worker = await FakeWorker(tmp_path).connect()
    await eventually(lambda: [each.generation for each in world.fleet.reports()[0].confirmed] == [1])
    assert world.fleet.reported.is_set()
    world.fleet.reported.clear()
    worker.say(Confirm(4, 2))
    await asyncio.wait_for(world.fleet.reported.wait(), 5)
    (report,) = world.fleet.reports()
    assert (report.node, report.connected) == ("box/worker-0", True)
    assert [(each.generation, each.streams_cut) for each in report.confirmed] == [(1, 0), (4, 2)]
    world.fleet.reported.clear()
    await worker.close()
    await asyncio.wait_for(world.fleet.reported.wait(), 5)
    assert not world.fleet.reports()[0].connected


async def test_every_worker_is_told_to_end_when_its_epoch_is_over(world: World, tmp_path: Path) -> None:
    workers = [await FakeWorker(tmp_path, f"box/worker-{number}").connect() for number in range(2)]
    world.fleet.refuse()
    for worker in workers:
        await worker.until(lambda worker=worker: worker.refused and worker.hung_up)
        await worker.close()


async def test_a_worker_is_known_under_the_name_that_its_box_gives_it(tmp_path: Path) -> None:
    async def welcome(epoch: int, _starting: object) -> Welcome | None:
        return Welcome(9, "9-0.journal", Snapshot(), b"pepper")

    box = Box("3fa09c0000000000", "host-3fa09c")
    fleet = Fleet(Answers(welcome, Snapshot, {}, named=box.worker), Metrics())
    await fleet.listen(tmp_path / "control.sock")
    worker = await FakeWorker(tmp_path, "host/worker-1").connect()
    assert worker.welcome.node == "host-3fa09c/worker-1"
    assert [node["node"] for node in fleet.status()] == ["host-3fa09c/worker-1"]
    await worker.close()
    await fleet.close()


async def test_a_node_that_comes_back_is_one_node_still(world: World, tmp_path: Path) -> None:
    first = await FakeWorker(tmp_path).connect()
    second = await FakeWorker(tmp_path, epoch=5).connect()
    await first.until(lambda: first.hung_up)
    assert [(node["node"], node["state"], node["epoch"]) for node in world.fleet.status()] == [
        ("box/worker-0", "connected", 5)
    ]
    await first.close()
    await second.close()


async def test_a_beat_shows_in_status_and_metrics_with_limits_by_name(world: World, tmp_path: Path) -> None:
    worker = await FakeWorker(tmp_path).connect()
    worker.beat(in_flight=4, streams=2, held={"lim_1": 55, "lim_gone": 1}, loop_lag_ms=1.5)
    await eventually(lambda: world.fleet.status()[0]["in_flight"] == 4)
    assert world.fleet.held() == {"lim_1": 55, "lim_gone": 1}
    told = exposition(world.metrics)
    assert b'penstock_held{limit="monthly"} 55.0' in told
    assert b'penstock_streams{node="box/worker-0"} 2.0' in told
    await worker.close()
    await eventually(lambda: world.fleet.held() == {})


async def test_questions_are_answered_and_what_cannot_be_answered_is_not_answered_with_a_lie(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await FakeWorker(tmp_path).connect()
    value = await worker.ask("receipt", "req_1", "key_1")
    assert value is not None
    assert msgspec.msgpack.decode(value) == {"request_id": "req_1"}
    assert await worker.ask("receipt", "req_1", "key_2") is None
    for kind in ("broken", "unheard_of"):
        worker.say(Question(99, kind, ()))
    assert await worker.ask("receipt", "req_2", "key_1") is not None
    await eventually(lambda: b'penstock_control_errors_total{task="question"} 2.0' in exposition(world.metrics))
    await worker.close()


@pytest.mark.parametrize(
    "frame",
    [
        b"\x00\x00\x00\x01\xc1",
        b"\xff\xff\xff\xff",
        encode(Confirm(1, 0)),
        encode(Hello("a", 1)) + encode(Hello("a", 1)),
        encode(Hello("a", 1)) + b"\x00\x00\x00\x02\x81\xa1",
    ],
)
async def test_a_peer_that_breaks_the_protocol_is_hung_up_on_and_hurts_nobody_else(
    world: World, tmp_path: Path, frame: bytes
) -> None:
    worker = await FakeWorker(tmp_path).connect()
    reader, writer = await asyncio.open_unix_connection(world.socket)
    writer.write(frame)
    async with asyncio.timeout(5):
        while await reader.read(65536):
            pass
    writer.close()
    world.publish(Change(version=4, generation=1))
    await worker.until(lambda: worker.snapshot.version == 4)
    await worker.close()


async def test_a_peer_that_says_nothing_is_hung_up_on(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "HELLO_TIMEOUT_S", 0.05)
    reader, writer = await asyncio.open_unix_connection(world.socket)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


async def test_a_worker_that_has_stopped_reading_is_cut_off(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "MAX_UNSENT_BYTES", 1_000_000)
    reader, writer = await asyncio.open_unix_connection(world.socket)
    writer.write(encode(Hello("stuck", 1)))
    await eventually(lambda: bool(world.fleet.status()))
    big = {2: Kill(2, {"all": "true"}, "x" * 200_000)}
    for version in range(4, 40):
        world.publish(Change(version=version, generation=2, put_kills=big))
    await eventually(lambda: world.fleet.status()[0]["state"] == "unreachable")
    del reader
    writer.close()


async def test_a_socket_that_a_crashed_predecessor_left_behind_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "control.sock").touch()
    world = World(tmp_path)
    await world.fleet.listen(world.socket)
    worker = await FakeWorker(tmp_path).connect()
    await worker.close()
    await world.fleet.close()


async def test_closing_lets_go_of_every_worker(world: World, tmp_path: Path) -> None:
    worker = await FakeWorker(tmp_path).connect()
    await world.fleet.close()
    await worker.until(lambda: worker.hung_up)
    await worker.close()


async def test_a_node_that_should_be_there_is_missed_before_it_has_come(tmp_path: Path) -> None:
    world = World(tmp_path, ("box/worker-0", "box/worker-1"))
    await world.fleet.listen(world.socket)
    worker = await FakeWorker(tmp_path).connect()
    await eventually(lambda: world.fleet.kill_status(1)[0]["state"] == "confirmed")
    assert [(node["node"], node["state"]) for node in world.fleet.kill_status(1)] == [
        ("box/worker-0", "confirmed"),
        ("box/worker-1", "unreachable"),
    ]
    assert [(node["state"], node["connected_at"] is None) for node in world.fleet.status()] == [
        ("connected", False),
        ("unreachable", True),
    ]
    assert b'penstock_worker_up{node="box/worker-1"} 0.0' in exposition(world.metrics)
    await worker.close()
    await world.fleet.close()


async def test_a_successor_is_asked_for_what_its_predecessor_did_not_confirm(world: World, tmp_path: Path) -> None:
    first = FakeWorker(tmp_path)
    first.streams_cut = 2
    await first.connect()
    await eventually(lambda: world.fleet.kill_status(1)[0]["state"] == "confirmed")
    await first.close()
    world.publish(Change(version=4, generation=2))
    second = FakeWorker(tmp_path)
    second.confirming = False
    await second.connect()
    assert [world.fleet.kill_status(number)[0]["state"] for number in (1, 2)] == ["confirmed", "pending"]
    second.say(Confirm(2, 0))
    await eventually(lambda: world.fleet.kill_status(2)[0]["state"] == "confirmed")
    assert [world.fleet.kill_status(number)[0]["streams_cut"] for number in (1, 2)] == [2, 0]
    await second.close()


async def test_workers_that_start_together_are_known_to_live_before_they_hold_their_journals(
    world: World, tmp_path: Path
) -> None:
    silent = [FakeWorker(tmp_path, f"box/worker-{number}") for number in range(3)]
    for worker in silent:
        worker.confirming = False
    await asyncio.gather(*(worker.connect() for worker in silent))
    assert world.starting == [set(), {9}, {9, 10}]
    holder = next(worker for worker in silent if worker.epoch == 9)
    holder.beat()
    await eventually(lambda: any(node["last_beat_at"] for node in world.fleet.status()))
    late = await FakeWorker(tmp_path, "box/worker-3").connect()
    assert world.starting[-1] == {10, 11}
    for worker in (*silent, late):
        await worker.close()


async def test_a_successor_does_not_spare_its_predecessor_s_journal(world: World, tmp_path: Path) -> None:
    dead = FakeWorker(tmp_path)
    dead.confirming = False
    await dead.connect()
    successor = await FakeWorker(tmp_path).connect()
    assert world.starting == [set(), set()]
    await dead.close()
    await successor.close()


async def test_leases_are_granted_to_the_epoch_that_asks(world: World, tmp_path: Path) -> None:
    workers = [await FakeWorker(tmp_path, f"box/worker-{number}").connect() for number in range(2)]
    place = Place("lim_1", 0, "", "total")
    for worker in workers:
        answer = await worker.lease(LeaseRequest(1, (Want(place, 7, 2, 0), Want(place, 5, 5, 0))))
        assert answer == LeaseAnswer(1, (Granted(7, 1, 7), Granted(5, 1, 5)))
    assert world.leased == [(9, 1), (10, 1)]
    for worker in workers:
        await worker.close()


@pytest.mark.parametrize("fault", [StoreDown("the store is away"), RuntimeError("a fault of our own")])
async def test_a_worker_whose_leases_could_not_be_granted_is_told_to_ask_again(
    world: World, tmp_path: Path, fault: Exception
) -> None:
    worker = await FakeWorker(tmp_path).connect()
    world.lease_fault = fault
    assert await worker.lease(LeaseRequest(4)) == LeaseAnswer(4, None)
    assert b'penstock_control_errors_total{task="lease"} 1.0' in exposition(world.metrics)
    world.lease_fault = None
    assert await worker.lease(LeaseRequest(4)) == LeaseAnswer(4, ())
    await worker.close()


async def test_a_worker_that_asks_for_leases_as_none_should_is_told_to_end(world: World, tmp_path: Path) -> None:
    worker = await FakeWorker(tmp_path).connect()
    world.lease_fault = PenstockError("request 7 after request 3")
    worker.say(LeaseRequest(7))
    await worker.until(lambda: worker.refused)
    await worker.close()


async def test_a_recall_reaches_the_workers_that_it_concerns(world: World, tmp_path: Path) -> None:
    workers = [await FakeWorker(tmp_path, f"box/worker-{number}").connect() for number in range(3)]
    gone = await FakeWorker(tmp_path, "box/worker-3").connect()
    await gone.close()
    await eventually(lambda: world.fleet.status()[3]["state"] == "unreachable")
    first, second = Place("lim_1", 0, "", "total"), Place("lim_1", 0, "acme", "total")
    left = world.fleet.recall({9: (first,), 11: (first, second), 12: (first,), 99: (first,)})
    await workers[0].until(lambda: workers[0].recalled == [first])
    await workers[2].until(lambda: workers[2].recalled == [first, second])
    assert workers[1].recalled == [] and left == {99: (first,)}
    for worker in workers:
        await worker.close()
