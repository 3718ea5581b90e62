"""How a denial reads, and which error it is.

    usd                                    limit_held where settled spend alone would have admitted the call,
                                           else insufficient_quota
    tokens, input_tokens, output_tokens    limit_held likewise, else rate_limit_exceeded until the window's end
    requests                               rate_limit_exceeded until the window's end
    concurrent                             limit_held

`retry_after_s` is None where waiting cannot help: the call alone is over the limit's amount, the window never turns, or
the money is spent.
"""

from time import gmtime, strftime

from penstock.domain.money import usd
from penstock.domain.policy import Denial, Limit
from penstock.errors import GatewayError, InsufficientQuota, LimitHeld, RateLimitExceeded
from penstock.ledger.windows import window

_NOUNS = {"tokens": "tokens", "input_tokens": "input tokens", "output_tokens": "output tokens"}
_MAX_VALUE_SHOWN = 64


def refusal(denial: Denial) -> GatewayError:
    """The error that answers the caller; its `denial` tells the pipeline whose limit it was."""
    error: GatewayError
    message = f"{_named(denial)}: {_asked(denial)}, {_left(denial)}."
    if denial.limit.unit == "concurrent" or denial.held_by_others:
        error = LimitHeld(message, retry_after_s=denial.retry_after_s)
    elif denial.limit.unit == "usd":
        error = InsufficientQuota(message)
    else:
        error = RateLimitExceeded(message, retry_after_s=denial.retry_after_s)
    error.denial = denial
    return error


def _named(denial: Denial) -> str:
    """`limit growth-monthly (usd per month, team=growth, customer acme)`."""
    limit = denial.limit
    counts = limit.unit if limit.unit == "concurrent" else f"{limit.unit} {_per(limit)}"
    parts = [counts, *(f"{dimension}={value}" for dimension, value in limit.match)]
    if limit.each is not None:
        parts.append(f"{limit.each} {denial.value[:_MAX_VALUE_SHOWN]}")
    return f"limit {limit.name} ({', '.join(parts)})"


def _per(limit: Limit) -> str:
    if limit.per == "total":
        return "in total"
    if limit.window == "sliding":
        return f"per {limit.per}, sliding"
    return f"per {limit.per}" if limit.timezone == "UTC" else f"per {limit.per} in {limit.timezone}"


def _asked(denial: Denial) -> str:
    match denial.limit.unit:
        case "usd":
            return f"this call may cost up to ${usd(denial.asked)}"
        case "requests":
            return "this is one more request"
        case "concurrent":
            return "this is one more call at a time"
        case unit:
            return f"this call may use up to {denial.asked} {_NOUNS[unit]}"


def _left(denial: Denial) -> str:
    """What is left, until when, and whether waiting helps."""
    limit = denial.limit
    if denial.asked > limit.amount:
        return f"which is over the whole limit of {_amount(limit, limit.amount)}; waiting cannot help"
    left = f"{_amount(limit, denial.left)} {'is' if limit.unit == 'usd' else 'are'} left"
    if limit.unit == "concurrent":
        return f"{left} of {limit.amount}; retry when one of them has ended"
    if denial.held_by_others:
        return f"{left} while other calls hold the rest; retry in {denial.retry_after_s:.0f} s"
    if limit.window == "sliding":
        return f"{left} in the last {limit.per}" + (
            "" if denial.retry_after_s is None else f"; enough of it is free again in {denial.retry_after_s:.0f} s"
        )
    end = window(limit.per, denial.window_start, limit.timezone)[1]
    if end is None:
        return f"{left}, for good"
    return f"{left} until {strftime('%Y-%m-%dT%H:%M:%SZ', gmtime(end))}"


def _amount(limit: Limit, amount: int) -> str:
    return f"${usd(amount)}" if limit.unit == "usd" else str(amount)
