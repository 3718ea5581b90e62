"""OpenAI's usage objects, read into disjoint classes and written from them.

Source: OpenAI API reference, "The chat completion object"; usage members of other vendors that speak the dialect are
named where they are read.
"""

from typing import Any

from msgspec import Struct

from penstock.dialects.base import believed, first_count
from penstock.domain.usage import Usage


class Details(Struct):
    cached_tokens: Any = None
    cache_write_tokens: Any = None
    audio_tokens: Any = None
    reasoning_tokens: Any = None


class ChatUsage(Struct):
    prompt_tokens: Any = None
    completion_tokens: Any = None
    total_tokens: Any = None
    prompt_tokens_details: Details | None = None
    completion_tokens_details: Details | None = None
    prompt_cache_hit_tokens: Any = None  # DeepSeek
    num_cached_tokens: Any = None  # Mistral
    cached_tokens: Any = None  # Together, Moonshot


def normalise(reported: ChatUsage) -> Usage | None:
    """The vendor's counts in disjoint classes; None when they cannot be true.

    `prompt_tokens` includes cached and audio tokens. `completion_tokens` includes reasoning at OpenAI and most others;
    not at xAI and Google, where the total shows the rest, nor at gateways that report more reasoning than completion.
    """
    into = reported.prompt_tokens_details or Details()
    out = reported.completion_tokens_details or Details()
    prompt, completion, total = reported.prompt_tokens, reported.completion_tokens, reported.total_tokens
    reasoning = out.reasoning_tokens
    cached = first_count(
        into.cached_tokens, reported.prompt_cache_hit_tokens, reported.num_cached_tokens, reported.cached_tokens
    )
    counts = (
        prompt,
        completion,
        total,
        reasoning,
        cached,
        into.audio_tokens,
        out.audio_tokens,
        into.cache_write_tokens,
    )
    if not believed(*counts) or (prompt is None and total is None):
        return None
    prompt = prompt if prompt is not None else total - (completion or 0)
    if prompt < 0:
        return None
    completion, reasoning = completion or 0, reasoning or 0
    cached = min(cached, prompt)
    written = min(into.cache_write_tokens or 0, prompt - cached)
    audio_in = min(into.audio_tokens or 0, prompt - cached - written)
    hidden = (total or 0) - prompt - completion
    output = completion + max(hidden, 0)
    if reasoning > output:
        output = completion + reasoning
    audio_out = min(out.audio_tokens or 0, output)
    return Usage(
        input=prompt - cached - written - audio_in,
        output=output - audio_out,
        cache_read=cached,
        cache_write={"5m": written} if written else {},
        reasoning=reasoning,
        audio_in=audio_in,
        audio_out=audio_out,
    )


def chat_usage(usage: Usage) -> dict[str, Any]:
    """The usage object of a chat completion."""
    prompt, completion = usage.total_input, usage.total_output
    into = {"cached_tokens": usage.cache_read, "audio_tokens": usage.audio_in}
    if written := sum(usage.cache_write.values()):
        into["cache_write_tokens"] = written
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": into,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": usage.audio_out,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
