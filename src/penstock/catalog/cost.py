"""Usage times rate card: what a call cost, and what it can cost at worst. Pure; safe for workers.

Every line is rounded up to a whole nano-USD, so a total exceeds the exact one by less than one nano-USD per line.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator

from msgspec import Struct

from penstock.domain.money import PER_MILLION, CostLine, Rate, RateCard, line_cost_nanousd
from penstock.domain.usage import PARTS, Usage

CACHE_WRITE = "cache_write"
"""The card's rate for a cache write whose lifetime (`cache_write:<lifetime>`) the card does not name."""

REQUESTS = "requests"
"""The meter of the line for the flat charge per call; its unit price, too, is per million."""

_OUTPUT_METERS = ("output", "audio_out", "image_out", "video_out")
_BY_THE_PIECE = ("images", "web_searches")
_KINDS = frozenset({"audio_in", "audio_out", "image_in", "video_in"})
"""Meters of kinds of tokens that a call may be unable to use."""


class Bounds(Struct, frozen=True):
    """The most that a call can use: tokens in and out of all classes together, and `images` that a vendor bills
    apiece (an image part that is billed in tokens belongs in `input_tokens`), and `web_searches`. `audio_in`,
    `audio_out`, `image_in`, `video_in`: whether any of the tokens can be of that kind."""

    input_tokens: int
    output_tokens: int
    images: int = 0
    audio_in: bool = False
    audio_out: bool = False
    image_in: bool = False
    video_in: bool = False
    web_searches: int = 0


def cost(card: RateCard | None, usage: Usage, tier: str = "") -> tuple[int, tuple[CostLine, ...]]:
    """What `usage` costs on `card`: the total in nano-USD and its lines, in the order of `Usage.metered()`.

    `tier` is the service tier that the vendor says it served ("priority", "flex", "fast", "batch"; see
    `RateCard.variants`); one that the card has no variant for, such as "default", "standard" or "", is billed at the
    standard rates.

    A meter that the card does not price has no line, and a part of a class (`PARTS`) is then billed with the rest of
    it; a meter priced at zero has one. An unknown price (None) costs nothing here: it is the caller's to refuse or to
    flag.
    """
    if card is None:
        return 0, ()
    rates = card.variants.get(tier, card.rates) if tier else card.rates
    total_input = usage.total_input
    total = 0
    unnamed_writes = 0
    lines: list[CostLine] = []
    for meter, quantity in usage.metered() if PARTS.keys().isdisjoint(rates) else _apart(usage, rates):
        rate = rates.get(meter)
        if rate is None:
            if meter.startswith(CACHE_WRITE):
                unnamed_writes += quantity
            continue
        line = _line(meter, quantity, rate.at(total_input))
        total += line.cost_nanousd
        lines.append(line)
    if unnamed_writes and (rate := rates.get(CACHE_WRITE)) is not None:
        line = _line(CACHE_WRITE, unnamed_writes, rate.at(total_input))
        total += line.cost_nanousd
        lines.append(line)
    if card.request_nanousd and usage.requests:
        line = _line(REQUESTS, usage.requests, card.request_nanousd * PER_MILLION)
        total += line.cost_nanousd
        lines.append(line)
    return total, tuple(lines)


def _apart(usage: Usage, rates: dict[str, Rate]) -> Iterator[tuple[str, int]]:
    """`usage.metered()`, with the parts that have a rate of their own before the rest of what they are a part of."""
    for meter, quantity in usage.metered():
        rest = quantity
        for part, whole in PARTS.items():
            if whole == meter and part in rates and (count := min(getattr(usage, part), rest)):
                rest -= count
                yield part, count
        if rest:
            yield meter, rest


def worst_cost(card: RateCard, bounds: Bounds, tiers: Collection[str] | None = ()) -> int:
    """Nano-USD that no call can exceed: `cost(card, u, tier)[0] <= worst_cost(card, bounds, tiers)` for every usage
    `u` within `bounds` of at most one request, whether `tier` is standard or one of `tiers`.

    `tiers`: the service tiers that the vendor may serve, in the spelling of `RateCard.variants`; None: any at all.
    Standard is always included, because vendors fall back to it; a tier that the card has no variant for counts as
    standard. A caller can be billed a tier only when its request, or the vendor account's own setting, asks for it.

    All input is taken at the dearest input meter and all output at the dearest output meter, each in the dearest
    price step within reach. It never falls when a bound or `tiers` grows.
    """
    worst = _worst_at(card, "", bounds)
    variants = card.variants
    if variants and (tiers or tiers is None):
        for tier in variants if tiers is None else tiers:
            if tier in variants:
                worst = max(worst, _worst_at(card, tier, bounds))
    return worst + card.request_nanousd


class _Slope(Struct, frozen=True):
    """The dearest prices within reach, in nano-USD per million, and how many meters have one that is not a whole
    nano-USD apiece."""

    input: int
    input_rounds: int
    output: int
    output_rounds: int
    image: int
    web_search: int


def _worst_at(card: RateCard, tier: str, bounds: Bounds) -> int:
    step = bisect_left(card.steps, bounds.input_tokens)
    key = tier, step, bounds.audio_in, bounds.audio_out, bounds.image_in, bounds.video_in
    slope = card.slopes.get(key)
    if slope is None:
        slope = card.slopes[key] = _slope(card.variants[tier] if tier else card.rates, bounds)
    worst = _dearest_split(bounds.input_tokens, slope.input, slope.input_rounds)
    worst += _dearest_split(bounds.output_tokens, slope.output, slope.output_rounds)
    if bounds.images or bounds.web_searches:
        worst += line_cost_nanousd(bounds.images, slope.image)
        worst += line_cost_nanousd(bounds.web_searches, slope.web_search)
    return worst


def _slope(rates: dict[str, Rate], bounds: Bounds) -> _Slope:
    """The same for all bounds that reach the same steps of prices."""
    within = bounds.input_tokens
    others = {*_BY_THE_PIECE, *(kind for kind in _KINDS if not getattr(bounds, kind))}
    by_token = {meter: rate for meter, rate in rates.items() if meter not in others}
    into = [rate for meter, rate in by_token.items() if meter not in _OUTPUT_METERS]
    out = [rate for meter, rate in by_token.items() if meter in _OUTPUT_METERS]
    image, web_search = (rates[meter].worst(within) if meter in rates else 0 for meter in _BY_THE_PIECE)
    return _Slope(
        max([rate.worst(within) for rate in into], default=0),
        sum(_rounds(rate, within) for rate in into),
        max([rate.worst(within) for rate in out], default=0),
        sum(_rounds(rate, within) for rate in out),
        image,
        web_search,
    )


def _rounds(rate: Rate, within: int) -> bool:
    """Whether a line at one of the prices within reach can be rounded up."""
    prices = (rate.base, *(price for start, price in rate.tiers if within > start))
    return any(price % PER_MILLION for price in prices)


def _line(meter: str, quantity: int, price: int) -> CostLine:
    return CostLine(meter, quantity, price, line_cost_nanousd(quantity, price))


def _dearest_split(tokens: int, price: int, rounding_meters: int) -> int:
    """The most that `tokens` can cost when spread over meters at no more than `price` each.

    `rounding_meters`: how many of them have a price that is not a whole nano-USD per token, so that their line can
    round up, by less than one nano-USD. `line_cost_nanousd` covers the first such line; each further one can add one
    more. There are no more lines than tokens.
    """
    exact_or_one = line_cost_nanousd(tokens, price)
    if rounding_meters > 1 and tokens > 1:
        return exact_or_one + min(rounding_meters, tokens) - 1
    return exact_or_one
