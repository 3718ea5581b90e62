"""The grantor: answers what workers ask of leases, exactly once.

Requests that wait when a transaction begins are served in it together, whichever workers they are of; so a contended
balance costs one transaction for all of them. All of it happens in one thread of its own.

The answer to a worker's last request is stored with what it changed. A request that comes again, because its answer or
the news of its commit was lost, gets the same answer and changes nothing.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct
from sqlalchemy import Connection, Engine

from penstock.domain.lease import Given, Granted, Place, Want
from penstock.domain.money import MAX_NANOUSD
from penstock.domain.policy import Limit
from penstock.errors import PenstockError
from penstock.ledger import leases
from penstock.ledger.registers import counting

NS_PER_S = 1_000_000_000

OnRecall = Callable[[Mapping[int, tuple[Place, ...]]], None]
"""Called on the event loop after a commit: living epochs, of any box, and the places of which others lack what these
have and may not be using. The one that lacks it is not among them."""

_Outcome = tuple[Granted, ...] | PenstockError


class _Asked(Struct, frozen=True, eq=False):
    epoch: int
    number: int
    wants: tuple[Want, ...]
    given: tuple[Given, ...]
    answer: "asyncio.Future[tuple[Granted, ...]]"


class _Served(Struct, frozen=True):
    """`outcomes`: one for each request, in their order."""

    outcomes: list[_Outcome]
    recalls: dict[int, tuple[Place, ...]]


class Grantor:
    """`engine`: of `store.engine.committer_engine`. `limits`: those in force, by id; called in the grantor's thread.
    `clock` gives Unix nanoseconds."""

    def __init__(
        self,
        engine: Engine,
        limits: Callable[[], Mapping[str, Limit]],
        on_recall: OnRecall,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._engine = engine
        self._limits = limits
        self._on_recall = on_recall
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="grantor")
        self._waiting: list[_Asked] = []
        self._turns: asyncio.Task[None] | None = None

    async def serve(
        self, epoch: int, number: int, wants: tuple[Want, ...], given: tuple[Given, ...]
    ) -> tuple[Granted, ...]:
        """What is granted, one for each want, in their order.

        Raises PenstockError for a request that a sound worker does not send: with a number that is neither that of its
        last one nor the next, with amounts that cannot be, or of an epoch that is over. The same request will not do
        better. Raises what the store raises; then it may have been obeyed all the same, and is to be asked again.
        """
        asked = _Asked(epoch, number, wants, given, asyncio.get_running_loop().create_future())
        _require_amounts(asked)
        self._waiting.append(asked)
        if self._turns is None or self._turns.done():
            self._turns = asyncio.create_task(self._take_turns())
        return await asked.answer

    async def close(self) -> None:
        """Waits for what is under way. The engine is its maker's to close."""
        if self._turns is not None:
            await self._turns
        self._thread.shutdown()

    async def _take_turns(self) -> None:
        while self._waiting:
            batch = self._next_batch()
            try:
                served = await asyncio.get_running_loop().run_in_executor(self._thread, self._serve, batch)
            except Exception as error:  # noqa: BLE001  every one of them is told, and asks again
                for asked in batch:
                    if not asked.answer.done():
                        asked.answer.set_exception(error)
                continue
            for asked, outcome in zip(batch, served.outcomes, strict=True):
                _tell(asked, outcome)
            if served.recalls:
                self._on_recall(served.recalls)

    def _next_batch(self) -> list[_Asked]:
        """All that wait, but of each epoch only the first: what it says next builds on the answer."""
        batch: dict[int, _Asked] = {}
        later = []
        for asked in self._waiting:
            if asked.epoch in batch:
                later.append(asked)
            else:
                batch[asked.epoch] = asked
        self._waiting = later
        return list(batch.values())

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _serve(self, batch: Sequence[_Asked]) -> _Served:
        with self._engine.begin() as connection:
            leases.lock(connection)
            living = leases.living(connection)
            outcomes = [_known(asked, living.get(asked.epoch)) for asked in batch]
            fresh = [asked for asked, outcome in zip(batch, outcomes, strict=True) if outcome is None]
            answers, recalls = self._obey(connection, fresh, len(living)) if fresh else ({}, {})
        return _Served(
            [
                answers[asked.epoch] if outcome is None else outcome
                for asked, outcome in zip(batch, outcomes, strict=True)
            ],
            recalls,
        )

    def _obey(
        self, connection: Connection, batch: Sequence[_Asked], holders: int
    ) -> tuple[dict[int, tuple[Granted, ...]], dict[int, tuple[Place, ...]]]:
        """What comes back first, so that it can be granted; then what is wanted, first come, first served."""
        now_s, limits = self._clock() // NS_PER_S, self._limits()
        registers = leases.load(connection, _places(batch, now_s), now_s)
        for asked in batch:
            for given in asked.given:
                registers[given.place].give(asked.epoch, given)
        answers: dict[int, tuple[Granted, ...]] = {}
        recalls: dict[int, dict[Place, None]] = {}
        for asked in batch:
            granted = []
            for want in asked.wants:
                register, limit = registers[want.place], limits.get(want.place.limit)
                granted.append(register.grant(asked.epoch, want, limit, holders))
                for epoch in register.in_the_way(asked.epoch, want, granted[-1], limit):
                    recalls.setdefault(epoch, {})[want.place] = None
            answers[asked.epoch] = tuple(granted)
        leases.write(connection, registers.values())
        for epoch, number in sorted((asked.epoch, asked.number) for asked in batch):
            leases.remember(connection, epoch, number, answers[epoch])
        return answers, {epoch: tuple(places) for epoch, places in recalls.items()}


def _known(asked: _Asked, living: leases.Living | None) -> _Outcome | None:
    """The outcome of a request that is not to be obeyed now; None for one that is."""
    if living is None:
        return PenstockError(f"worker {asked.epoch} asks for leases and is not known to be alive")
    if asked.number == living.number:
        return living.answer
    if asked.number != living.number + 1:
        return PenstockError(
            f"worker {asked.epoch} sends request {asked.number} for leases; its last was {living.number}"
        )
    return None


def _tell(asked: _Asked, outcome: _Outcome) -> None:
    if asked.answer.done():
        return
    if isinstance(outcome, PenstockError):
        asked.answer.set_exception(outcome)
    else:
        asked.answer.set_result(outcome)


def _places(batch: Iterable[_Asked], now_s: int) -> dict[Place, tuple[int, int]]:
    """Each place that is spoken of, with the windows that count there for anyone who wants something of it."""
    found: dict[Place, tuple[int, int]] = {}
    for asked in batch:
        moments = [(given.place, now_s) for given in asked.given]
        for place, at_s in (*moments, *((want.place, want.at_s) for want in asked.wants)):
            first, last = counting(place, at_s, now_s)
            found[place] = (min(first, found.get(place, (first, last))[0]), last)
    return found


def _require_amounts(asked: _Asked) -> None:
    amounts = [
        number
        for want in asked.wants
        for number in (
            want.place.window_start,
            want.at_s,
            want.least - 1,
            want.total - want.least,
            want.total,
            want.asked,
        )
    ]
    amounts += [number for given in asked.given for number in (given.place.window_start, given.amount, given.since)]
    if any(not 0 <= number <= MAX_NANOUSD for number in amounts):
        raise PenstockError(f"worker {asked.epoch} asks for leases in amounts that cannot be")
