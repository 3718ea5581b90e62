"""The lessee: how a worker comes by its slices, and gives them back.

Calls that lack something wait here. One request at a time is under way to the control process: it says what all of them
lack, and what is to be given back. It is said again after the link was lost, with the same number, so that it is obeyed
once. What the answer brings is taken by those who wait, in the order in which they came, before anybody else runs.

A call that gets nothing although settled spend alone would admit it waits a little: what lies idle at other workers is
being recalled for it.

How long a call may wait in all is counted in rounds, of which `tick` begins one a second. A worker that was held up
itself begins one when it goes on, and not all that it missed: what was said to it meanwhile is heard before anybody is
refused for want of it.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from penstock.domain.lease import Given, Granted, Place, Want
from penstock.domain.policy import Denial
from penstock.errors import GatewayError, StoreUnavailable
from penstock.ledger.machine import Machine, Short
from penstock.ledger.reservations import Reservation

PATIENCE_ROUNDS = 5
"""In how many rounds a call that waits is given up: after 4 to 5 s, as long as any question may take that a worker has.
A store that is slow answers within that."""
STREAM_PATIENCE_ROUNDS = 3
"""The same for a stream that waits for more: what its provider sends meanwhile is billed, and not held."""
PAUSES_S = (0.02, 0.08, 0.2)
"""How long a call waits for a recall before it asks again, and again, and is denied."""
AGAIN_S = 0.1
_MOST_IN_ONE = 2_000

Say = Callable[[int, tuple[Want, ...], tuple[Given, ...]], None]
"""Sends a request: its number, what is wanted, what is given back. Does nothing while there is no link."""

_Held = TypeVar("_Held")


class _Waiter(Generic[_Held]):
    """`attempt` tries to hold what a call asks, for good when its argument is true. `until`: the round in which it is
    given up. `tries`: how often it was answered, and got too little."""

    __slots__ = ("attempt", "future", "short", "tries", "until")

    def __init__(self, attempt: Callable[[bool], _Held | Denial | Short], short: Short, until: int) -> None:
        self.attempt = attempt
        self.short = short
        self.until = until
        self.future: asyncio.Future[_Held | Denial] = asyncio.get_running_loop().create_future()
        self.tries = 0


_AnyWaiter = _Waiter[Any]


class _Request:
    """What is under way, and who waits for it."""

    __slots__ = ("given", "number", "waiters", "wants")

    def __init__(
        self, number: int, wants: tuple[Want, ...], given: tuple[Given, ...], waiters: list[_AnyWaiter]
    ) -> None:
        self.number = number
        self.wants = wants
        self.given = given
        self.waiters = waiters


class Lessee:
    """`clock` gives Unix nanoseconds."""

    def __init__(self, machine: Machine, say: Say, clock: Callable[[], int]) -> None:
        self._machine = machine
        self._say = say
        self._clock = clock
        self._round = 0
        self._number = 0
        self._under_way: _Request | None = None
        self._waiting: list[_AnyWaiter] = []
        self._flush_is_due = False

    async def obtain(
        self, short: Short, attempt: Callable[[bool], _Held | Denial | Short], patience: int = PATIENCE_ROUNDS
    ) -> _Held | Denial:
        """What comes of a call that lacked something: what `attempt` makes, which is asked for a final
        answer by its argument. Raises `StoreUnavailable` when nobody answers within `patience` rounds; who was answered
        by then, and asks again, is told what came of it.

        A `Reservation` that is made for a call which has ended meanwhile is released.
        """
        waiter = _Waiter(attempt, short, self._round + patience)
        self._enqueue(waiter)
        try:
            return await waiter.future
        except BaseException:
            self._let_go(waiter)
            raise

    # -- what the link tells ------------------------------------------------------------------------------------------

    def linked(self) -> None:
        """There is a link again: what is under way is said again."""
        self._say_again()
        self._flush()

    def answered(self, number: int, granted: Sequence[Granted] | None) -> None:
        """The answer to request `number`; None when the store could not be asked."""
        request = self._under_way
        if request is None or request.number != number:
            return
        if granted is None:
            waiters, request.waiters = request.waiters, []
            for waiter in waiters:
                _refuse(waiter, StoreUnavailable("The gateway's ledger cannot be reached. Try again.", retry_after_s=2))
            asyncio.get_running_loop().call_later(AGAIN_S, self._say_again)
            return
        self._under_way = None
        for want, grant in zip(request.wants, granted, strict=True):
            self._machine.grant(want.place, grant)
        for waiter in request.waiters:
            self._retry(waiter)
        self._flush()

    def recalled(self, places: Sequence[Place]) -> None:
        """Others lack what is unused at these places."""
        for place in places:
            self._machine.recall(place)
        self._flush()

    def tick(self) -> None:
        """Once a second: gives back what has lain idle, and gives up who has waited too long."""
        self._round += 1
        self._machine.rest(self._clock() // 1_000_000_000)
        for waiter in (*(self._under_way.waiters if self._under_way is not None else ()), *self._waiting):
            if waiter.until <= self._round and not waiter.future.done():
                self._give_up(waiter)
        self._flush()

    async def give_all_back(self, within_s: float) -> None:
        """The worker ends, and nothing runs on it any more."""
        self._machine.give_all_back()
        self._flush()
        deadline = asyncio.get_running_loop().time() + within_s
        while self._under_way is not None and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.005)

    # -- requests -----------------------------------------------------------------------------------------------------

    def _enqueue(self, waiter: _AnyWaiter) -> None:
        """What comes to wait in one turn of the loop goes out together."""
        self._waiting.append(waiter)
        if not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Says what is lacked and given back, unless a request is under way: its answer comes here again."""
        self._flush_is_due = False
        if self._under_way is not None or not (self._waiting or self._machine.has_returns):
            return
        waiters, self._waiting = self._waiting[:_MOST_IN_ONE], self._waiting[_MOST_IN_ONE:]
        waiters = [waiter for waiter in waiters if self._still_lacks(waiter)]
        wants, given = self._wants(waiters), self._machine.returns(_MOST_IN_ONE)
        if not wants and not given:
            return
        self._number += 1
        self._under_way = _Request(self._number, wants, given, waiters)
        self._say(self._number, wants, given)

    def _say_again(self) -> None:
        if self._under_way is not None:
            self._say(self._under_way.number, self._under_way.wants, self._under_way.given)

    def _wants(self, waiters: Sequence[_AnyWaiter]) -> tuple[Want, ...]:
        """What these calls lack, place by place."""
        asked: dict[Place, list[int]] = {}
        left: dict[Place, int] = {}
        for waiter in waiters:
            for limit, balance, amount in waiter.short.lacks:
                assert balance.slice is not None
                place = balance.slice.place
                asked.setdefault(place, []).append(amount)
                left[place] = balance.left(limit)
        now_s = self._clock() // 1_000_000_000
        return tuple(
            [
                Want(place, sum(amounts) - left[place], min(amounts) - left[place], now_s, min(amounts))
                for place, amounts in asked.items()
            ]
        )

    # -- those who wait -----------------------------------------------------------------------------------------------

    def _still_lacks(self, waiter: _AnyWaiter) -> bool:
        """Whether it must be asked for, at this moment; who need not wait any more is told."""
        outcome = None if waiter.future.done() else self._attempt(waiter, final=False)
        if isinstance(outcome, Short):
            waiter.short = outcome
            return True
        return False

    def _retry(self, waiter: _AnyWaiter) -> None:
        """After an answer. Who still lacks something asks again after a pause, or is denied."""
        if waiter.future.done():
            return
        if waiter.tries >= len(PAUSES_S):
            self._attempt(waiter, final=True)
        elif self._still_lacks(waiter):
            asyncio.get_running_loop().call_later(PAUSES_S[waiter.tries], self._enqueue, waiter)
            waiter.tries += 1

    def _give_up(self, waiter: _AnyWaiter) -> None:
        """Only who was never answered is told so: whoever else heard why there is nothing for it."""
        if waiter.tries:
            self._attempt(waiter, final=True)
        else:
            _refuse(waiter, StoreUnavailable("No answer from the gateway's ledger. Try again.", retry_after_s=2))

    def _attempt(self, waiter: _AnyWaiter, *, final: bool) -> Short | None:
        try:
            outcome = waiter.attempt(final)
        except GatewayError as error:
            _refuse(waiter, error)
            return None
        if isinstance(outcome, Short):
            return outcome
        waiter.future.set_result(outcome)
        return None

    def _let_go(self, waiter: _AnyWaiter) -> None:
        """The call has ended while it waited; what was held for it by then is free."""
        future = waiter.future
        if future.done() and not future.cancelled() and future.exception() is None:
            outcome = future.result()
            if isinstance(outcome, Reservation):
                self._machine.release(outcome)


def _refuse(waiter: _AnyWaiter, error: GatewayError) -> None:
    if not waiter.future.done():
        waiter.future.set_exception(error)
