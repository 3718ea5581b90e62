"""What Bedrock says was used -> disjoint classes, and back.

Source: Amazon Bedrock API reference, `TokenUsage` and `CacheDetail`. `inputTokens` leaves out what was read from and
written to the cache, and `totalTokens` has all of it; of models whose total has no room for the cache beside the input,
the cache is a part of the input. Streams of OpenAI's models are said to count the cache in the input as well as beside
it, and in the total twice (maximhq/bifrost pull request 6942, 2026-09): such a report is not to be told from one that
is right, so it is charged as it is, which is never too little. By one account it is not too much either: the invoice
charges those tokens twice, too (anomalyco/opencode issue 47296, 2026-09).
"""

from typing import Any

from penstock.dialects.base import as_whole, believed
from penstock.domain.usage import Usage

DEFAULT_LIFETIME = "5m"
_COUNTS = ("inputTokens", "outputTokens", "totalTokens", "cacheReadInputTokens", "cacheWriteInputTokens")


def normalise(told: Any) -> Usage | None:
    """The report in disjoint classes; None when it cannot be true."""
    if not isinstance(told, dict):
        return None
    into, out, total, read, written = [as_whole(told.get(name)) for name in _COUNTS]
    by_lifetime = _written(told.get("cacheDetails"))
    if by_lifetime is None or not believed(into, out, total, read, written) or into is None:
        return None
    read, out = read or 0, out or 0
    rest = (written or 0) - sum(by_lifetime.values())
    if rest > 0:
        lifetime = "1h" if "1h" in by_lifetime else DEFAULT_LIFETIME
        by_lifetime[lifetime] = by_lifetime.get(lifetime, 0) + rest
    cached = read + sum(by_lifetime.values())
    if cached and total == into + out and into >= cached:
        into -= cached
    return Usage(into, out, read, by_lifetime)


def _written(details: Any) -> dict[str, int] | None:
    """Cache writes by lifetime; None when they cannot be true."""
    written: dict[str, int] = {}
    for detail in details if isinstance(details, list) else ():
        if not isinstance(detail, dict):
            return None
        count, lifetime = as_whole(detail.get("inputTokens")), detail.get("ttl")
        if not believed(count) or not isinstance(lifetime, str):
            return None
        if count:
            written[lifetime] = written.get(lifetime, 0) + count
    return written


def report(usage: Usage) -> dict[str, Any]:
    """The usage as the API tells it."""
    into, out = usage.input + usage.audio_in, usage.output + usage.audio_out
    told: dict[str, Any] = {"inputTokens": into, "outputTokens": out, "totalTokens": usage.total_input + out}
    if usage.cache_read or usage.cache_write:
        told["cacheReadInputTokens"] = usage.cache_read
        told["cacheWriteInputTokens"] = sum(usage.cache_write.values())
    if usage.cache_write:
        details = usage.cache_write.items()
        told["cacheDetails"] = [{"ttl": lifetime, "inputTokens": count} for lifetime, count in details]
    return told
