"""Money: whole nano-dollars, and the rate cards that turn usage into them.

1 USD = 1,000,000,000 nano-USD. Prices are nano-USD per million units. There is no float anywhere:
a line item is `ceil(quantity * price / 1_000_000)`, so that rounding never loses the gateway money.
"""

from collections.abc import Hashable
from decimal import Decimal
from functools import cached_property
from typing import Any

from msgspec import Struct, field

NANO = 1_000_000_000
PER_MILLION = 1_000_000
MAX_NANOUSD = 2**63 - 1
"""Amounts are int64 in the store; anything above is clamped and flagged where it enters."""


class Rate(Struct, frozen=True, array_like=True):
    """What one meter costs.

    `base`: nano-USD per million units. `tiers`: ascending `(start, price)`; the last tier whose `start` is *below*
    the call's total input tokens prices all of the call's units (the cliff model that vendors use).
    """

    base: int
    tiers: tuple[tuple[int, int], ...] = ()

    def at(self, total_input: int) -> int:
        """Nano-USD per million units for a call with `total_input` input tokens (cached ones included)."""
        price = self.base
        for start, tier_price in self.tiers:
            if total_input > start:
                price = tier_price
        return price

    def worst(self, total_input: int) -> int:
        """The highest price that a call with at most `total_input` input tokens can meet."""
        return max([self.base, *(price for start, price in self.tiers if total_input > start)])


class RateCard(Struct, frozen=True, dict=True):
    """The price of one deployment: meter -> rate. Meters are those of `usage.METERS`, and `cache_write` for the
    lifetimes that have no rate of their own; an absent meter costs nothing, which is meant where the card is the
    operator's own (`is_own`), and elsewhere is a price that is not known.

    `version` says where the card came from (catalogue release or operator override), and is shown on receipts.
    `request_nanousd`: a flat charge per call in any service tier, zero for most models.
    `variants`: service tier, as the vendor's API names it ("priority", "flex", "fast", "batch") -> all rates
    of that tier. A tier that is not in it is billed at the standard `rates`.
    """

    rates: dict[str, Rate]
    version: str
    request_nanousd: int = 0
    variants: dict[str, dict[str, Rate]] = field(default_factory=dict)
    is_own: bool = False

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """The numbers of input tokens above which any of its prices is another."""
        every = [rate for rates in (self.rates, *self.variants.values()) for rate in rates.values()]
        return tuple(sorted({start for rate in every for start, _ in rate.tiers}))

    @cached_property
    def slopes(self) -> dict[Hashable, Any]:
        """What is worked out of it once and asked with every call; see `catalog.cost`."""
        return {}


class PriceOverride(Struct, frozen=True):
    """The operator's own price of a model, in USD per million tokens (`request`: USD per call, `web_search`: USD per
    search).

    It replaces the catalogue's price entirely. A meter left out falls back to what it is a kind of, so that nothing is
    free by omission: cache reads and writes and audio input to `input`, audio output to `output`, one-hour cache writes
    to `cache_write`; only searches, which are a kind of nothing, are. Zero is free. It has no variants: it is the price
    in every service tier, so an operator whose callers use a dearer one states the dearer price.
    """

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    audio_in: Decimal | None = None
    audio_out: Decimal | None = None
    request: Decimal | None = None
    web_search: Decimal | None = None


class CostLine(Struct, frozen=True, array_like=True):
    """One line of a receipt: `cost_nanousd = ceil(quantity * unit_price / 1e6)`."""

    meter: str
    quantity: int
    unit_price_nanousd_per_million: int
    cost_nanousd: int


def line_cost_nanousd(quantity: int, price: int) -> int:
    """`quantity` units at `price` nano-USD per million units, rounded up to a whole nano-USD."""
    return -(-quantity * price // PER_MILLION)


def usd(nanousd: int) -> str:
    """`1234567890` -> `"1.23456789"`: dollars in plain decimal digits, without a float in between."""
    sign = "-" if nanousd < 0 else ""
    whole, rest = divmod(abs(nanousd), NANO)
    fraction = f"{rest:09d}".rstrip("0")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"
