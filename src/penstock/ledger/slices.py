"""Slices: what a worker that lives from leases may still spend at each place, and which of it lies idle.

A slice that is spent once loses what is settled from it. One that stands (a share) is compared with what its window
has on it already. Sole workers have none: they hold the whole of every balance.
"""

from penstock.domain.lease import Given, Granted, Place
from penstock.domain.policy import Limit, Span
from penstock.ledger.windows import SHORT, SLIDING_S

IDLE_ROUNDS = 60
"""A slice from which nothing was taken for this many rounds goes back. It is not needed sooner: what others lack is
recalled. And it is what calls go on under while the store is away, so it is kept for longer than `stop.freshness` is by
default."""
_GIVEN_IN_ONE_ROUND = 2_000


def stands(limit: Limit, span: Span) -> bool:
    """Whether slices of this limit are shares."""
    return span in SHORT or limit.unit == "concurrent"


def place_of(limit: Limit, span: Span, window_start: int, value: str) -> Place:
    """Where a window's, or a bucket's, balance is leased."""
    single = not stands(limit, span) and span not in SLIDING_S
    return Place(limit.id, window_start if single else 0, value, span)


class Slice:
    """`amount`: what was granted and is not spent; of a share, what it grants in every window. `held`: what open
    reservations hold of it, shares left out. `later`: more of a share, from the window on that begins with it.

    `settled`, `leased` and `fits_at_s` are what the control process last said of the whole place, in the second
    `told_s` and the round `told_in`.
    """

    __slots__ = (
        "amount",
        "fits_at_s",
        "held",
        "later",
        "leased",
        "place",
        "settled",
        "stands",
        "told_in",
        "told_s",
        "touched",
    )

    def __init__(self, place: Place, *, stands: bool) -> None:
        self.place = place
        self.stands = stands
        self.amount = 0
        self.held = 0
        self.later: tuple[int, int] | None = None
        self.settled = 0
        self.leased = 0
        self.fits_at_s = 0
        self.told_s = self.told_in = 0
        self.touched = 0

    def left(self, used: int, window_start: int) -> int:
        """What may still be taken. `used`: what the window that begins at `window_start` has on it; only a share
        minds."""
        if not self.stands:
            return self.amount - self.held
        if self.later is not None and self.later[0] <= window_start:
            self.amount += self.later[1]
            self.later = None
        return self.amount - used

    def is_empty(self) -> bool:
        return not self.amount and not self.held and self.later is None

    def spend(self, amount: int) -> None:
        """What is settled is gone, but for a share. A bill beyond the hold takes nothing that others hold."""
        if not self.stands:
            self.amount = max(self.amount - amount, self.held)

    def grow(self, granted: Granted, window_start: int) -> None:
        """`window_start`: of the window that counts now."""
        if granted.since <= window_start:
            self.amount += granted.amount
            return
        since, waiting = self.later or (0, 0)
        self.later = (max(since, granted.since), waiting + granted.amount)


class Idle:
    """Finds what lies idle, in the order in which it was last touched, without looking at the rest."""

    def __init__(self) -> None:
        self.round = IDLE_ROUNDS
        self._touched: dict[int, list[Slice]] = {}

    def touch(self, slice: Slice) -> None:
        """Something was taken or granted."""
        if slice.touched != self.round:
            slice.touched = self.round
            self._touched.setdefault(self.round, []).append(slice)

    def turn(self) -> list[Slice]:
        """Begins the next round. The slices that nobody touched for `IDLE_ROUNDS`; many of them at once are left for
        the rounds that follow."""
        self.round += 1
        due = self.round - IDLE_ROUNDS
        idle: list[Slice] = []
        for round_ in [known for known in self._touched if known < due]:
            waiting = self._touched.pop(round_)
            idle += [slice for slice in waiting if slice.touched == round_]
        rest = idle[_GIVEN_IN_ONE_ROUND:]
        if rest:
            oldest = due - 1
            for slice in rest:
                slice.touched = oldest
            self._touched[oldest] = rest
        return idle[:_GIVEN_IN_ONE_ROUND]


class Returns:
    """What is to be given back, summed up by place until it is taken to be said."""

    def __init__(self) -> None:
        self._given: dict[Place, tuple[int, int]] = {}

    def add(self, place: Place, amount: int, since: int) -> None:
        if amount > 0:
            before, known = self._given.get(place, (0, 0))
            self._given[place] = (before + amount, max(since, known))

    def take(self, most: int) -> tuple[Given, ...]:
        """Up to `most` of them, to be said now."""
        places = list(self._given)[:most]
        return tuple([Given(place, *self._given.pop(place)) for place in places])

    def __bool__(self) -> bool:
        return bool(self._given)
