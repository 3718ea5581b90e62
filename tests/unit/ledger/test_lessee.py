"""The lessee: calls that lack something wait together, one request at a time, and take what comes in their order."""

import asyncio
from typing import Any

import pytest

from penstock.domain.lease import Given, Granted, Place, Want
from penstock.domain.policy import Denial, Limit
from penstock.domain.usage import Usage
from penstock.errors import StoreUnavailable
from penstock.ledger.lessee import PATIENCE_ROUNDS, Lessee
from penstock.ledger.machine import Ask, Extended, Machine, Short, amounts_owed
from penstock.ledger.reservations import Reservation
from penstock.ledger.slices import IDLE_ROUNDS

NOW = 1_795_200_000
DAY = NOW - NOW % 86_400
MONEY = Limit("usd", "usd", "usd", 1_000, "day")
RATE = Limit("rate", "rate", "requests", 3, "minute")
LANES = Limit("lanes", "lanes", "concurrent", 2)
OF_MONEY = Place("usd", DAY, "", "day")
OF_RATE = Place("rate", 0, "", "minute")

Said = tuple[int, tuple[Want, ...], tuple[Given, ...]]


class Worker:
    """A machine that lives from leases, and what it says."""

    def __init__(self) -> None:
        self.now = NOW
        self.said: list[Said] = []
        self.machine = Machine(leased=True)
        self.lessee = Lessee(self.machine, lambda *said: self.said.append(said), lambda: self.now * 10**9)

    def try_to(self, limit: Limit, usd: int, *, final: bool = False) -> Reservation | Denial | Short:
        return self.machine.reserve([limit], {}, Ask(usd, 1, 1), self.now, final=final)

    async def call(self, limit: Limit, usd: int = 100) -> Reservation | Denial:
        outcome = self.try_to(limit, usd)
        if isinstance(outcome, Short):
            return await self.lessee.obtain(outcome, lambda final: self.try_to(limit, usd, final=final))
        return outcome

    async def begin(self, limit: Limit, usd: int = 100) -> "asyncio.Task[Reservation | Denial]":
        task = asyncio.ensure_future(self.call(limit, usd))
        await settle()
        return task

    def settle(self, reservation: Reservation, amount: int) -> None:
        self.machine.settle(reservation, [amount] * len(reservation.lines))


async def settle() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def rounds(worker: Worker, count: int, task: "asyncio.Task[Any]") -> bool:
    """Lets so many seconds turn. Whether the call has come to its end then."""
    for _ in range(count):
        worker.lessee.tick()
        await settle()
    return task.done()


async def held(task: "asyncio.Task[Reservation | Denial]") -> Reservation:
    outcome = await task
    assert isinstance(outcome, Reservation)
    return outcome


async def test_calls_that_come_together_ask_together_and_later_ones_wait_for_the_answer() -> None:
    worker = Worker()
    first = [asyncio.ensure_future(worker.call(MONEY, usd)) for usd in (100, 40)]
    await settle()
    later = await worker.begin(MONEY, 7)
    assert worker.said == [(1, (Want(OF_MONEY, 140, 40, NOW, 40),), ())]
    worker.lessee.answered(1, (Granted(140, 0, 140),))
    for task in first:
        await held(task)
    assert worker.said[1] == (2, (Want(OF_MONEY, 7, 7, NOW, 7),), ())
    worker.lessee.answered(2, (Granted(50, 0, 190),))
    await held(later)
    assert isinstance(worker.try_to(MONEY, 43), Reservation)
    assert isinstance(worker.try_to(MONEY, 1), Short)


async def test_of_too_little_those_take_that_it_suffices_for_in_their_order() -> None:
    worker = Worker()
    calls = [await worker.begin(MONEY, 60) for _ in range(3)]
    worker.lessee.answered(1, (Granted(60, 0, 60),))
    await held(calls[0])
    assert worker.said[1] == (2, (Want(OF_MONEY, 120, 60, NOW, 60),), ())
    worker.lessee.answered(2, (Granted(100, 950, 160),))
    await held(calls[1])
    denial = await calls[2]
    assert isinstance(denial, Denial)
    assert not denial.held_by_others
    assert denial.left < denial.asked


async def test_a_denial_says_what_is_unspent_and_when_enough_has_left_what_slides() -> None:
    worker = Worker()
    sliding = Limit("slides", "slides", "usd", 1_000, "hour", window="sliding")
    task = await worker.begin(sliding, 300)
    worker.lessee.answered(1, (Granted(0, 800, 100, 0, NOW + 1_234),))
    denial = await task
    assert isinstance(denial, Denial)
    assert (denial.left, denial.retry_after_s) == (200, 1_234)


async def test_what_was_settled_is_spent_and_what_was_held_beyond_it_is_free_again() -> None:
    worker = Worker()
    task = await worker.begin(MONEY, 100)
    worker.lessee.answered(1, (Granted(100, 0, 100),))
    worker.settle(await held(task), 30)
    assert isinstance(worker.try_to(MONEY, 71), Short)
    assert isinstance(worker.try_to(MONEY, 70), Reservation)


async def test_a_call_that_others_are_in_the_way_of_asks_again_until_it_is_told() -> None:
    worker = Worker()
    task = await worker.begin(MONEY, 100)
    for number in range(1, 5):
        assert worker.said[-1][0] == number
        worker.lessee.answered(number, (Granted(0, 0, 1_000),))
        async with asyncio.timeout(5):
            while not task.done() and worker.said[-1][0] == number:
                await asyncio.sleep(0.005)
    denial = await task
    assert isinstance(denial, Denial)
    assert denial.held_by_others
    assert len(worker.said) == 4


async def test_a_denial_for_good_is_not_asked_for_twice_in_a_second() -> None:
    worker = Worker()
    task = await worker.begin(MONEY, 100)
    worker.lessee.answered(1, (Granted(0, 950, 0),))
    assert isinstance(await task, Denial)
    assert isinstance(await worker.call(MONEY, 100), Denial)
    assert isinstance(await worker.call(MONEY, 1_001), Denial)
    assert len(worker.said) == 1
    worker.now += 1
    task = await worker.begin(MONEY, 100)
    assert len(worker.said) == 2
    worker.lessee.answered(2, (Granted(100, 900, 100),))
    await held(task)


async def test_while_a_clock_stands_still_that_was_put_back_a_denial_is_asked_about_again() -> None:
    worker = Worker()
    task = await worker.begin(MONEY, 100)
    worker.lessee.answered(1, (Granted(0, 950, 0),))
    assert isinstance(await task, Denial)
    worker.now -= 30
    assert isinstance(await worker.call(MONEY, 100), Denial)
    worker.lessee.tick()
    task = await worker.begin(MONEY, 100)
    assert len(worker.said) == 2
    worker.lessee.answered(2, (Granted(100, 900, 100),))
    await held(task)


async def test_a_lost_request_is_said_again_with_its_number_and_obeyed_once() -> None:
    worker = Worker()
    task = await worker.begin(MONEY, 100)
    worker.lessee.linked()
    assert worker.said == [(1, (Want(OF_MONEY, 100, 100, NOW, 100),), ())] * 2
    worker.lessee.answered(1, (Granted(100, 0, 100),))
    worker.lessee.answered(1, (Granted(100, 0, 100),))
    await held(task)
    assert isinstance(worker.try_to(MONEY, 1), Short)


async def test_without_an_answer_from_the_store_the_call_is_refused_and_the_request_is_said_again() -> None:
    worker = Worker()
    task = await worker.begin(MONEY, 100)
    worker.lessee.answered(1, None)
    with pytest.raises(StoreUnavailable):
        await task
    async with asyncio.timeout(5):
        while len(worker.said) < 2:
            await asyncio.sleep(0.01)
    assert worker.said[1] == worker.said[0]
    worker.lessee.answered(1, (Granted(100, 0, 100),))
    assert isinstance(worker.try_to(MONEY, 100), Reservation)


async def test_a_call_that_is_never_answered_is_refused_in_the_end_and_the_grant_is_for_others() -> None:
    worker = Worker()
    task = await worker.begin(MONEY, 100)
    late = await rounds(worker, PATIENCE_ROUNDS - 1, task)
    assert not late
    await rounds(worker, 1, task)
    with pytest.raises(StoreUnavailable, match="No answer"):
        await task
    assert len(worker.said) == 1
    worker.lessee.answered(1, (Granted(100, 0, 100),))
    assert worker.machine.held() == {}
    assert isinstance(worker.try_to(MONEY, 100), Reservation)


async def test_a_call_waits_behind_a_slow_request_and_for_its_own() -> None:
    worker = Worker()
    first = await worker.begin(MONEY, 100)
    second = await worker.begin(MONEY, 100)
    assert not await rounds(worker, 2, first)
    worker.lessee.answered(1, (Granted(100, 0, 100),))
    await held(first)
    assert not await rounds(worker, 2, second)
    worker.lessee.answered(2, (Granted(100, 0, 200),))
    await held(second)


async def test_a_call_that_a_slow_ledger_has_answered_is_told_of_others_and_not_that_nobody_answers() -> None:
    worker = Worker()
    task = await worker.begin(MONEY, 100)
    worker.lessee.answered(1, (Granted(0, 0, 1_000),))
    async with asyncio.timeout(5):
        while len(worker.said) == 1:
            await asyncio.sleep(0.005)
    assert await rounds(worker, PATIENCE_ROUNDS, task)
    denial = await task
    assert isinstance(denial, Denial)
    assert denial.held_by_others
    worker.lessee.answered(2, (Granted(100, 0, 1_000),))
    assert isinstance(worker.try_to(MONEY, 100), Reservation)


async def test_a_call_that_is_cut_as_it_gets_its_hold_leaves_nothing_held() -> None:
    worker = Worker()
    task = await worker.begin(MONEY, 100)
    worker.lessee.answered(1, (Granted(100, 0, 100),))
    assert worker.machine.held() == {"usd": 100}
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert worker.machine.held() == {}


async def test_a_call_that_is_cut_while_it_waits_leaves_the_grant_to_others() -> None:
    worker = Worker()
    task = await worker.begin(MONEY, 100)
    task.cancel()
    await settle()
    worker.lessee.answered(1, (Granted(100, 0, 100),))
    assert isinstance(worker.try_to(MONEY, 100), Reservation)


async def test_what_lies_idle_goes_back_and_what_is_recalled_goes_at_once() -> None:
    worker = Worker()
    task = await worker.begin(MONEY, 100)
    worker.lessee.answered(1, (Granted(300, 0, 300),))
    reservation = await held(task)
    for _ in range(IDLE_ROUNDS):
        worker.lessee.tick()
    assert len(worker.said) == 1
    worker.lessee.tick()
    assert worker.said[1:] == [(2, (), (Given(OF_MONEY, 200),))]
    worker.lessee.answered(2, ())
    worker.settle(reservation, 40)
    worker.lessee.recalled([OF_MONEY])
    assert worker.said[2] == (3, (), (Given(OF_MONEY, 60),))
    assert isinstance(worker.try_to(MONEY, 1), Short)


async def test_a_share_is_there_again_in_the_next_window_and_its_used_part_stays() -> None:
    worker = Worker()
    task = await worker.begin(RATE)
    worker.lessee.answered(1, (Granted(3, 0, 3),))
    worker.settle(await held(task), 1)
    worker.lessee.recalled([OF_RATE])
    assert worker.said[1] == (2, (), (Given(OF_RATE, 2, NOW - NOW % 60),))
    worker.lessee.answered(2, ())
    assert isinstance(worker.try_to(RATE, 1), Short)
    worker.now += 60
    assert isinstance(worker.try_to(RATE, 1), Reservation)


async def test_more_of_a_share_counts_from_the_window_on_in_which_another_gave_it_back() -> None:
    worker = Worker()
    minute = NOW - NOW % 60
    task = await worker.begin(RATE)
    worker.lessee.answered(1, (Granted(1, 0, 3),))
    await held(task)
    task = await worker.begin(RATE)
    worker.lessee.answered(2, (Granted(1, 0, 3, minute + 60),))
    await settle()
    assert not task.done()
    task.cancel()
    worker.now += 60
    assert isinstance(worker.try_to(RATE, 1), Reservation)
    assert isinstance(worker.try_to(RATE, 1), Reservation)


async def test_concurrency_is_shared_and_free_again_when_a_call_ends() -> None:
    worker = Worker()
    task = await worker.begin(LANES)
    worker.lessee.answered(1, (Granted(1, 0, 1),))
    reservation = await held(task)
    assert isinstance(worker.try_to(LANES, 1), Short)
    worker.machine.release(reservation)
    assert isinstance(worker.try_to(LANES, 1), Reservation)


async def test_a_lowered_limit_gives_back_what_is_unused() -> None:
    worker = Worker()
    task = await worker.begin(MONEY, 100)
    worker.lessee.answered(1, (Granted(300, 0, 300),))
    await held(task)
    lowered = Limit("usd", "usd", "usd", 500, "day")
    task = await worker.begin(lowered, 50)
    assert worker.said[1] == (2, (Want(OF_MONEY, 50, 50, NOW, 50),), (Given(OF_MONEY, 200),))
    task.cancel()


async def test_a_worker_that_ends_gives_everything_back_that_nothing_holds() -> None:
    worker = Worker()
    task = await worker.begin(MONEY, 100)
    worker.lessee.answered(1, (Granted(300, 0, 300),))
    await held(task)
    ending = asyncio.ensure_future(worker.lessee.give_all_back(within_s=5))
    await settle()
    assert worker.said[1] == (2, (), (Given(OF_MONEY, 200),))
    worker.lessee.answered(2, ())
    await ending


async def test_a_grant_for_a_window_that_is_over_goes_back() -> None:
    worker = Worker()
    task = await worker.begin(MONEY, 100)
    worker.now += 86_400
    worker.try_to(MONEY, 1)
    worker.lessee.answered(1, (Granted(100, 0, 100),))
    await settle()
    assert worker.said[1][2] == (Given(OF_MONEY, 100),)
    task.cancel()


# -- extensions -----------------------------------------------------------------------------------------------------

METER = Limit("meter", "meter", "usd", 1_000, "day", mode="metered")
OF_METER = Place("meter", DAY, "", "day")


async def stream(worker: Worker, limit: Limit, granted: Granted) -> Reservation:
    """One that holds 100."""
    ask = Ask(900, 1, 900, metered=Ask(100, 1, 100))
    short = worker.machine.reserve([limit], {}, ask, worker.now)
    assert isinstance(short, Short)
    obtained = worker.lessee.obtain(
        short, lambda final: worker.machine.reserve([limit], {}, ask, worker.now, final=final)
    )
    task = asyncio.ensure_future(obtained)
    await settle()
    worker.lessee.answered(worker.said[-1][0], (granted,))
    return await held(task)


def try_to_extend(
    worker: Worker, reservation: Reservation, usd: int, *, final: bool = False
) -> Extended | Denial | Short:
    return worker.machine.extend(reservation, {"meter": METER}, Ask(usd, 1, usd), worker.now, final=final)


async def begin_extension(worker: Worker, reservation: Reservation, usd: int) -> "asyncio.Task[Extended | Denial]":
    short = try_to_extend(worker, reservation, usd)
    assert isinstance(short, Short)
    obtained = worker.lessee.obtain(short, lambda final: try_to_extend(worker, reservation, usd, final=final))
    task = asyncio.ensure_future(obtained)
    await settle()
    return task


async def test_an_extension_asks_for_what_it_lacks_and_holds_it_when_it_is_granted() -> None:
    worker = Worker()
    reservation = await stream(worker, METER, Granted(150, 0, 150))
    assert isinstance(try_to_extend(worker, reservation, 150), Extended)
    task = await begin_extension(worker, reservation, 400)
    assert worker.said[-1] == (2, (Want(OF_METER, 250, 250, NOW, 250),), ())
    worker.lessee.answered(2, (Granted(300, 0, 450),))
    assert isinstance(await task, Extended)
    assert worker.machine.held() == {"meter": 400}
    worker.settle(reservation, 390)
    assert isinstance(worker.try_to(METER, 61), Short)
    assert isinstance(worker.try_to(METER, 60), Reservation)


async def test_an_extension_that_is_denied_leaves_the_hold_as_it_was() -> None:
    worker = Worker()
    reservation = await stream(worker, METER, Granted(100, 0, 100))
    task = await begin_extension(worker, reservation, 400)
    worker.lessee.answered(2, (Granted(0, 800, 100),))
    denial = await task
    assert isinstance(denial, Denial)
    assert (denial.asked, denial.left, denial.held_by_others) == (400, 200, False)
    assert worker.machine.held() == {"meter": 100}
    worker.settle(reservation, 40)
    assert isinstance(worker.try_to(METER, 60), Reservation)


async def test_an_extension_whose_call_ends_while_it_waits_is_settled_with_its_hold() -> None:
    worker = Worker()
    reservation = await stream(worker, METER, Granted(100, 0, 100))
    task = await begin_extension(worker, reservation, 400)
    worker.lessee.answered(2, (Granted(300, 0, 400),))
    task.cancel()
    await settle()
    worker.settle(reservation, 100)
    assert worker.machine.held() == {}
    assert isinstance(worker.try_to(METER, 300), Reservation)
    late = await stream(worker, METER, Granted(100, 0, 500))
    task = await begin_extension(worker, late, 400)
    task.cancel()
    await settle()
    worker.settle(late, 0)
    worker.lessee.answered(4, (Granted(300, 0, 800),))
    assert worker.machine.held() == {"meter": 300}


async def test_a_stream_that_outlives_its_window_is_granted_more_of_the_next() -> None:
    worker = Worker()
    reservation = await stream(worker, METER, Granted(100, 0, 100))
    worker.now += 86_400
    task = await begin_extension(worker, reservation, 400)
    tomorrow = Place("meter", DAY + 86_400, "", "day")
    assert worker.said[-1] == (2, (Want(tomorrow, 300, 300, NOW + 86_400, 300),), ())
    worker.lessee.answered(2, (Granted(350, 0, 350),))
    assert isinstance(await task, Extended)
    worker.machine.settle(reservation, reservation.shared_out(amounts_owed(250, Usage())))
    assert isinstance(worker.try_to(METER, 201), Short)
    assert isinstance(worker.try_to(METER, 200), Reservation)
