"""The grantor, on both databases: what it grants is never more than there is, and each request is obeyed once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from penstock.domain.events import UsageEvent
from penstock.domain.journal import Hold, Post
from penstock.domain.lease import Given, Granted, Place, Want
from penstock.domain.policy import Charge, Charges, Limit
from penstock.errors import PenstockError
from penstock.ledger import journal as journals
from penstock.ledger.committer import Committer
from penstock.ledger.grantor import Grantor
from penstock.ledger.journal import Journal
from penstock.ledger.verify import verify
from penstock.store.engine import committer_engine

NOW_S = 1_795_200_000
LIMITS = {
    limit.id: limit
    for limit in (
        Limit("usd", "growth", "usd", 1_000, "total"),
        Limit("rpm", "calls", "requests", 100, "minute"),
        Limit("lanes", "lanes", "concurrent", 8),
        Limit("hourly", "hourly", "usd", 1_000, "hour", window="sliding"),
        Limit("lately", "lately", "requests", 100, "minute", window="sliding"),
    )
}
USD = Place("usd", 0, "", "total")
RPM = Place("rpm", 0, "", "minute")
LANES = Place("lanes", 0, "", "total")
HOURLY = Place("hourly", 0, "", "sliding-hour")
LATELY = Place("lately", 0, "", "sliding-minute")


class Worker:
    """An epoch: the journal that it writes and the requests that it numbers."""

    def __init__(self, epoch: int, path: str, grantor: Grantor, clock: Callable[[], int]) -> None:
        self.epoch = epoch
        self.journal = Journal(Path(path))
        self.number = 0
        self._grantor = grantor
        self._clock = clock
        self._attempts = 0

    async def ask(self, *wants: Want, given: tuple[Given, ...] = ()) -> tuple[Granted, ...]:
        self.number += 1
        return await self._grantor.serve(self.epoch, self.number, wants, given)

    async def want(self, place: Place, total: int, least: int | None = None) -> Granted:
        at_s = self._clock() // 10**9
        (granted,) = await self.ask(Want(place, total, total if least is None else least, at_s))
        return granted

    async def give(self, place: Place, amount: int, since: int = 0) -> None:
        assert await self.ask(given=(Given(place, amount, since),)) == ()

    def hold(self, place: Place, amount: int, start: int = 0) -> Callable[[int], None]:
        """Journals a hold; what comes back posts what was billed for it."""
        self._attempts += 1
        attempt = f"{self.epoch}:{self._attempts}"
        charge = Charge(place.limit, start, place.value, amount, place.per)
        draft = UsageEvent(event_id=attempt, request_id=attempt, started_at=self._clock(), ended_at=0)
        self.journal.append(Hold(attempt, self._clock(), Charges.of([charge]), draft))

        def post(billed: int) -> None:
            owed = Charge(place.limit, start, place.value, billed, place.per)
            self.journal.append(Post(attempt, self._clock(), Charges.of([owed]), "computed", None))

        return post

    def spend(self, place: Place, amount: int, start: int = 0) -> None:
        self.hold(place, amount, start)(amount)

    def die(self) -> None:
        journals.os.close(self.journal._descriptor)


@pytest.fixture
def recalls() -> list[Mapping[int, tuple[Place, ...]]]:
    return []


@pytest.fixture
async def grantor(
    engine: Engine, clock: Callable[[], int], recalls: list[Mapping[int, tuple[Place, ...]]]
) -> AsyncIterator[Grantor]:
    grantor = Grantor(engine, lambda: LIMITS, recalls.append, clock)
    yield grantor
    await grantor.close()


@pytest.fixture
def hire(committer: Committer, grantor: Grantor, clock: Callable[[], int]) -> Callable[[], Any]:
    """Opens an epoch, which finishes those that are dead."""

    async def hire() -> Worker:
        opened = await committer.open_epoch()
        return Worker(opened.epoch, opened.journal, grantor, clock)

    return hire


Hire = Callable[[], Any]


def rows(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    with engine.begin() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def lease(engine: Engine, place: Place) -> dict[int, tuple[int, int]]:
    """Epoch -> granted and posted."""
    query = "SELECT limit_id, window_start, value, per, epoch, granted, posted FROM leases"
    return {row[4]: (row[5], row[6]) for row in rows(engine, query) if row[:4] == tuple(place)}


async def test_the_whole_of_an_amount_can_be_granted_and_no_more(hire: Hire, engine: Engine) -> None:
    one, other = await hire(), await hire()
    first = await one.want(USD, 200)
    assert first == Granted(250, 0, 250)
    assert await other.want(USD, 700, 500) == Granted(703, 0, 953)
    assert await one.want(USD, 48) == Granted(0, 0, 953)
    assert await one.want(USD, 48, 10) == Granted(47, 0, 1_000)
    assert await other.want(USD, 1) == Granted(0, 0, 1_000)
    assert lease(engine, USD) == {one.epoch: (297, 0), other.epoch: (703, 0)}


async def test_what_is_settled_comes_off_the_lease_in_one_step(
    hire: Hire, committer: Committer, engine: Engine
) -> None:
    one, other = await hire(), await hire()
    await one.want(USD, 400, 400)
    leased = lease(engine, USD)[one.epoch][0]
    one.spend(USD, 300)
    await committer.drain()
    assert lease(engine, USD) == {one.epoch: (leased, 300)}
    assert await other.want(USD, 1_000, 1_000) == Granted(0, 300, leased - 300)
    assert await other.want(USD, 1_000, 1) == Granted(1_000 - leased, 300, 700)


async def test_what_is_given_back_is_free_for_others(hire: Hire, engine: Engine) -> None:
    one, other = await hire(), await hire()
    await one.want(USD, 1_000, 1_000)
    assert (await other.want(USD, 10)).amount == 0
    await one.give(USD, 600)
    assert (await other.want(USD, 600)).amount == 600
    assert lease(engine, USD) == {one.epoch: (400, 0), other.epoch: (600, 0)}


async def test_what_one_request_gives_back_can_be_granted_to_another_of_the_same_transaction(
    hire: Hire, grantor: Grantor
) -> None:
    one, other = await hire(), await hire()
    await one.want(USD, 1_000, 1_000)
    granted, _ = await asyncio.gather(other.want(USD, 600), one.give(USD, 600))
    assert granted.amount == 600


async def test_more_than_was_not_posted_cannot_be_given_back(hire: Hire, committer: Committer, engine: Engine) -> None:
    one = await hire()
    granted = await one.want(USD, 400)
    one.spend(USD, 300)
    await committer.drain()
    await one.give(USD, granted.amount)
    assert lease(engine, USD) == {one.epoch: (300, 300)}


async def test_a_bill_beyond_the_lease_is_settled_and_frees_nothing(
    hire: Hire, committer: Committer, engine: Engine
) -> None:
    one, other = await hire(), await hire()
    granted = await one.want(USD, 100)
    one.hold(USD, 100)(granted.amount + 50)
    await committer.drain()
    settled = granted.amount + 50
    assert lease(engine, USD) == {one.epoch: (settled, settled)}
    assert await other.want(USD, 1_000, 1) == Granted(1_000 - settled, settled, 1_000 - settled)
    assert await verify(engine) == []


async def test_bills_that_no_number_holds_do_not_stop_the_books(
    hire: Hire, committer: Committer, engine: Engine
) -> None:
    one = await hire()
    await one.want(USD, 100)
    for _ in range(2):
        one.hold(USD, 10)(2**63 - 1)
        await committer.drain()
    assert lease(engine, USD) == {one.epoch: (2**63 - 1, 2**63 - 1)}
    assert await one.want(USD, 1) == Granted(0, 2**63 - 1, 0)


async def test_a_request_that_comes_again_gets_the_same_answer_and_changes_nothing(
    hire: Hire, grantor: Grantor, engine: Engine
) -> None:
    one = await hire()
    want = Want(USD, 100, 100, NOW_S)
    first = await grantor.serve(one.epoch, 1, (want,), ())
    before = rows(engine, "SELECT * FROM leases")
    again = await asyncio.gather(*(grantor.serve(one.epoch, 1, (want,), ()) for _ in range(3)))
    assert again == [first] * 3
    assert rows(engine, "SELECT * FROM leases") == before
    following = await grantor.serve(one.epoch, 2, (), (Given(USD, 40),))
    assert following == await grantor.serve(one.epoch, 2, (), (Given(USD, 40),)) == ()
    assert lease(engine, USD) == {one.epoch: (first[0].amount - 40, 0)}


async def test_a_request_whose_commit_was_not_heard_of_is_obeyed_once(
    hire: Hire, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await hire()
    commit = engine.dialect.do_commit

    def commit_and_fail(connection: Any) -> None:
        commit(connection)
        monkeypatch.setattr(engine.dialect, "do_commit", commit)
        raise ConnectionError("the server went away after it had committed")

    monkeypatch.setattr(engine.dialect, "do_commit", commit_and_fail)
    with pytest.raises(ConnectionError):
        await one.want(USD, 100)
    granted = lease(engine, USD)
    one.number -= 1
    assert (await one.want(USD, 100)).amount == granted[one.epoch][0]
    assert lease(engine, USD) == granted


async def test_a_request_that_was_rolled_back_can_be_asked_again(
    hire: Hire, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await hire(), await hire()
    commit = engine.dialect.do_commit

    def fail(connection: Any) -> None:
        monkeypatch.setattr(engine.dialect, "do_commit", commit)
        raise ConnectionError("the server went away")

    monkeypatch.setattr(engine.dialect, "do_commit", fail)
    failures = await asyncio.gather(one.want(USD, 100), other.want(USD, 100), return_exceptions=True)
    assert [type(failure) for failure in failures] == [ConnectionError] * 2
    assert lease(engine, USD) == {}
    one.number -= 1
    assert (await one.want(USD, 100)).amount == 156


@pytest.mark.parametrize("number", [0, 2, 7])
async def test_a_number_that_is_not_next_is_refused_and_harms_nobody_else(
    hire: Hire, grantor: Grantor, engine: Engine, number: int
) -> None:
    one, other = await hire(), await hire()
    await other.give(USD, 0)
    want = Want(USD, 100, 100, NOW_S)
    wrong, right = await asyncio.gather(
        grantor.serve(one.epoch, number, (want,), ()), other.want(USD, 10), return_exceptions=True
    )
    if number:
        assert isinstance(wrong, PenstockError)
        assert f"request {number} " in str(wrong)
    else:
        assert wrong == ()
    assert isinstance(right, Granted)
    assert list(lease(engine, USD)) == [other.epoch]


@pytest.mark.parametrize(
    ("wants", "given"),
    [
        ((Want(USD, 0, 0, NOW_S),), ()),
        ((Want(USD, 5, 6, NOW_S),), ()),
        ((Want(USD, 2**63, 1, NOW_S),), ()),
        ((Want(USD, 5, 5, -1),), ()),
        ((), (Given(USD, -1),)),
        ((), (Given(USD, 1, -1),)),
        ((), (Given(Place("usd", -1, "", "total"), 1),)),
    ],
)
async def test_amounts_that_cannot_be_are_refused(
    hire: Hire, engine: Engine, wants: tuple[Want, ...], given: tuple[Given, ...]
) -> None:
    one = await hire()
    with pytest.raises(PenstockError, match="cannot be"):
        await one.ask(*wants, given=given)
    assert rows(engine, "SELECT * FROM leases") == []


async def test_an_epoch_that_nobody_knows_or_that_is_over_gets_nothing(
    hire: Hire, grantor: Grantor, engine: Engine
) -> None:
    one = await hire()
    one.die()
    await hire()
    for epoch in (one.epoch, 99):
        with pytest.raises(PenstockError, match="alive"):
            await grantor.serve(epoch, 1, (Want(USD, 1, 1, NOW_S),), ())
    assert rows(engine, "SELECT * FROM leases") == []


async def test_a_dead_workers_leases_end_when_its_journal_has_been_settled(
    hire: Hire, engine: Engine, grantor: Grantor
) -> None:
    one, other = await hire(), await hire()
    await one.want(USD, 1_000, 1_000)
    one.spend(USD, 200)
    one.hold(USD, 100)
    one.die()
    assert (await other.want(USD, 1)).amount == 0
    await hire()
    assert lease(engine, USD) == {other.epoch: (0, 0)}
    assert rows(engine, "SELECT epoch FROM lease_requests") == [(other.epoch,)]
    assert await other.want(USD, 1_000, 1) == Granted(700, 300, 700)
    assert await verify(engine) == []


async def test_a_dead_workers_share_is_free_in_the_next_window(hire: Hire, engine: Engine, clock: Any) -> None:
    clock.pass_s(20)
    one, other = await hire(), await hire()
    await one.want(RPM, 100)
    await one.want(LATELY, 100)
    one.spend(RPM, 70, start=NOW_S)
    one.die()
    await hire()
    clock.pass_s(39)
    assert await other.want(RPM, 1) == Granted(0, 70, 100)
    clock.pass_s(1)
    granted = await other.want(RPM, 1)
    assert (granted.amount, granted.settled, granted.since) == (7, 0, NOW_S + 60)
    clock.pass_s(20)
    assert (await other.want(LATELY, 1)).amount == 0
    clock.pass_s(1)
    assert (await other.want(LATELY, 1)).amount == 7


async def test_a_dead_workers_share_counts_in_the_window_that_its_clock_had_come_to(
    hire: Hire, engine: Engine, clock: Any
) -> None:
    one, other = await hire(), await hire()
    await one.want(RPM, 100)
    one.spend(RPM, 70, start=NOW_S)
    clock.pass_s(-30)
    one.die()
    await hire()
    clock.pass_s(89)
    assert (await other.want(RPM, 1)).amount == 0
    clock.pass_s(1)
    assert (await other.want(RPM, 1)).amount == 7


async def test_the_places_of_a_dead_workers_calls_are_free_at_once(hire: Hire) -> None:
    one, other = await hire(), await hire()
    await one.want(LANES, 8)
    one.die()
    assert (await other.want(LANES, 1)).amount == 0
    await hire()
    assert (await other.want(LANES, 8)).amount == 8


async def test_what_a_worker_that_held_whole_balances_used_of_a_share_is_not_free_in_that_window(
    hire: Hire, clock: Any
) -> None:
    alone = await hire()
    alone.spend(RPM, 70, start=NOW_S)
    alone.spend(LATELY, 60, start=NOW_S - 30)
    alone.spend(LATELY, 10, start=NOW_S)
    alone.die()
    one = await hire()
    assert (await one.want(RPM, 31)).amount == 0
    assert (await one.want(RPM, 30)).amount == 30
    assert (await one.want(LATELY, 31)).amount == 0
    clock.pass_s(61)
    assert (await one.want(RPM, 70)).amount == 70
    assert (await one.want(LATELY, 100)).amount == 100


async def test_two_that_were_alone_one_after_the_other_count_once(hire: Hire, engine: Engine) -> None:
    for used in (40, 30):
        alone = await hire()
        alone.spend(RPM, used, start=NOW_S)
        alone.die()
    one = await hire()
    assert sorted(granted for granted, _ in lease(engine, RPM).values()) == [30, 40]
    assert (await one.want(RPM, 31)).amount == 0


async def test_a_share_stands_when_its_window_is_spent(hire: Hire, committer: Committer, clock: Any) -> None:
    one, other = await hire(), await hire()
    assert (await one.want(RPM, 100)).amount == 100
    one.spend(RPM, 100, start=NOW_S)
    await committer.drain()
    assert await other.want(RPM, 1) == Granted(0, 100, 100)
    clock.pass_s(60)
    assert await other.want(RPM, 1) == Granted(0, 0, 100)
    await one.give(RPM, 60, since=NOW_S + 60)
    assert await other.want(RPM, 60) == Granted(60, 0, 100, since=NOW_S + 60)


async def test_a_sliding_window_is_one_place_and_what_leaves_it_is_free(
    hire: Hire, committer: Committer, engine: Engine, clock: Any
) -> None:
    one, other = await hire(), await hire()
    assert (await one.want(HOURLY, 1_000)).amount == 1_000
    one.spend(HOURLY, 600, start=NOW_S)
    one.spend(HOURLY, 100, start=NOW_S + 60)
    await committer.drain()
    assert lease(engine, HOURLY) == {one.epoch: (1_000, 700)}
    assert await other.want(HOURLY, 1) == Granted(0, 700, 300)
    clock.pass_s(3_659)
    assert (await other.want(HOURLY, 1)).amount == 0
    clock.pass_s(1)
    assert await other.want(HOURLY, 600) == Granted(600, 100, 900)


async def test_many_places_are_asked_for_at_once(hire: Hire) -> None:
    one = await hire()
    places = [Place("usd", 0, str(n), "total") for n in range(130)]
    answer = await one.ask(*(Want(place, 10 + n, 1, NOW_S) for n, place in enumerate(places)))
    assert [granted.amount for granted in answer] == [(10 + n) + (990 - n) // 8 for n in range(130)]


async def test_all_that_wait_are_served_in_one_transaction(hire: Hire, engine: Engine) -> None:
    workers = [await hire() for _ in range(6)]
    commits = 0

    @event.listens_for(engine, "commit")
    def count(_: object) -> None:
        nonlocal commits
        commits += 1

    answers = await asyncio.gather(*(worker.want(USD, 200, 50) for worker in workers))
    event.remove(engine, "commit", count)
    assert commits == 1
    assert sum(granted.amount for granted in answers) == 1_000
    assert [granted.amount > 0 for granted in answers] == [True] * 5 + [False]


async def test_who_lacks_what_others_may_not_be_using_has_it_recalled(
    hire: Hire, recalls: list[Mapping[int, tuple[Place, ...]]], committer: Committer
) -> None:
    one, other, third = await hire(), await hire(), await hire()
    await one.want(USD, 950)
    await one.want(LANES, 8)
    assert recalls == []
    await asyncio.gather(other.want(LANES, 2), third.want(USD, 100, 60))
    assert recalls == [{one.epoch: (LANES, USD)}]
    one.spend(USD, 950)
    await committer.drain()
    await other.want(USD, 100)
    assert len(recalls) == 1


async def test_an_asker_that_goes_away_does_not_keep_the_others(hire: Hire, engine: Engine) -> None:
    one, other = await hire(), await hire()
    leaving = asyncio.create_task(one.want(USD, 100))
    staying = asyncio.create_task(other.want(USD, 100))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).amount == 146
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_rows_that_take_nothing_from_anybody_are_forgotten(
    hire: Hire, committer: Committer, engine: Engine, clock: Any
) -> None:
    one, other = await hire(), await hire()
    dead = await hire()
    await dead.want(RPM, 10)
    dead.die()
    await hire()
    spent = await one.want(USD, 900)
    one.spend(USD, spent.amount)
    await other.want(USD, 5)
    await other.want(RPM, 10)
    await other.give(RPM, 90, since=NOW_S)
    await committer.drain()
    clock.pass_s(170)
    await committer.drain()
    assert len(rows(engine, "SELECT * FROM leases WHERE per = 'minute'")) == 2
    clock.pass_s(80)
    await committer.drain()
    assert lease(engine, RPM) == {}
    assert list(lease(engine, USD)) == [other.epoch]


async def test_what_a_row_that_was_forgotten_had_does_not_come_back(
    hire: Hire, committer: Committer, engine: Engine, clock: Any
) -> None:
    one = await hire()
    spent = await one.want(USD, 400)
    late = one.hold(USD, 10)
    one.spend(USD, spent.amount - 10)
    late(10)
    await committer.drain()
    clock.pass_s(200)
    await committer.drain()
    assert lease(engine, USD) == {}
    again = await one.want(USD, 100)
    assert again.leased == again.amount
    assert lease(engine, USD) == {one.epoch: (again.amount, 0)}


async def test_two_boxes_grant_what_there_is_and_no_more(
    hire: Hire, committer: Committer, engine: Engine, grantor: Grantor, clock: Callable[[], int]
) -> None:
    """Each with a grantor of its own on the database, while what is granted is also being settled."""
    elsewhere = committer_engine(engine.url)
    far = Grantor(elsewhere, lambda: {"usd": Limit("usd", "usd", "usd", 400, "total")}, lambda _: None, clock)
    near = Grantor(engine, lambda: {"usd": Limit("usd", "usd", "usd", 400, "total")}, lambda _: None, clock)
    workers = [await hire() for _ in range(6)]
    for worker, its in zip(workers, [near, far] * 3, strict=True):
        worker._grantor = its
    got = [0] * len(workers)

    async def draw(n: int, worker: Worker) -> None:
        while granted := (await worker.want(USD, 3, 1)).amount:
            got[n] += granted
            worker.spend(USD, granted)

    async def settle() -> None:
        while sum(got) < 400:
            await committer.drain()
            (outside,) = rows(engine, "SELECT SUM(granted - posted) FROM leases")
            (settled,) = rows(engine, "SELECT SUM(settled) FROM balances")
            assert 0 <= int(outside[0] or 0) <= 400
            assert int(settled[0] or 0) <= 400

    async with asyncio.timeout(60):
        await asyncio.gather(settle(), *(draw(n, worker) for n, worker in enumerate(workers)))
    assert sum(got) == 400
    await committer.drain()
    assert rows(engine, "SELECT settled FROM balances") == [(400,)]
    assert sum(granted for granted, _ in lease(engine, USD).values()) == 400
    assert await verify(engine) == []
    await far.close()
    await near.close()
    elsewhere.dispose()
