"""Books: one limit's balances, value by value, in the window that counts now.

A fixed window's book has one balance per value. A sliding window's book has a trail per value: a balance for each
bucket in which something happened, as far back as the window reaches.
"""

from collections.abc import Iterator
from typing import Final

from penstock.domain.policy import Charge, Limit
from penstock.ledger.slices import Slice, place_of, stands
from penstock.ledger.windows import FOREVER_S, SLIDING_S, Windows, bucket, leaves_at_s, span_of

OTHERS: Final = "*"
"""The value that stands for all values of an `each` that came after the first `max_values`."""


class Layout:
    """Counts what makes calls lie elsewhere than calls like them did before: a window that turned, a limit that
    changed, a balance that was forgotten."""

    __slots__ = ("version",)

    def __init__(self) -> None:
        self.version = 1

    def changed(self) -> None:
        self.version += 1


class Trail:
    """One value's buckets of a sliding window, oldest first. `taken`: settled and held on all of them."""

    __slots__ = ("buckets", "taken")

    def __init__(self) -> None:
        self.buckets: list[Balance] = []
        self.taken = 0

    def drop_before(self, oldest_s: int) -> None:
        """Lets the buckets go that have left the window; those with holds live on in their reservations."""
        while self.buckets and self.buckets[0].window_start < oldest_s:
            gone = self.buckets.pop(0)
            self.taken -= gone.settled + gone.held
            gone.trail = None


class Balance:
    """What is settled and held for one value of one limit in one window or bucket, by how many open reservations.
    `trail`: the sliding window that it is part of, if it is. `slice`: what this worker may spend there, None where it
    holds the whole of the limit, or nothing limits it."""

    __slots__ = ("book", "held", "open", "settled", "slice", "trail", "value", "window_start")

    def __init__(self, book: "Book", value: str, trail: Trail | None = None) -> None:
        self.book = book
        self.value = value
        self.trail = trail
        self.slice: Slice | None = None
        self.window_start = book.start
        self.settled = 0
        self.held = 0
        self.open = 0

    def settle(self, amount: int) -> None:
        self.settled += amount
        if self.trail is not None:
            self.trail.taken += amount

    def left(self, limit: Limit) -> int:
        """What may still be taken: of the limit's amount, or of the slice that was granted of it."""
        used = self.settled + self.held if self.trail is None else self.trail.taken
        return limit.amount - used if self.slice is None else self.slice.left(used, self.window_start)

    def settled_in_window(self) -> int:
        return self.settled if self.trail is None else sum(part.settled for part in self.trail.buckets)

    def fits_at_s(self, limit: Limit, asked: int) -> int:
        """The moment from which `asked`, which does not fit now, would fit if nothing else happened: the window's end,
        or when enough of the oldest buckets have left."""
        if self.trail is None:
            return self.book.end
        short = asked - self.left(limit)
        for part in self.trail.buckets:
            short -= part.settled + part.held
            if short <= 0:
                return self.book.leaves_at_s(part)
        return FOREVER_S


class Book:
    """One limit's balances in its current window. When the window turns the balances are let go: those with holds
    live on in their reservations until these are resolved. `slices`: by value; those of windows that are over live on
    until they are given back."""

    __slots__ = ("balances", "end", "layout", "limit", "slices", "span", "stands", "start")

    def __init__(self, limit: Limit, layout: Layout) -> None:
        self.limit = limit
        self.layout = layout
        self.span = span_of(limit)
        self.stands = stands(limit, self.span)
        self.slices: dict[str, Slice] = {}
        self.start = self.end = 0
        self.balances: dict[str, Balance] = {}

    def move(self, windows: Windows, now_s: int) -> None:
        """To the window that holds `now_s`, which the present one does not."""
        self.layout.changed()
        self.start, self.end = windows.at(self.limit.per, now_s, self.limit.timezone)
        self.balances = {}
        if not self.stands:
            self.slices = {}

    def take_over(self, charge: Charge) -> None:
        """What a predecessor settled, where it is in the current window."""
        if charge.window_start == self.start:
            self.enter(balance := Balance(self, charge.value))
            balance.settle(charge.amount)

    def balance(self, value: str) -> Balance:
        """The balance of `value`; a new one is not entered before something is held on it."""
        known = self.balances.get(value)
        if known is not None:
            return known
        if len(self.balances) >= self.limit.max_values:
            return self.balances.get(OTHERS) or Balance(self, OTHERS)
        return Balance(self, value)

    def enter(self, balance: Balance) -> None:
        self.balances[balance.value] = balance

    def forget_if_empty(self, balance: Balance) -> None:
        """A balance on which nothing lies is as good as none, and must not take up one of the `max_values` places. One
        that an open reservation refers to stays, though it holds nothing: it may be settled yet. So does that of a
        limit without `each`, which has no other."""
        if self.limit.each is None or balance.open or balance.settled:
            return
        if self.balances.get(balance.value) is balance:
            del self.balances[balance.value]
            self.layout.changed()
            self.forget_slice_if_empty(balance.value)

    def slice_of(self, value: str) -> Slice:
        """The slice of `value` in the window that counts now; of a value that has none, an empty one."""
        known = self.slices.get(value)
        if known is None:
            place = place_of(self.limit, self.span, self.start, value)
            known = self.slices[value] = Slice(place, stands=self.stands)
        return known

    def forget_slice_if_empty(self, value: str) -> None:
        """One that a balance refers to stays, or there would be two of it."""
        slice = self.slices.get(value)
        if slice is not None and slice.is_empty() and value not in self.balances:
            del self.slices[value]

    def used(self, value: str) -> int:
        """What the window that counts now has on it."""
        balance = self.balances.get(value)
        return 0 if balance is None else balance.settled + balance.held

    def all_balances(self) -> Iterator[Balance]:
        yield from self.balances.values()

    def leaves_at_s(self, balance: Balance) -> int:
        """When this balance of the current window no longer counts."""
        return self.end

    def over(self, now_s: int) -> bool:
        """Whether nothing in it counts any more."""
        return self.end <= now_s


class SlidingBook(Book):
    """`start` and `end` are those of the bucket that is being filled, `balances` the newest bucket of each value.
    `newest`: start of a bucket -> the values whose newest bucket it is, so that they are found when it leaves."""

    __slots__ = ("newest",)

    def __init__(self, limit: Limit, layout: Layout) -> None:
        super().__init__(limit, layout)
        self.newest: dict[int, set[str]] = {}

    def move(self, windows: Windows, now_s: int) -> None:
        self.layout.changed()
        start, end = bucket(self.span, now_s)
        if start < self.start:
            self.balances, self.newest = {}, {}
        self.start, self.end = start, end
        for gone in [newest for newest in self.newest if newest < self._oldest_s()]:
            for value in self.newest.pop(gone):
                del self.balances[value]
                self.forget_slice_if_empty(value)

    def take_over(self, charge: Charge) -> None:
        """The charges of one value come in the order of their buckets."""
        if self._oldest_s() <= charge.window_start <= self.start:
            newest = self.balances.get(charge.value)
            balance = Balance(self, charge.value, Trail() if newest is None else newest.trail)
            balance.window_start = charge.window_start
            self.enter(balance)
            balance.settle(charge.amount)

    def balance(self, value: str) -> Balance:
        newest = super().balance(value)
        if newest.trail is None:
            newest.trail = Trail()
            return newest
        newest.trail.drop_before(self._oldest_s())
        return newest if newest.window_start == self.start else Balance(self, newest.value, newest.trail)

    def enter(self, balance: Balance) -> None:
        before = self.balances.get(balance.value)
        if before is balance or balance.trail is None:
            return
        if before is not None:
            self._no_longer_newest(before)
        balance.trail.buckets.append(balance)
        self._become_newest(balance)

    def forget_if_empty(self, balance: Balance) -> None:
        if balance.open or balance.settled or balance.trail is None or balance not in balance.trail.buckets:
            return
        balance.trail.buckets.remove(balance)
        self.layout.changed()
        if self.balances.get(balance.value) is balance:
            self._no_longer_newest(balance)
            del self.balances[balance.value]
            balance.trail.drop_before(self._oldest_s())
            if balance.trail.buckets:
                self._become_newest(balance.trail.buckets[-1])
            self.forget_slice_if_empty(balance.value)

    def used(self, value: str) -> int:
        newest = self.balances.get(value)
        if newest is None or newest.trail is None:
            return 0
        newest.trail.drop_before(self._oldest_s())
        return newest.trail.taken

    def all_balances(self) -> Iterator[Balance]:
        oldest_s = self._oldest_s()
        for newest in self.balances.values():
            if newest.trail is not None:
                yield from (part for part in newest.trail.buckets if part.window_start >= oldest_s)

    def leaves_at_s(self, balance: Balance) -> int:
        return leaves_at_s(self.span, balance.window_start)

    def over(self, now_s: int) -> bool:
        return self.end + SLIDING_S[self.span] <= now_s

    def _oldest_s(self) -> int:
        return self.start - SLIDING_S[self.span]

    def _become_newest(self, balance: Balance) -> None:
        self.balances[balance.value] = balance
        self.newest.setdefault(balance.window_start, set()).add(balance.value)

    def _no_longer_newest(self, balance: Balance) -> None:
        values = self.newest[balance.window_start]
        values.discard(balance.value)
        if not values:
            del self.newest[balance.window_start]
