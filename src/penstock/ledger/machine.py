"""The state machine: what is settled and held on each balance, as a function of events and the time they come with.

No clock, no I/O. An attempt is `reserve`d on every limit that counts it, all or nothing, may be `extend`ed while it
runs, and then is either `settle`d with what it owes or `release`d. What a limit's window has left is worked out from
the limit as it is *now*, so that a raised or lowered amount counts at once.

Time never runs backwards by a little: a clock that is set back by up to `STEADY_S` is taken to stand still until it
catches up. One that is set back further was wrong before, and is followed; the windows it returns to begin anew.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from heapq import nlargest

from msgspec import Struct

from penstock.domain.lease import Given, Granted, Place
from penstock.domain.money import MAX_NANOUSD
from penstock.domain.policy import METERED_UNITS, Charge, Denial, Limit, Unit
from penstock.domain.usage import Usage
from penstock.errors import NoOutputBound, PenstockError, UnpricedModel
from penstock.ledger.books import Balance, Book, Layout, SlidingBook
from penstock.ledger.reservations import ONE_PLACE, Line, Lines, Reservation
from penstock.ledger.slices import Idle, Returns, Slice
from penstock.ledger.windows import BUCKETS, FOREVER_S, SLIDING_S, Windows, span_of

MAX_KNOWN_LINES = 1_000
"""For how many sets of limits and values the lines are kept at most."""
MAX_PEAKS = 1_000
STEADY_S = 60
HELD_RETRY_S = 1.0


class Ask(Struct, frozen=True):
    """The worst case of one attempt. `usd_nanousd` None: the model has no price. `output_tokens` None: nothing caps
    the output. Each attempt also asks for one request and one place among the concurrent calls.

    `metered`: what metered limits hold instead, of a call that can be topped up; None where they hold the worst case.
    """

    usd_nanousd: int | None
    input_tokens: int
    output_tokens: int | None
    metered: "Ask | None" = None

    def amounts(self) -> dict[Unit, int]:
        """What is asked in each unit; zero for what is not known."""
        return _by_unit(self.usd_nanousd or 0, self.input_tokens, self.output_tokens or 0, 1, 1)


def amounts_owed(usd_nanousd: int, usage: Usage) -> dict[Unit, int]:
    """What a call that used this owes in each unit."""
    return _by_unit(usd_nanousd, usage.total_input, usage.total_output, usage.requests, 0)


def _by_unit(usd_nanousd: int, input_tokens: int, output_tokens: int, requests: int, places: int) -> dict[Unit, int]:
    """The one place where amounts are given their units; each is at least 0 and at most what the store can hold."""
    tokens = input_tokens + output_tokens
    if not (0 <= usd_nanousd <= MAX_NANOUSD and 0 <= input_tokens <= tokens <= MAX_NANOUSD and requests >= 0):
        usd_nanousd = min(max(usd_nanousd, 0), MAX_NANOUSD)
        input_tokens = min(max(input_tokens, 0), MAX_NANOUSD)
        output_tokens = min(max(output_tokens, 0), MAX_NANOUSD)
        tokens = min(input_tokens + output_tokens, MAX_NANOUSD)
        requests = max(requests, 0)
    return {
        "usd": usd_nanousd,
        "tokens": tokens,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "requests": requests,
        "concurrent": places,
    }


class Short:
    """A call that what is leased here does not cover: limit, balance and amount, for each place that lacks some."""

    __slots__ = ("lacks",)

    def __init__(self, lacks: list[tuple[Limit, Balance, int]]) -> None:
        self.lacks = lacks


class Extended:
    """A reservation holds what was asked for it."""


class Machine:
    """`leased`: limits that refuse are spent from slices that `grant` brings; else from the whole of their amounts."""

    def __init__(self, *, leased: bool = False) -> None:
        self._leased = leased
        self._idle = Idle()
        self._returns = Returns()
        self._layout = Layout()
        self._books: dict[str, Book] = {}
        self._lines: dict[int, Lines] = {}
        self._seeds: dict[str, list[Charge]] = {}
        self._windows = Windows()
        self._now_s = 0
        self._peaks: dict[tuple[str, str], int] = {}
        self._open: set[Reservation] = set()

    def seed(self, balances: Iterable[Charge]) -> None:
        """Takes over what a predecessor settled: `amount` is what is settled on the balance. Only into a new machine.
        It is looked at when the limit is first met, since only the limit knows which window is open now. A clock that
        is a little behind the newest of them is taken to stand still."""
        for charge in sorted(balances, key=lambda charge: charge.window_start):
            self._seeds.setdefault(charge.limit, []).append(charge)
            self._now_s = charge.window_start

    def reserve(
        self, limits: Sequence[Limit], dims: Mapping[str, str], ask: Ask, at_s: int, *, final: bool = False
    ) -> Reservation | Denial | Short:
        """Holds the worst case on every limit, or nothing on any. `limits` are distinct and apply to `dims`.

        `Short` when more slices are needed, unless it is known that there are none; never when `final`, nor from a
        machine that is not leased. Raises `NoOutputBound` or `UnpricedModel` where a limit that refuses cannot be held
        for want of a bound.
        """
        if ask.usd_nanousd is None or ask.output_tokens is None:
            _require_bounds(limits, ask)
        now_s = self._steady(at_s)
        lines = self._find(limits, dims, now_s)
        amounts = _asked(lines, ask)
        if lacking := lines.take(amounts):
            return self._refusal(lacking, now_s, final=final)
        if not lines.version:
            self._keep(lines)
        for line in lines.watched:
            place = (line.limit.id, line.balance.value)
            self._peaks[place] = max(line.balance.held, self._peaks.get(place, 0))
        if self._leased and lines.touched != self._idle.round:
            self._touch(lines)
        charged = lines.charged
        reservation = Reservation(charged, lines.places, lines.where, list(amounts[: len(charged)]), dims)
        self._open.add(reservation)
        if ask.metered is not None and lines.has_metered:
            reservation.can_extend()
        return reservation

    def _refusal(self, lacking: Sequence[tuple[Line, int]], now_s: int, *, final: bool) -> Denial | Short:
        denial: Denial | None = None
        lacks: list[tuple[Limit, Balance, int]] = []
        for line, amount in lacking:
            limit, balance = line.limit, line.balance
            if final or balance.slice is None or self._hopeless(limit, balance.slice, amount, now_s):
                denial = _least_helped(denial, _denied(limit, balance, amount, now_s))
            else:
                lacks.append((limit, balance, amount))
        return Short(lacks) if denial is None else denial

    def _hopeless(self, limit: Limit, slice: Slice, asked: int, now_s: int) -> bool:
        """Whether the control process need not be asked: the ask is over the amount, or it has said within this second
        that the money is spent. A second of a clock that stands still can be long, so it ends with the round, too."""
        if asked > limit.amount:
            return True
        is_known = slice.told_s == now_s and slice.told_in == self._idle.round
        return is_known and slice.settled + asked > limit.amount

    def _find(self, limits: Sequence[Limit], dims: Mapping[str, str], now_s: int) -> Lines:
        """The lines of a call that these limits count. They are known by the sequence itself, which is the same for
        calls that are alike."""
        known = self._lines.get(id(limits))
        if known is not None and known.limits is limits and known.stand(dims, now_s, self._layout.version):
            return known
        return Lines(limits, dims, [self._balance(limit, dims, now_s) for limit in limits])

    def _keep(self, lines: Lines) -> None:
        """Enters what is new of these lines, and keeps them until the layout changes."""
        for line in lines.all:
            line.book.enter(line.balance)
        if len(self._lines) >= MAX_KNOWN_LINES:
            self._lines.clear()
        lines.version = self._layout.version
        self._lines[id(lines.limits)] = lines

    def _touch(self, lines: Lines) -> None:
        lines.touched = self._idle.round
        for line in lines.all:
            if line.slice is not None:
                self._idle.touch(line.slice)

    def extend(
        self, reservation: Reservation, limits: Mapping[str, Limit], ask: Ask, at_s: int, *, final: bool = False
    ) -> Extended | Denial | Short:
        """Raises what metered limits hold to `ask`, which is all of it and not what is added, on all of them or on
        none. `limits`: those in force, by id.

        What is added lies in the windows that count now: where one has turned since, on a line of its own. `Short` and
        `final` as in `reserve`.
        """
        if not reservation.open:
            raise PenstockError("only what is held can be extended")
        now_s = self._steady(at_s)
        amounts = ask.amounts()
        more: list[tuple[Limit, Balance, int]] = []
        denial: Denial | None = None
        lacks: list[tuple[Limit, Balance, int]] = []
        for id, metered in reservation.metered.items():
            limit = limits.get(id)
            asked = amounts[metered.unit] - metered.held
            if asked <= 0 or limit is None:
                continue
            balance = self._balance(limit, reservation.dims, now_s)
            if limit.mode == "observe" or asked <= balance.left(limit):
                more.append((limit, balance, asked))
                continue
            held = reservation.amounts[metered.line] if reservation.lines[metered.line].balance is balance else 0
            if final or balance.slice is None or self._hopeless(limit, balance.slice, held + asked, now_s):
                denial = _least_helped(denial, _denied(limit, balance, asked, now_s, held))
            else:
                lacks.append((limit, balance, asked))
        if denial is not None or lacks:
            return Short(lacks) if denial is None else denial
        for limit, balance, asked in more:
            if balance.slice is not None:
                self._idle.touch(balance.slice)
            balance.book.enter(balance)
            reservation.grow(limit, balance, asked)
        return Extended()

    def settle(self, reservation: Reservation, amounts: Sequence[int]) -> None:
        """Turns the hold into what is owed, in the windows in which it was made; `amounts` are beside its lines. What
        exceeds its hold is posted all the same: it is the truth."""
        if len(amounts) != len(reservation.lines):
            raise PenstockError("a settlement charges the balances of its hold, each once and in their order")
        if amounts and min(amounts) < 0:
            raise PenstockError("a settlement cannot give back what was settled before")
        self._close(reservation)
        for line, held, owed in zip(reservation.lines, reservation.amounts, amounts, strict=True):
            line.settle(held, owed)
        for line in reservation.places:
            line.free(ONE_PLACE)

    def release(self, reservation: Reservation) -> None:
        """Lets the hold go: nothing is owed."""
        self._close(reservation)
        for line, held in zip(reservation.lines, reservation.amounts, strict=True):
            line.free(held)
        for line in reservation.places:
            line.free(ONE_PLACE)

    def _close(self, reservation: Reservation) -> None:
        if not reservation.open:
            raise PenstockError("a hold is resolved at most once")
        reservation.open = False
        self._open.discard(reservation)

    def adjust(self, charge: Charge) -> None:
        """Moves what is settled on one balance of a fixed window, up or down. A window that is over here has no balance
        to move; one that no call has come to yet begins with this."""
        self._now_s = max(self._now_s, charge.window_start)
        book = self._books.get(charge.limit)
        if book is None or book.span != charge.per:
            self._adjust_seed(charge)
            return
        if not book.start <= self._now_s < book.end:
            book.move(self._windows, self._now_s)
        if charge.window_start != book.start:
            return
        balance = book.balances.get(charge.value) or Balance(book, charge.value)
        book.enter(balance)
        self._layout.changed()
        # A clock that was set back by far makes windows begin anew, with less on them than the store knows of.
        balance.settle(max(charge.amount, -balance.settled))
        book.forget_if_empty(balance)

    def _adjust_seed(self, charge: Charge) -> None:
        """The same for a limit that was not met yet: what it begins with is moved."""
        seeds = self._seeds.pop(charge.limit, [])
        place = (charge.window_start, charge.value, charge.per)
        before = sum(seed.amount for seed in seeds if (seed.window_start, seed.value, seed.per) == place)
        kept = [seed for seed in seeds if (seed.window_start, seed.value, seed.per) != place]
        if before + charge.amount > 0:
            kept.append(Charge(charge.limit, charge.window_start, charge.value, before + charge.amount, charge.per))
        if kept:
            self._seeds[charge.limit] = kept

    # -- leases -------------------------------------------------------------------------------------------------------

    def grant(self, place: Place, granted: Granted) -> None:
        """More of a place, and what is known of it. What came too late for its window, or for its limit, goes back."""
        book = self._books.get(place.limit)
        if book is not None and book.span == place.per:
            slice = book.slice_of(place.value)
            if slice.place == place:
                slice.grow(granted, book.start)
                slice.settled, slice.leased, slice.fits_at_s = granted.settled, granted.leased, granted.fits_at_s
                slice.told_s, slice.told_in = self._now_s, self._idle.round
                self._idle.touch(slice)
                return
        self._returns.add(place, granted.amount, granted.since)

    def recall(self, place: Place) -> None:
        """Gives back what is unused of a place."""
        book = self._books.get(place.limit)
        slice = None if book is None else book.slices.get(place.value)
        if slice is not None and slice.place == place:
            self._give_back(slice)

    def rest(self, at_s: int) -> None:
        """Begins another round: what nobody has touched for `IDLE_ROUNDS` goes back. An empty slice is forgotten."""
        now_s = self._steady(at_s)
        for slice in self._idle.turn():
            book = self._books.get(slice.place.limit)
            if book is not None and not book.start <= now_s < book.end:
                book.move(self._windows, now_s)
            self._give_back(slice)
            if slice.amount or slice.held or slice.later is not None:
                self._idle.touch(slice)
            elif book is not None and book.slices.get(slice.place.value) is slice:
                book.forget_slice_if_empty(slice.place.value)

    def give_all_back(self) -> None:
        """The worker ends: everything that nothing holds goes back."""
        for book in self._books.values():
            for slice in book.slices.values():
                self._give_back(slice)

    def returns(self, most: int) -> tuple[Given, ...]:
        """Up to `most` of what is to be given back; it is no longer spent here, and must be said."""
        return self._returns.take(most)

    @property
    def has_returns(self) -> bool:
        return bool(self._returns)

    def _give_back(self, slice: Slice) -> None:
        """A share that waits for its window is unused in any case, and nobody may use it before that window."""
        if slice.later is not None:
            self._returns.add(slice.place, slice.later[1], slice.later[0])
            slice.later = None
        since, used = 0, slice.held
        if slice.stands:
            book = self._books.get(slice.place.limit)
            if book is not None and book.slices.get(slice.place.value) is slice:
                since, used = book.start, book.used(slice.place.value)
            else:
                used = 0
        if slice.amount > used:
            self._returns.add(slice.place, slice.amount - used, since)
            slice.amount = used

    def held(self) -> dict[str, int]:
        """Limit id -> what is held now, over all values and windows; limits on which nothing is held are left out."""
        held: Counter[str] = Counter()
        for reservation in self._open:
            for line, amount in zip(reservation.lines, reservation.amounts, strict=True):
                held[line.limit.id] += amount
            for line in reservation.places:
                held[line.limit.id] += ONE_PLACE
        return {limit: amount for limit, amount in held.items() if amount}

    def peaks(self) -> tuple[Charge, ...]:
        """How many calls were in flight at once since this was asked last, for each balance of the concurrent limits
        that alert: the `MAX_PEAKS` fullest."""
        fullest = nlargest(MAX_PEAKS, self._peaks.items(), key=lambda peak: peak[1])
        self._peaks = {(limit, value): held for limit, value in self._peaks if (held := self._in_flight(limit, value))}
        return tuple([Charge(limit, 0, value, most) for (limit, value), most in fullest])

    def _in_flight(self, limit: str, value: str) -> int:
        book = self._books.get(limit)
        balance = book.balances.get(value) if book is not None else None
        return balance.held if balance is not None else 0

    def settled(self) -> Iterable[Charge]:
        """What is settled on each balance of a current window, and what was taken over and not looked at yet."""
        for limit, book in self._books.items():
            for balance in book.all_balances():
                yield Charge(limit, balance.window_start, balance.value, balance.settled, book.span)
        for seeds in self._seeds.values():
            yield from seeds

    def prune(self, limits: Mapping[str, Limit], at_s: int) -> None:
        """Forgets limits that no longer exist, once their window is over and nothing is held on them."""
        now_s = self._steady(at_s)
        over = [id for id, book in self._books.items() if id not in limits and book.over(now_s)]
        held = self.held() if over else {}
        for gone in [id for id in over if id not in held]:
            del self._books[gone]
            self._layout.changed()
        for gone in [id for id in self._seeds if id not in limits]:
            del self._seeds[gone]

    def _steady(self, at_s: int) -> int:
        if at_s >= self._now_s or self._now_s - at_s > STEADY_S:
            self._now_s = at_s
        return self._now_s

    def _balance(self, limit: Limit, dims: Mapping[str, str], now_s: int) -> Balance:
        """The balance that counts this call; a new one is not entered in its book before something is held on it."""
        book = self._books.get(limit.id)
        if book is None or book.limit is not limit:
            book = self._book(limit, book, now_s)
        elif not book.start <= now_s < book.end:
            book.move(self._windows, now_s)
        value = "" if limit.each is None else dims[limit.each]
        known = book.balances.get(value)
        balance = known if known is not None and known.trail is None else book.balance(value)
        if self._leased:
            balance.slice = self._slice(balance) if limit.mode != "observe" else None
        return balance

    def _slice(self, balance: Balance) -> Slice:
        """That of the balance's place. A new one is looked at when it has lain idle, so that one which stays empty is
        forgotten."""
        known = balance.book.slices.get(balance.value)
        if known is None:
            known = balance.book.slice_of(balance.value)
            self._idle.touch(known)
        return known

    def _book(self, limit: Limit, known: Book | None, now_s: int) -> Book:
        """The book of a limit that is new, or has changed: what it counts stays, or it is another limit."""
        if known is not None and known.span == span_of(limit) and known.limit.timezone == limit.timezone:
            lowered = limit.amount < known.limit.amount
            known.limit = limit
            self._layout.changed()
            for slice in known.slices.values():
                slice.told_s = 0
                if lowered:
                    self._give_back(slice)
            if not known.start <= now_s < known.end:
                known.move(self._windows, now_s)
            return known
        kind = SlidingBook if limit.window == "sliding" else Book
        book = self._books[limit.id] = kind(limit, self._layout)
        book.move(self._windows, now_s)
        for charge in self._seeds.pop(limit.id, ()):
            if charge.per == book.span:
                book.take_over(charge)
        return book


def _require_bounds(limits: Sequence[Limit], ask: Ask) -> None:
    refusing = [limit for limit in limits if limit.mode != "observe"]
    if ask.output_tokens is None:
        for limit in refusing:
            if limit.unit in METERED_UNITS and (limit.mode == "strict" or ask.metered is None):
                raise NoOutputBound(
                    f"limit {limit.name} is {limit.mode} and nothing caps this call's output: give a maximum number of "
                    "output tokens, or have one set for the model",
                )
    if ask.usd_nanousd is None:
        for limit in refusing:
            if limit.unit == "usd":
                raise UnpricedModel(
                    f"limit {limit.name} counts dollars and this model has no price: an operator must give it one"
                )


def _asked(lines: Lines, ask: Ask) -> Sequence[int]:
    """What is asked on each line."""
    amounts = lines.amounts_of(ask.amounts())
    if ask.metered is None or not lines.has_metered:
        return amounts
    first = ask.metered.amounts()
    return [
        first[line.unit] if line.limit.mode == "metered" else amount
        for line, amount in zip(lines.all, amounts, strict=True)
    ]


def _denied(limit: Limit, balance: Balance, more: int, now_s: int, held: int = 0) -> Denial:
    """A denial is lasting when the ask alone is over the amount, or the window never turns. A request that is held
    will be counted, so only time helps there. `held`: what the call that asks for more has of the balance itself."""
    slice = balance.slice
    asked = held + more
    left, settled = balance.left(limit) + held, balance.settled_in_window()
    if slice is not None:
        settled = max(settled, slice.settled)
    held_by_others = limit.unit != "requests" and settled + asked <= limit.amount
    if slice is not None:  # what others were leased and have not spent is in nobody's way when all is too little
        left = left + limit.amount - slice.settled - slice.leased if held_by_others else limit.amount - settled
    retry_after_s: float | None
    if asked > limit.amount:
        retry_after_s = None
    elif held_by_others:
        retry_after_s = HELD_RETRY_S
    elif slice is not None and limit.window == "sliding":
        # What others used, and when, the control process knows; where it is too long ago, the next bucket is.
        width_s = SLIDING_S[balance.book.span] // BUCKETS
        retry_after_s = float(slice.fits_at_s - now_s if slice.fits_at_s > now_s else width_s)
    else:
        fits_at_s = balance.fits_at_s(limit, more)
        retry_after_s = None if fits_at_s == FOREVER_S else float(fits_at_s - now_s)
    return Denial(
        limit, balance.value, balance.window_start, asked, min(max(left, 0), asked - 1), held_by_others, retry_after_s
    )


def _least_helped(one: Denial | None, other: Denial) -> Denial:
    """Of two denials the one that waiting helps least, so that a caller who waits as told is not denied again."""
    if one is None or other.retry_after_s is None:
        return one if one is not None and one.retry_after_s is None else other
    if one.retry_after_s is None:
        return one
    return one if one.retry_after_s >= other.retry_after_s else other
