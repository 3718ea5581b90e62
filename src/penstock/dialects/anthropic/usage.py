"""What an Anthropic model says it used -> disjoint classes, and back.

Source: Anthropic API reference, `Usage` and `MessageDeltaUsage`; "Prompt caching" (writes by lifetime), "Compaction"
(the members at the top leave out what compaction used, which stands in `iterations`).

`input_tokens` excludes what was read from and written to the cache. Counts are cumulative: a member that comes again
replaces the earlier one, and one that is null, absent, or zero, where it was more, leaves it as it was.
"""

from typing import Any

from msgspec import structs

from penstock.dialects.base import as_whole, believed
from penstock.dialects.tiers import TOLD_BY_ANTHROPIC, in_others_words
from penstock.domain.usage import Usage

_ADDED = frozenset({"compaction", "advisor_message"})
"""Iterations that the members at the top do not include. An advisor is another model at another price: its tokens are
counted here, at the price of the model that was asked for."""

_LIFETIMES = {"ephemeral_5m_input_tokens": "5m", "ephemeral_1h_input_tokens": "1h"}
DEFAULT_LIFETIME = "5m"


def merge(known: dict[str, Any], told: Any) -> dict[str, Any]:
    """The report so far with a later one over it."""
    if not isinstance(told, dict):
        return known
    newer = {name: value for name, value in told.items() if value is not None and (value != 0 or not known.get(name))}
    return {**known, **newer}


def normalise(reported: dict[str, Any]) -> Usage | None:
    """The report in disjoint classes; None when it cannot be true."""
    usage = _count(reported)
    iterations = reported.get("iterations")
    if usage is None or not isinstance(iterations, list):
        return usage
    for iteration in iterations:
        if isinstance(iteration, dict) and str(iteration.get("type")) in _ADDED:
            more = _count(iteration)
            if more is None:
                return None
            usage = usage.plus(more)
    return structs.replace(usage, requests=1)


def _count(counts: dict[str, Any]) -> Usage | None:
    written, read = as_whole(counts.get("cache_creation_input_tokens")), as_whole(counts.get("cache_read_input_tokens"))
    into, out = as_whole(counts.get("input_tokens")), as_whole(counts.get("output_tokens"))
    details = counts.get("output_tokens_details")
    thought = as_whole(details.get("thinking_tokens")) if isinstance(details, dict) else None
    ran = counts.get("server_tool_use")
    searches = as_whole(ran.get("web_search_requests")) if isinstance(ran, dict) else None
    by_lifetime = _written(counts.get("cache_creation"))
    if by_lifetime is None or (into is None and out is None):
        return None
    if not believed(into, out, written, read, thought, searches):
        return None
    rest = (written or 0) - sum(by_lifetime.values())
    if rest > 0:  # told in the total alone: as long-lived, and so as dear, as any that is told apart
        lifetime = "1h" if "1h" in by_lifetime else DEFAULT_LIFETIME
        by_lifetime[lifetime] = by_lifetime.get(lifetime, 0) + rest
    output = out or 0
    thinking = min(thought or 0, output)
    return Usage(into or 0, output, read or 0, by_lifetime, thinking, web_searches=searches or 0)


def _written(creation: Any) -> dict[str, int] | None:
    """Cache writes by lifetime; None when they cannot be true. A lifetime that is not known yet keeps its name."""
    if not isinstance(creation, dict):
        return {}
    written: dict[str, int] = {}
    for name, told in creation.items():
        count = as_whole(told)
        if name not in _LIFETIMES and not isinstance(count, int | float):
            continue  # something else that is told of them
        if not believed(count):
            return None
        if count:
            lifetime = _LIFETIMES.get(name) or name.removeprefix("ephemeral_").removesuffix("_input_tokens")
            written[lifetime] = count
    return written


def report(usage: Usage, service_tier: str = "") -> dict[str, Any]:
    """A conversation's usage and tier as the API tells them. Audio, which has no class there, is told as text."""
    written = usage.cache_write
    told: dict[str, Any] = {
        "input_tokens": usage.input + usage.audio_in,
        "cache_creation_input_tokens": sum(written.values()),
        "cache_read_input_tokens": usage.cache_read,
    }
    if written:
        told["cache_creation"] = {
            "ephemeral_5m_input_tokens": sum(count for lifetime, count in written.items() if lifetime != "1h"),
            "ephemeral_1h_input_tokens": written.get("1h", 0),
        }
    told["output_tokens"] = usage.output + usage.audio_out
    if usage.reasoning:
        told["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    if usage.web_searches:
        told["server_tool_use"] = {"web_search_requests": usage.web_searches}
    if service_tier in TOLD_BY_ANTHROPIC:
        told["service_tier"] = in_others_words(service_tier)
    elif service_tier == "fast":
        told["speed"] = service_tier
    return told


def served_tier(reported: dict[str, Any]) -> str:
    """The tier that decides the price: the speed, where it is not the usual one, else the service tier."""
    tier = reported.get("speed") if reported.get("speed") not in (None, "standard") else reported.get("service_tier")
    return tier if isinstance(tier, str) else ""
