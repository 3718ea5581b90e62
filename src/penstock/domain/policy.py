"""Limits: which calls they count, in what unit, over which window, and how a denial reads."""

from collections.abc import Iterable, Iterator
from typing import Final, Literal

import msgspec
from msgspec import Raw, Struct

Unit = Literal["usd", "tokens", "input_tokens", "output_tokens", "requests", "concurrent"]
Window = Literal["second", "minute", "hour", "day", "week", "month", "year", "total"]
WindowKind = Literal["fixed", "sliding"]
Span = Literal[Window, "sliding-minute", "sliding-hour", "sliding-day", "sliding-week"]
"""What a charge lies in: a whole fixed window, or one of the short buckets that a sliding window is made of."""
Mode = Literal["strict", "metered", "observe"]
"""What a limit holds of a call, and whether it refuses: the worst case; of a stream, the input and a quantum of output
at a time; or the worst case without ever refusing."""

QUANTUM_TOKENS = 1_000
"""How much of a stream's output a metered limit holds at a time."""
METERED_UNITS: Final[frozenset[Unit]] = frozenset({"usd", "tokens", "output_tokens"})
"""The units that the length of the output bears on."""

MAX_VALUES = 100_000
"""How many values of a limit's `each` get a balance of their own in each window, unless the limit says otherwise."""
MATCHABLE = ("organisation", "team", "project", "environment", "key", "user", "customer", "model", "provider")
"""The dimensions of `match` and `each`; besides these, `tag:<name>` is the caller's or the key's tag."""

UNDER = "under:"
"""What stands before the name of a key in the dimension that calls of the keys under it have."""


class Limit(Struct, frozen=True):
    """One limit. `amount` is in nano-USD for `usd`, in pieces for the rest.

    `match`: sorted `(dimension, value)` pairs, all of which a call must have; empty counts every call.
    `each`: a dimension whose distinct values get a balance each; a call without that dimension is not counted.
    `per` is `total` for `concurrent`, which has no window. `window`: `fixed` turns with the calendar of `timezone` (an
    IANA name); `sliding` is the last `per` before each moment, in any time zone. `downgrade`: the model that takes over
    a call which this limit denies; empty: the call is refused.
    """

    id: str
    name: str
    unit: Unit
    amount: int
    per: Window = "total"
    match: tuple[tuple[str, str], ...] = ()
    each: str | None = None
    mode: Mode = "strict"
    alert_at: tuple[float, ...] = ()
    origin: str = "api"
    timezone: str = "UTC"
    window: WindowKind = "fixed"
    downgrade: str = ""
    max_values: int = MAX_VALUES


class Charge(Struct, frozen=True, array_like=True):
    """An amount on one balance: limit, start of the window or of the sliding window's bucket (Unix seconds, 0 for
    `total`), the value of `each` (empty without `each`), and how much, in the limit's unit. `per` says how long that
    window counts, so that a charge can be placed even after its limit was deleted. Concurrency is never charged: it
    lives in holds alone."""

    limit: str
    window_start: int
    value: str
    amount: int
    per: Span = "total"


BalanceKey = tuple[str, int, str, Span]
"""`limit, window_start, value, per` of a charge."""

_encoder = msgspec.msgpack.Encoder()
_places = msgspec.msgpack.Decoder(tuple[BalanceKey, ...])


class Charges(Struct, frozen=True, array_like=True):
    """Charges on several balances. `places`: those balances as the msgpack of a `tuple[BalanceKey, ...]`, which is the
    same bytes for every call that is counted in the same places, so that it is written and read once; `amounts` beside
    them."""

    places: Raw
    amounts: tuple[int, ...]

    @staticmethod
    def of(charges: Iterable[Charge]) -> "Charges":
        charges = tuple(charges)
        keys = [(charge.limit, charge.window_start, charge.value, charge.per) for charge in charges]
        return Charges(packed(keys), tuple([charge.amount for charge in charges]))

    def __iter__(self) -> Iterator[Charge]:
        for (limit, start, value, per), amount in zip(unpacked(self.places), self.amounts, strict=True):
            yield Charge(limit, start, value, amount, per)


def packed(keys: Iterable[BalanceKey]) -> Raw:
    return Raw(_encoder.encode(tuple(keys)))


def unpacked(places: Raw | bytes) -> tuple[BalanceKey, ...]:
    """Raises `msgspec.DecodeError` for bytes that are no places."""
    return _places.decode(places)


class Denial(Struct, frozen=True):
    """Why a call was not admitted, by which balance. `retry_after_s`: None when waiting cannot help.
    `window_start` of a sliding window is that of its newest bucket.
    `held_by_others`: settled spend alone would have admitted it."""

    limit: Limit
    value: str
    window_start: int
    asked: int
    left: int
    held_by_others: bool
    retry_after_s: float | None
