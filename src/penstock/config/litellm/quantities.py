"""LiteLLM's numbers in Penstock's words: durations, prices per token, budgets."""

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

_DURATION = re.compile(r"([0-9]{1,6})(mo|[smhdwy])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "mo": 31 * 86_400, "y": 366 * 86_400}
_WINDOWS = (
    ("second", 1),
    ("minute", 60),
    ("hour", 3600),
    ("day", 86_400),
    ("week", 7 * 86_400),
    ("month", 31 * 86_400),
    ("year", 366 * 86_400),
)
MILLION = 1_000_000
DECIMALS = Decimal("0.000000001")

PRICES = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "input_cost_per_audio_token": "audio_in",
    "output_cost_per_audio_token": "audio_out",
}
"""LiteLLM's price per token -> the meter of a `price` here."""


def number(value: Any) -> Decimal | None:
    """A number however it is written; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        exact = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return exact if exact.is_finite() and abs(exact.adjusted()) < 20 else None


def whole(value: Any) -> int | None:
    """A whole number above 0; None for anything else."""
    exact = number(value)
    return int(exact) if exact is not None and exact > 0 and exact == exact.to_integral_value() else None


def dollars(value: Any) -> Decimal | None:
    """An amount above 0 that can be written here, with at most nine decimals; None for anything else."""
    exact = number(value)
    if exact is None or exact <= 0 or exact > 9_000_000_000:
        return None
    kept = exact.quantize(DECIMALS)
    return _short(kept) if kept == exact else None


def window(duration: Any) -> tuple[str, bool] | None:
    """The window of a `budget_duration`, and whether it is that very length. One that has no window of its length gets
    the next longer one, which with the same amount allows no more. None: it is no duration."""
    if duration is None:
        return "total", True
    match = _DURATION.fullmatch(str(duration).strip())
    if match is None or int(match[1]) == 0:
        return None
    seconds = int(match[1]) * _SECONDS[match[2]]
    for name, length in _WINDOWS:
        if seconds <= length:
            return name, seconds == length
    return "total", False


def timeout(value: Any) -> str | None:
    """Seconds as a duration here; None for what is not one between a millisecond and a day."""
    exact = number(value)
    if exact is None or not Decimal("0.001") <= exact <= 86_400:
        return None
    return f"{int(exact)}s" if exact == exact.to_integral_value() else f"{int(exact * 1000)}ms"


def price(fields: Mapping[str, Any]) -> tuple[dict[str, Decimal], list[str]]:
    """The prices among `fields`, in USD per million, and the names of those that cannot be written here."""
    found, lost = {}, []
    for name, meter in PRICES.items():
        if fields.get(name) is None:
            continue
        exact = number(fields[name])
        per_million = None if exact is None else (exact * MILLION).quantize(DECIMALS)
        if exact is None or per_million is None or per_million < 0 or per_million != exact * MILLION:
            lost.append(name)
        else:
            found[meter] = _short(per_million)
    return found, lost


def _short(amount: Decimal) -> Decimal:
    """Without the zeros at the end."""
    return amount.quantize(Decimal(1)) if amount == amount.to_integral_value() else amount.normalize()
