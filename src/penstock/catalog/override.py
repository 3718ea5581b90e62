"""The operator's own price -> a rate card, exactly: no rounding and nothing free by omission."""

from decimal import Context, Decimal, Inexact, InvalidOperation
from hashlib import sha256

from penstock.catalog.cost import CACHE_WRITE
from penstock.domain.money import MAX_NANOUSD, NANO, PER_MILLION, PriceOverride, Rate, RateCard
from penstock.errors import ConfigError

_PRECISION = 60
"""Digits: more than any price below the bound of `_nanousd` can need, so that nothing is rounded unnoticed."""

MOST_FOR_A_SEARCH_USD = 1_000


def override_card(override: PriceOverride) -> RateCard:
    """The card of `override`; its version is `override:` and eight hex digits that change with the price.

    Raises `ConfigError`, its place the name of the field, for a price that is negative, not a number, too large, or
    not a whole number of nano-USD (per million tokens, per call for `request`, per search for `web_search`).
    """
    input_rate = Rate(_nanousd("input", override.input))
    output_rate = Rate(_nanousd("output", override.output))
    cache_write = _rate("cache_write", override.cache_write, input_rate)
    rates = {
        "input": input_rate,
        "cache_read": _rate("cache_read", override.cache_read, input_rate),
        CACHE_WRITE: cache_write,
        "cache_write:5m": cache_write,
        "cache_write:1h": _rate("cache_write_1h", override.cache_write_1h, cache_write),
        "audio_in": _rate("audio_in", override.audio_in, input_rate),
        "output": output_rate,
        "audio_out": _rate("audio_out", override.audio_out, output_rate),
    }
    if override.web_search is not None:
        rates["web_searches"] = Rate(_a_search(override.web_search) * PER_MILLION)
    request_nanousd = 0 if override.request is None else _nanousd("request", override.request)
    prices = [(meter, rate.base) for meter, rate in sorted(rates.items())]
    digest = sha256(repr((prices, request_nanousd)).encode()).hexdigest()[:8]
    return RateCard(rates, f"override:{digest}", request_nanousd, is_own=True)


def _rate(field: str, usd: Decimal | None, fallback: Rate) -> Rate:
    return fallback if usd is None else Rate(_nanousd(field, usd))


def _a_search(usd: Decimal) -> int:
    nanousd = _nanousd("web_search", usd)
    if usd > MOST_FOR_A_SEARCH_USD:  # as a rate, per million, a dearer one would not fit a column
        raise ConfigError(f"a price must be at most {MOST_FOR_A_SEARCH_USD} dollars per search", "web_search")
    return nanousd


def _nanousd(field: str, usd: Decimal) -> int:
    if not usd.is_finite() or usd < 0:
        raise ConfigError(f"a price must be a number of dollars from 0 up, not {usd}", field)
    if usd > MAX_NANOUSD // NANO:
        raise ConfigError(f"a price must be at most {MAX_NANOUSD // NANO} dollars", field)
    exact = Context(prec=_PRECISION, traps=[Inexact, InvalidOperation])
    try:
        return int(exact.to_integral_exact(exact.multiply(usd, Decimal(NANO))))
    except (Inexact, InvalidOperation):
        raise ConfigError("a price must be a whole number of nano-dollars (at most 9 decimals)", field) from None
