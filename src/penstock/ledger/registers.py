"""Registers: who has how much of a place, and how much more a worker gets of it, as the store knows it. Pure.

Far from a limit a worker gets more than it asked for, so that it need not ask for every call; the nearer the limit
comes, the smaller that addition is, until the last of the amount goes out exactly as it is asked for.
"""

from collections.abc import Mapping

from msgspec import Struct

from penstock.domain.lease import Given, Granted, Place, Want
from penstock.domain.money import MAX_NANOUSD
from penstock.domain.policy import Limit
from penstock.ledger.slices import place_of, stands
from penstock.ledger.windows import FOREVER_S, SHORT, SLIDING_S, leaves_at_s, oldest_open, span_of

_PART = 8
"""Beyond what it asked for, a worker gets at most this part of what all living workers could share."""


class Row(Struct):
    """One epoch's part of a place: a row of `leases`."""

    granted: int
    posted: int = 0
    since: int = 0
    until_s: int | None = None

    def outstanding(self, now_s: int) -> int:
        """What nobody else can have. A dead worker's share is everybody's again when its time is over."""
        return 0 if self._is_over(now_s) else max(self.granted - self.posted, 0)

    def usable_since(self, now_s: int) -> int:
        """The first window, or bucket, of a share in which others may use what this epoch no longer has."""
        return self.until_s if self.until_s is not None and self._is_over(now_s) else self.since

    def _is_over(self, now_s: int) -> bool:
        return self.until_s is not None and self.until_s <= now_s


class Change(Struct):
    """What is done to a row of `leases`: first `given` goes, never below what was posted, then `added` comes."""

    given: int = 0
    added: int = 0
    since: int = 0


class Register:
    """What the store knows of one place at one moment, and what is to change of it.

    `settled`: start of the window or bucket -> amount. `rows`: by epoch. `now_s`: the control process's clock.
    """

    def __init__(self, place: Place, settled: Mapping[int, int], rows: dict[int, Row], now_s: int) -> None:
        self.place = place
        self.changes: dict[int, Change] = {}
        self._settled = settled
        self._rows = rows
        self._now_s = now_s

    def give(self, epoch: int, given: Given) -> None:
        """Takes back what an epoch does not need; at most what it has."""
        mine, change = self._of(epoch)
        mine.granted = max(mine.granted - given.amount, mine.posted)
        mine.since = max(mine.since, given.since)
        change.given = min(change.given + given.amount, MAX_NANOUSD)
        change.since = mine.since

    def grant(self, epoch: int, want: Want, limit: Limit | None, holders: int) -> Granted:
        """`limit`: the one in force under the place's id; None when there is none any more. `holders`: the living
        workers that it may have to be enough for."""
        span = self.place.per
        if limit is None or self.place != place_of(limit, span_of(limit), self.place.window_start, self.place.value):
            return Granted(0, 0, 0)
        settled, leased = self.settled(want.at_s), self.leased()
        free = limit.amount - leased - (0 if stands(limit, span) else settled)
        mine, change = self._of(epoch)
        amount = min(slice_of(free, want.total, want.least, holders), MAX_NANOUSD - mine.granted)
        mine.granted += amount
        change.added += amount
        since = max([0, *(each.usable_since(self._now_s) for other, each in self._rows.items() if other != epoch)])
        fits_at_s = self._fits_at_s(settled + want.asked - limit.amount, want.at_s)
        return Granted(amount, settled, min(leased + amount, MAX_NANOUSD), since, fits_at_s)

    def _fits_at_s(self, over: int, at_s: int) -> int:
        """When so much as is too much has left a sliding window; 0 when nothing is, or it never does."""
        span = self.place.per
        if over <= 0 or span not in SLIDING_S:
            return 0
        oldest = oldest_open(span, min(self._now_s, at_s))
        for start in sorted(start for start in self._settled if start >= oldest):
            over -= self._settled[start]
            if over <= 0:
                return leaves_at_s(span, start)
        return 0

    def in_the_way(self, epoch: int, want: Want, granted: Granted, limit: Limit | None) -> list[int]:
        """The epochs whose unused slices this want lacks: what is settled alone would admit more than it got."""
        if limit is None or granted.amount >= want.total or granted.settled + want.least > limit.amount:
            return []
        return [
            other
            for other, each in self._rows.items()
            if other != epoch and each.until_s is None and each.outstanding(self._now_s)
        ]

    def settled(self, at_s: int) -> int:
        """What is settled in the window that is open for a worker whose clock says `at_s`; in a sliding one, on all
        buckets that count there or here."""
        span = self.place.per
        if span in SLIDING_S:
            oldest = oldest_open(span, min(self._now_s, at_s))
            return min(sum(amount for start, amount in self._settled.items() if start >= oldest), MAX_NANOUSD)
        start = oldest_open(span, at_s) if span in SHORT else self.place.window_start
        return self._settled.get(start, 0)

    def leased(self) -> int:
        return sum(each.outstanding(self._now_s) for each in self._rows.values())

    def _of(self, epoch: int) -> tuple[Row, Change]:
        return self._rows.setdefault(epoch, Row(0)), self.changes.setdefault(epoch, Change())


def slice_of(free: int, total: int, least: int, holders: int) -> int:
    """What one of `holders` workers gets of `free` when the calls that wait there ask for `total` and the smallest of
    them for `least`: nothing below that, and never more than is free."""
    if free < least:
        return 0
    if free <= total:
        return free
    return total + (free - total) // (_PART * max(holders, 1))


def counting(place: Place, at_s: int, now_s: int) -> tuple[int, int]:
    """The first and the last start of those windows, or buckets, that count at a place for a worker at `at_s`."""
    if place.per in SHORT or place.per in SLIDING_S:
        return oldest_open(place.per, min(now_s, at_s)), FOREVER_S
    return place.window_start, place.window_start
