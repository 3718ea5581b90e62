"""Usage times rate card: what a call cost, and what it can cost at worst. Pure; safe for workers.

Every line is rounded up to a whole nano-USD, so a total exceeds the exact one by less than one nano-USD per line.
"""

from penstock.domain.money import PER_MILLION, CostLine, RateCard, line_cost_nanousd
from penstock.domain.usage import Usage

CACHE_WRITE = "cache_write"
"""The card's rate for a cache write whose lifetime (`cache_write:<lifetime>`) the card does not name."""

REQUESTS = "requests"
"""The meter of the line for the flat charge per call; its unit price, too, is per million."""

_OUTPUT_METERS = ("output", "audio_out")


def cost(card: RateCard | None, usage: Usage) -> tuple[int, tuple[CostLine, ...]]:
    """What `usage` costs on `card`: the total in nano-USD and its lines, in the order of `Usage.metered()`.

    A meter that the card does not price has no line; a meter priced at zero has one. An unknown price (None) costs
    nothing here: it is the caller's to refuse or to flag.
    """
    if card is None:
        return 0, ()
    rates = card.rates
    total_input = usage.total_input
    total = 0
    unnamed_writes = 0
    lines: list[CostLine] = []
    for meter, quantity in usage.metered():
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


def worst_cost(
    card: RateCard,
    input_tokens: int,
    output_tokens: int,
    *,
    images: int = 0,
    audio_in: bool = False,
    audio_out: bool = False,
) -> int:
    """Nano-USD that no call can exceed: `cost(card, u)[0] <= worst_cost(card, ...)` for every usage `u` with

    `u.total_input <= input_tokens`, `u.total_output <= output_tokens`, `u.images <= images` and `u.requests <= 1`,
    which has audio input only under `audio_in` and audio output only under `audio_out`. It never falls when an
    argument grows.

    All input is taken at the dearest input meter and all output at the dearest output meter, each in the dearest tier
    within reach. `images` are pieces that a vendor bills apiece; an image part that is billed in tokens belongs in
    `input_tokens`.
    """
    dearest_in = dearest_out = 0
    rounding_in = rounding_out = 0
    images_nanousd = 0
    for meter, rate in card.rates.items():
        if meter == "images":
            images_nanousd = line_cost_nanousd(images, rate.worst(input_tokens))
            continue
        if (meter == "audio_in" and not audio_in) or (meter == "audio_out" and not audio_out):
            continue
        price = rate.base
        rounds = price % PER_MILLION != 0
        for start, tier_price in rate.tiers:
            if input_tokens > start:
                price = max(price, tier_price)
                rounds = rounds or tier_price % PER_MILLION != 0
        if meter in _OUTPUT_METERS:
            dearest_out = max(dearest_out, price)
            rounding_out += rounds
        else:
            dearest_in = max(dearest_in, price)
            rounding_in += rounds
    return (
        _dearest_split(input_tokens, dearest_in, rounding_in)
        + _dearest_split(output_tokens, dearest_out, rounding_out)
        + images_nanousd
        + card.request_nanousd
    )


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
