"""Cohere's report of usage, in both directions.

Source: Cohere API reference, "Chat V2" (`usage`); guide "Understand tokens": billed units are what is owed, and are
fewer than the tokens that went through the model.
"""

from typing import Any

import msgspec
from msgspec import Struct

from penstock.dialects.base import as_whole, believed
from penstock.domain.usage import Usage


class Units(Struct):
    input_tokens: Any = None
    output_tokens: Any = None
    reasoning_tokens: Any = None
    search_units: Any = None


class Reported(Struct):
    """Each `Units`, where it is an object."""

    billed_units: Any = None
    tokens: Any = None


def reported_of(told: Any) -> Reported | None:
    """A report as it came; one that is no object tells nothing."""
    return None if told is None else msgspec.convert(told if isinstance(told, dict) else {}, Reported)


def units_of(told: Any) -> Units:
    return msgspec.convert(told if isinstance(told, dict) else {}, Units)


def normalise(reported: Reported) -> Usage | None:
    """What is billed, or where that is not told, what went through the model; None when it cannot be true. The counts
    of billed units are whole numbers, which may be written with a fraction of zero."""
    units, tokens = units_of(reported.billed_units), units_of(reported.tokens)
    into = tokens.input_tokens if units.input_tokens is None else units.input_tokens
    out = tokens.output_tokens if units.output_tokens is None else units.output_tokens
    counts = [as_whole(count) for count in (into, out, tokens.reasoning_tokens)]
    if not believed(*counts) or counts[0] is None:
        return None
    input_, output, reasoning = (count or 0 for count in counts)
    return Usage(input=input_, output=output, reasoning=min(reasoning, output))


def tells_half(reported: Reported) -> bool:
    """Whether nothing is told of what came out."""
    return all(units_of(told).output_tokens is None for told in (reported.billed_units, reported.tokens))


def report(usage: Usage) -> dict[str, Any]:
    """Usage as a caller of the dialect is told it. Another vendor bills what went through its model."""
    billed = {"input_tokens": usage.total_input, "output_tokens": usage.total_output}
    reasoning = {"reasoning_tokens": usage.reasoning} if usage.reasoning else {}
    return {"billed_units": billed, "tokens": {**billed, **reasoning}, "cached_tokens": usage.cache_read}
