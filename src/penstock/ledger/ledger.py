"""The ledger as a worker sees it: the state machine, and the journal that makes what it decides last.

    limits = ledger.applying(snapshot.limits, dims)
    admission = await ledger.reserve(limits, dims, ask, attempt_id) # refuses, or holds the worst case everywhere
    admission.dispatch(draft)                                       # HOLD, immediately before the first upstream byte
    await admission.extend(snapshot.limits, ask, draft)             # EXTEND, before more passes than is held
    admission.post(admission.owed(cost, usage), "computed", event)  # POST, before the caller's last byte

Each step is one step for every other call of the process. Only `reserve` and `extend` may wait: where several workers
share the limits, and this one has nothing left of what was leased to it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from msgspec import Struct

from penstock.domain.events import CostBasis, LimitCharged, UsageEvent
from penstock.domain.journal import Extend, Hold, Note, Post, Void
from penstock.domain.policy import UNDER, Charge, Charges, Denial, Limit, Unit
from penstock.domain.usage import Usage
from penstock.errors import PenstockError, StoreUnavailable
from penstock.ledger.denials import refusal
from penstock.ledger.journal import Journal
from penstock.ledger.lessee import PATIENCE_ROUNDS, STREAM_PATIENCE_ROUNDS, Lessee, Say
from penstock.ledger.machine import Ask, Extended, Machine, Short, amounts_owed
from penstock.ledger.matching import Matching
from penstock.ledger.reservations import Reservation

__all__ = ["Admission", "Ask", "Ledger"]

NS_PER_S = 1_000_000_000
MAX_EXTENSIONS = 2_000
"""How often one hold can be extended: each time is an entry with a number of its own, and says all that is held."""

_Held = TypeVar("_Held")


class Ledger:
    """`clock` gives Unix nanoseconds. `say` asks the control process for leases, which `leases` is told the answers of;
    None for the only worker there is, which holds the whole of every balance."""

    def __init__(self, journal: Journal, clock: Callable[[], int], say: Say | None = None) -> None:
        self._journal = journal
        self._clock = clock
        self._machine = Machine(leased=say is not None)
        self._matching = Matching()
        self.leases = None if say is None else Lessee(self._machine, say, clock)

    def seed(self, balances: Iterable[Charge]) -> None:
        """Takes over what is settled in the windows that are open. Once, before the first call, and only by a worker
        that holds the whole of every balance."""
        self._machine.seed(balances)

    def adjust(self, charge: Charge) -> None:
        """Moves what is settled on one balance, as the control process already did in the store. It is journaled
        there, and nowhere else. What was leased is not touched by it."""
        if self.leases is None:
            self._machine.adjust(charge)

    def applying(self, limits: Mapping[str, Limit], dims: Mapping[str, str]) -> tuple[Limit, ...]:
        """The limits that count a call with these dimensions. One on an alias goes on to count those who write its name
        (`replaced`) when another has taken its place, so that no budget ends with a model; one on a key counts the
        calls of the keys under it, so that none of them is a way around it. `limits` is the snapshot's table, which
        never changes."""
        if not self._matching.knows(limits):
            self._machine.prune(limits, self._clock() // NS_PER_S)
            self._matching.learn(limits)
        found = self._matching.applying(dims)
        if "replaced" not in dims and "root" not in dims:
            return found
        known = {limit.id for limit in found}
        for also in _other_names(dims):
            more = [limit for limit in self._matching.applying(also) if limit.id not in known]
            known |= {limit.id for limit in more}
            found = (*found, *more)
        return found

    async def reserve(self, limits: Sequence[Limit], dims: Mapping[str, str], ask: Ask, attempt_id: str) -> "Admission":
        """Holds one attempt on every limit, or on none: its worst case, and what it asks of metered limits.

        Raises `InsufficientQuota`, `RateLimitExceeded` or `LimitHeld` with `denial`, of the limit that waiting helps
        least; `UnpricedModel` or `NoOutputBound` where a limit that refuses cannot be held for want of a bound;
        `StoreUnavailable` when more must be leased and nobody answers.
        """

        # The keys under one another share what each key is allowed.
        counted = dims if "root" not in dims else {**dims, "key": dims["root"]}
        held = self._machine.reserve(limits, counted, ask, self._clock() // NS_PER_S)
        if not isinstance(held, Reservation):
            held = await self._reserve_more(held, limits, counted, ask)
        return Admission(self, attempt_id, held)

    async def _reserve_more(
        self, outcome: Denial | Short, limits: Sequence[Limit], counted: Mapping[str, str], ask: Ask
    ) -> Reservation:
        def attempt(final: bool) -> Reservation | Denial | Short:
            return self._machine.reserve(limits, counted, ask, self._clock() // NS_PER_S, final=final)

        return await self._obtain(outcome, attempt, PATIENCE_ROUNDS)

    async def _obtain(
        self, outcome: Denial | Short, attempt: Callable[[bool], _Held | Denial | Short], patience: int
    ) -> _Held:
        """What `attempt` holds with what more is leased for it within so many rounds. Raises what refuses it."""
        held: _Held | Denial = outcome if isinstance(outcome, Denial) else await self._lease(outcome, attempt, patience)
        if isinstance(held, Denial):
            raise refusal(held)
        return held

    async def _lease(
        self, short: Short, attempt: Callable[[bool], _Held | Denial | Short], patience: int
    ) -> _Held | Denial:
        if self.leases is None:
            raise PenstockError("only what is leased can be short")
        return await self.leases.obtain(short, attempt, patience)

    def note(self, note: Note) -> None:
        """Journals the event of an exchange that no attempt records. Raises `StoreUnavailable` when it cannot be
        written; that of an exchange that had sent something goes out as soon as it can even then."""
        if not _was_sent(note.event):
            self._journal.append(note)
        elif not self._journal.append_or_keep(note):
            raise StoreUnavailable("The journal cannot be written. Try again.", retry_after_s=1)

    def require_journal(self) -> None:
        """Raises `StoreUnavailable` as long as it is known that no call can be journaled."""
        if self._journal.is_failing:
            raise StoreUnavailable("The journal cannot be written. Try again.", retry_after_s=1)

    def held(self) -> dict[str, int]:
        """Limit id -> what is held now, over all values and windows."""
        return self._machine.held()

    def peaks(self) -> tuple[Charge, ...]:
        """How many calls were in flight at once since this was asked last, for each balance of the concurrent limits
        that alert."""
        return self._machine.peaks()


def _other_names(dims: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The call's dimensions under every other name that its model and its key count by."""
    models = [dims[name] for name in ("model", "replaced") if name in dims]
    keys = [dims[name] for name in dims if name == "key" or name.startswith(UNDER)]
    for model in models or [""]:
        for key in keys or [""]:
            also = {**dims, "model": model, "key": key}
            if also != dims:
                yield also


def _was_sent(event: UsageEvent) -> bool:
    """Whether any attempt had left: one that had not has neither a status nor usage."""
    return any(attempt.status or attempt.usage.total_input for attempt in event.attempts)


class Admission(Struct, eq=False):
    """Leave to dispatch one attempt, and the hold that pays for it. Only `Ledger.reserve` makes one.

    It is resolved exactly once, by `post` or `void`; a second resolution is a fault of ours and raises
    `PenstockError`.
    """

    _ledger: Ledger
    attempt_id: str
    _reservation: Reservation
    _dispatched: bool = False
    _extensions: int = 0

    @property
    def charges(self) -> Charges:
        """What is held on each balance, concurrency left out."""
        return self._reservation.held

    def most_held(self, unit: Unit) -> int:
        """The most that is held on any one limit in this unit; 0 where none counts it."""
        held: dict[str, int] = {}
        for line, amount in zip(self._reservation.lines, self._reservation.amounts, strict=True):
            if line.unit == unit:
                held[line.limit.id] = held.get(line.limit.id, 0) + amount
        return max(held.values(), default=0)

    @property
    def resolved(self) -> bool:
        return not self._reservation.open

    @property
    def dispatched(self) -> bool:
        """Whether the hold is journaled, so that a byte can have reached the vendor."""
        return self._dispatched

    def dispatch(self, draft: UsageEvent) -> None:
        """Journals the hold: from here on, the attempt counts as sent. Once, immediately before the first upstream
        byte. Raises `StoreUnavailable` when it cannot be written: nothing may be sent, and `void` frees the hold."""
        if self._dispatched or not self._reservation.open:
            raise PenstockError("an attempt is dispatched once, before it is resolved")
        ledger = self._ledger
        charges = self._reservation.charges(self._reservation.amounts)
        ledger._journal.append(Hold(self.attempt_id, ledger._clock(), charges, draft))
        self._dispatched = True

    async def extend(self, limits: Mapping[str, Limit], ask: Ask, draft: Callable[[], UsageEvent]) -> None:
        """Raises what metered limits hold to `ask`, on all of them or on none, and journals all that is held now.
        `limits`: those in force, by id. `draft` makes the event that goes with it.

        Raises as `Ledger.reserve`, with the hold as it was; and `StoreUnavailable` when it cannot be written, or
        `PenstockError` after `MAX_EXTENSIONS`. Then what it was for must not be passed on.
        """
        ledger, reservation = self._ledger, self._reservation
        if not self._dispatched or self._extensions == MAX_EXTENSIONS:
            raise PenstockError("only what was dispatched can be extended, and not without end")

        def attempt(final: bool) -> Extended | Denial | Short:
            return ledger._machine.extend(reservation, limits, ask, ledger._clock() // NS_PER_S, final=final)

        outcome = attempt(False)
        if not isinstance(outcome, Extended):
            await ledger._obtain(outcome, attempt, STREAM_PATIENCE_ROUNDS)
        self._extensions += 1
        ledger._journal.append(Extend(self.attempt_id, ledger._clock(), self.charges, draft(), self._extensions))

    def owed(self, usd_nanousd: int, usage: Usage) -> list[int]:
        """What this cost and this usage owe on each balance, beside `charges`. Changes nothing.

        `usage.requests` is 1 for the last attempt of an exchange, whatever came of it, and 0 for one that another
        target follows, so that a limit on requests counts each exchange once.
        """
        return self._reservation.shared_out(amounts_owed(usd_nanousd, usage))

    def is_exceeded_by(self, owed: Sequence[int]) -> bool:
        """Whether any of it is more than was held for it."""
        return self._reservation.is_exceeded_by(owed)

    def shown(self, owed: Sequence[int]) -> tuple[LimitCharged, ...]:
        """What is owed, as people read it."""
        return self._reservation.shown(owed)

    def post(self, owed: Sequence[int], basis: CostBasis, event: UsageEvent | None) -> None:
        """Settles what is `owed`, and journals it with the exchange's event, if this was its last attempt. What is over
        its hold is posted all the same.

        Raises `StoreUnavailable` when the journal does not take it. The attempt is settled even then, and its record
        goes out as soon as it can; but it would not outlive a crash, so the caller must not see the end of the answer.
        """
        if not self._dispatched:
            raise PenstockError("only what was dispatched can owe anything")
        ledger = self._ledger
        ledger._machine.settle(self._reservation, owed)
        charges = self._reservation.charges(owed)
        if not ledger._journal.append_or_keep(Post(self.attempt_id, ledger._clock(), charges, basis, event)):
            raise StoreUnavailable("The journal cannot be written. Try again.", retry_after_s=1)

    def void(self, cause: str, event: UsageEvent | None) -> None:
        """Frees the hold: nothing is owed. What was dispatched is journaled as void; of what was not, only the event
        is, if there is one. Raises `StoreUnavailable` when that event cannot be written; the hold is free even then."""
        ledger = self._ledger
        ledger._machine.release(self._reservation)
        if self._dispatched:
            ledger._journal.append_or_keep(Void(self.attempt_id, ledger._clock(), cause, event))
        elif event is not None:
            ledger.note(Note(ledger._clock(), event))
