"""Reservations: the lines on which a call is counted, and what it holds on them.

Calls of one key for one model are counted in the same places until a window turns, a limit changes or a value is
forgotten. So their lines are found once and kept, as far as the `Layout` of the books says that they still stand.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import gt, itemgetter

from msgspec import Raw, Struct

from penstock.domain.events import LimitCharged
from penstock.domain.policy import METERED_UNITS, BalanceKey, Charges, Limit, Unit, packed
from penstock.ledger.books import Balance
from penstock.ledger.windows import FOREVER_S

ONE_PLACE = 1
"""What a call takes of a limit on concurrent calls."""


class Line:
    """One limit and the balance on which it counts a call. `slice`: what this worker may spend there, None where it
    holds the whole of the limit; `spent`: the same where it is spent once, None for a share.
    """

    __slots__ = ("balance", "book", "limit", "refuses", "slice", "spent", "unit")

    def __init__(self, limit: Limit, balance: Balance) -> None:
        self.limit = limit
        self.unit: Unit = limit.unit
        self.refuses = limit.mode != "observe"
        self.balance = balance
        self.book = balance.book
        self.slice = balance.slice
        self.spent = None if balance.slice is None or balance.slice.stands else balance.slice

    def take(self, amount: int) -> None:
        """Holds this much for one call."""
        self.balance.open += 1
        self.hold(amount)

    def hold(self, amount: int) -> None:
        """Below 0, less is held."""
        balance = self.balance
        balance.held += amount
        if balance.trail is not None:
            balance.trail.taken += amount
        if self.spent is not None:
            self.spent.held += amount

    def settle(self, held: int, owed: int) -> None:
        """Turns what one call holds into what it owes."""
        balance = self.balance
        balance.open -= 1
        balance.held -= held
        balance.settled += owed
        if balance.trail is not None:
            balance.trail.taken += owed - held
        if self.spent is not None:
            self.spent.held -= held
            self.spent.spend(owed)
        if not balance.settled:
            self.book.forget_if_empty(balance)

    def give_back(self, amount: int) -> None:
        """What was taken was not: the call is refused."""
        self.balance.open -= 1
        self.hold(-amount)

    def free(self, held: int) -> None:
        """Ends what one call holds: nothing is owed."""
        self.give_back(held)
        if not self.balance.settled:
            self.book.forget_if_empty(self.balance)


class Lines:
    """Every line of a call that `limits` count with the dimensions `dims`: first the `charged` ones, in the order of
    the limits, then the `places` among concurrent calls, which are not charged. `amounts_of` picks what is taken on
    each from the amounts by unit. `version`: of the layout in which they were found, 0 as long as balances are missing
    in it. `touched`: the last round in which something was taken."""

    __slots__ = (
        *("_since_s", "_until_s", "_values", "all", "amounts_of", "charged", "has_metered", "limits", "places"),
        *("touched", "version", "watched", "where"),
    )

    def __init__(self, limits: Sequence[Limit], dims: Mapping[str, str], balances: Sequence[Balance]) -> None:
        lines = [Line(limit, balance) for limit, balance in zip(limits, balances, strict=True)]
        self.limits = limits
        self.charged = [line for line in lines if line.unit != "concurrent"]
        self.places = [line for line in lines if line.unit == "concurrent"]
        self.watched = [line for line in self.places if line.limit.alert_at]
        self.all = [*self.charged, *self.places]
        self.amounts_of = _picker([line.unit for line in self.all])
        self.has_metered = any(line.limit.mode == "metered" for line in lines)
        self.where = packed([key_of(line) for line in self.charged])
        self.version = self.touched = 0
        self._values = [(limit.each, dims[limit.each]) for limit in limits if limit.each is not None]
        self._since_s = max((line.book.start for line in lines), default=0)
        self._until_s = min((line.book.end for line in lines), default=FOREVER_S)

    def take(self, amounts: Sequence[int]) -> list[tuple[Line, int]]:
        """Holds these amounts, beside `all`, for one call; or nothing, where less is left on any line: those lines,
        with what is asked there.

        Every call goes through this for each limit, so what `Balance.left` and `Line.take` do is written out. No two
        lines count on the same balance, so that each can be taken as it is looked at.
        """
        lacking = []
        for line, amount in zip(self.all, amounts, strict=True):
            balance, spent = line.balance, line.spent
            trail = balance.trail
            balance.open += 1
            balance.held = held = balance.held + amount
            if trail is not None:
                trail.taken += amount
            if spent is not None:
                spent.held = held = spent.held + amount
                lacks = held > spent.amount
            elif line.slice is None:
                lacks = (balance.settled + held if trail is None else trail.taken) > line.limit.amount
            else:
                lacks = balance.left(line.limit) < 0
            if lacks and amount and line.refuses:
                lacking.append((line, amount))
        if lacking:
            for line, amount in zip(self.all, amounts, strict=True):
                line.give_back(amount)
        return lacking

    def stand(self, dims: Mapping[str, str], now_s: int, version: int) -> bool:
        """Whether a call of the same limits with these dimensions is counted here, too."""
        if self.version != version or not self._since_s <= now_s < self._until_s:
            return False
        return not self._values or all(dims[dimension] == value for dimension, value in self._values)


def _picker(units: Sequence[Unit]) -> Callable[[Mapping[Unit, int]], tuple[int, ...]]:
    """What stands under each of these units, in their order."""
    if len(units) > 1:
        return itemgetter(*units)
    return lambda amounts: tuple([amounts[unit] for unit in units])


def key_of(line: Line) -> BalanceKey:
    """How charges on this line name their balance."""
    balance = line.balance
    return line.limit.id, balance.window_start, balance.value, line.book.span


class Metered:
    """What is held on one metered limit: `held` in all, `line` the newest of its lines."""

    __slots__ = ("held", "line", "unit")

    def __init__(self, unit: Unit, line: int, held: int) -> None:
        self.unit = unit
        self.line = line
        self.held = held


class Reservation(Struct, eq=False):
    """Amounts held for one attempt: `amounts` on the `lines` beside them, and one of each of `places`. `where`: how
    charges on the lines name their balances, None where they are other lines than were found. `metered`: limit -> what
    can be extended, for a call with the dimensions `dims`."""

    lines: Sequence[Line]
    places: Sequence[Line]
    where: Raw | None
    amounts: list[int]
    dims: Mapping[str, str]
    open: bool = True
    metered: dict[str, Metered] = {}

    def can_extend(self) -> None:
        """What metered limits hold of it is not all that they will."""
        for number, line in enumerate(self.lines):
            if line.limit.mode == "metered" and line.unit in METERED_UNITS:
                self.metered[line.limit.id] = Metered(line.unit, number, self.amounts[number])

    def grow(self, limit: Limit, balance: Balance, more: int) -> None:
        """Holds more on a metered limit: on its newest line; where that lies in a past window, on a new one."""
        metered = self.metered[limit.id]
        metered.held += more
        newest = self.lines[metered.line]
        if newest.balance is balance:
            newest.hold(more)
            self.amounts[metered.line] += more
            return
        added = Line(limit, balance)
        added.take(more)
        metered.line = len(self.lines)
        self.lines = [*self.lines, added]
        self.amounts.append(more)
        self.where = None

    @property
    def held(self) -> Charges:
        """What is held where it can be charged."""
        return self.charges(self.amounts)

    def charges(self, amounts: Sequence[int]) -> Charges:
        """These amounts on the lines."""
        if self.where is None:
            self.where = packed([key_of(line) for line in self.lines])
        return Charges(self.where, tuple(amounts))

    def shared_out(self, owed: Mapping[Unit, int]) -> list[int]:
        """What is owed on each line. A limit that was topped up after its window had turned has several: the older
        ones are charged first, with what they hold, and the newest with the rest."""
        if not self.metered:
            return [owed[line.unit] for line in self.lines]
        rest: dict[str, int] = {}
        amounts = []
        for number, (line, held) in enumerate(zip(self.lines, self.amounts, strict=True)):
            id, amount = line.limit.id, owed[line.unit]
            if (metered := self.metered.get(id)) is not None:
                amount = rest.get(id, amount)
                if number != metered.line:
                    amount = min(amount, held)
                rest[id] = rest.get(id, owed[line.unit]) - amount
            amounts.append(amount)
        return amounts

    def is_exceeded_by(self, amounts: Sequence[int]) -> bool:
        """Whether more is owed on any line than is held there."""
        return any(map(gt, amounts, self.amounts))

    def shown(self, amounts: Sequence[int]) -> tuple[LimitCharged, ...]:
        """The amounts as people read them, by the names of the limits."""
        return tuple(
            [
                LimitCharged(line.limit.name, line.balance.window_start, line.balance.value, line.unit, amount)
                for line, amount in zip(self.lines, amounts, strict=True)
            ]
        )
