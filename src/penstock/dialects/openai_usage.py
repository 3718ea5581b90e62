"""OpenAI's usage objects, read into disjoint classes and written from them.

Source: OpenAI API reference, "The chat completion object"; usage members of other vendors that speak the dialect are
named where they are read.
"""

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from penstock.dialects.base import as_whole, believed, first_count
from penstock.domain.usage import Usage

_T = TypeVar("_T")


class Details(Struct):
    cached_tokens: Any = None
    cache_write_tokens: Any = None
    audio_tokens: Any = None
    reasoning_tokens: Any = None
    cache_creation_input_tokens: Any = None  # Alibaba
    cache_creation_tokens: Any = None  # LiteLLM
    cache_creation: Any = None  # Alibaba: by lifetime
    image_tokens: Any = None  # OpenRouter, xAI, Alibaba
    video_tokens: Any = None  # OpenRouter, Alibaba


class ChatUsage(Struct):
    prompt_tokens: Any = None
    completion_tokens: Any = None
    total_tokens: Any = None
    prompt_tokens_details: Any = None
    completion_tokens_details: Any = None
    prompt_cache_hit_tokens: Any = None  # DeepSeek
    num_cached_tokens: Any = None  # Mistral
    cached_tokens: Any = None  # Together, Moonshot
    reasoning_tokens: Any = None  # SGLang, Perplexity
    citation_tokens: Any = None  # Perplexity
    num_search_queries: Any = None  # Perplexity
    server_tool_use_details: Any = None  # OpenRouter
    prompt_audio_seconds: Any = None  # Mistral, `{}` where there was no sound
    cache_read_input_tokens: Any = None  # Snowflake, Databricks, LiteLLM
    cache_creation_input_tokens: Any = None  # Databricks, LiteLLM
    cache_write_input_tokens: Any = None  # Snowflake


def details(told: Any, kind: type[_T]) -> _T:
    """Details, where they are an object. Of servers that write an empty list for an empty one, or a text, there are
    none; what they report besides is believed all the same."""
    if isinstance(told, kind):
        return told
    counts = told.items() if isinstance(told, dict) else ()
    return msgspec.convert({name: as_whole(count) for name, count in counts}, kind)


def tells_half(reported: ChatUsage) -> bool:
    """Whether nothing is told of what came out, neither by itself nor within the total."""
    return reported.completion_tokens is None and reported.total_tokens is None


def normalise(reported: ChatUsage) -> Usage | None:
    """The vendor's counts in disjoint classes; None when they cannot be true.

    `prompt_tokens` includes cached and audio tokens, and those of pictures and films. `completion_tokens` includes
    reasoning at OpenAI and most others; not at xAI and Google, where the total shows the rest, nor at gateways that
    report more reasoning than completion. Perplexity's research is billed beside both and is in no total:
    `citation_tokens`, which it read, and the `reasoning_tokens` that it thought over them. Mistral counts a sound in
    the total alone, Snowflake what it read from a cache or wrote there; Databricks counts those in `prompt_tokens`,
    under the same names.
    """
    into = details(reported.prompt_tokens_details, Details)
    out = details(reported.completion_tokens_details, Details)
    told = (reported.prompt_tokens, reported.completion_tokens, reported.total_tokens)
    prompt, completion, total = map(as_whole, told)
    citations, thought = as_whole(reported.citation_tokens), as_whole(reported.reasoning_tokens)
    cached = first_count(
        *(into.cached_tokens, reported.prompt_cache_hit_tokens, reported.num_cached_tokens, reported.cached_tokens),
        reported.cache_read_input_tokens,
    )
    written, searches = _written(into, reported), _searches(reported)
    counts = (
        *(prompt, completion, total, cached, citations, thought),
        *(into.audio_tokens, out.audio_tokens, out.reasoning_tokens, *written.values(), searches),
        *(into.image_tokens, into.video_tokens, out.image_tokens, out.video_tokens),
    )
    if not believed(*counts) or (prompt is None and total is None):
        return None
    prompt = prompt if prompt is not None else total - (completion or 0)
    if prompt < 0:
        return None
    completion, reasoning = completion or 0, out.reasoning_tokens or thought or 0
    hidden, heard = max((total or 0) - prompt - completion, 0), into.audio_tokens or 0
    if hidden and isinstance(reported.prompt_audio_seconds, int | float):
        prompt, heard, hidden = prompt + hidden, hidden, 0
    beside = _beside(reported)
    if beside > prompt or 0 < beside <= hidden:
        prompt, hidden = prompt + beside, max(hidden - beside, 0)
    output = completion + hidden
    if reasoning > output or citations is not None:
        output = completion + reasoning
    prompt += citations or 0
    cached = min(cached, prompt)
    left = prompt - cached
    for lifetime in written:
        written[lifetime] = min(written[lifetime], left)
        left -= written[lifetime]
    audio_in = min(heard, left)
    audio_out = min(out.audio_tokens or 0, output)
    read, said = left - audio_in, output - audio_out
    image_in, image_out = min(into.image_tokens or 0, read), min(out.image_tokens or 0, said)
    return Usage(
        input=read,
        output=said,
        cache_read=cached,
        cache_write={lifetime: count for lifetime, count in written.items() if count},
        reasoning=reasoning,
        audio_in=audio_in,
        audio_out=audio_out,
        web_searches=searches,
        image_in=image_in,
        image_out=image_out,
        video_in=min(into.video_tokens or 0, read - image_in),
        video_out=min(out.video_tokens or 0, said - image_out),
    )


def _searches(reported: ChatUsage) -> Any:
    """How often the vendor searched the web, as it was reported."""
    tools = reported.server_tool_use_details
    searches = tools.get("web_search_requests") if isinstance(tools, dict) else None
    return as_whole(reported.num_search_queries or searches or 0)


def _beside(reported: ChatUsage) -> int:
    """What was read from a cache and written to it, where that is told beside the prompt rather than in its details."""
    written = first_count(reported.cache_creation_input_tokens, reported.cache_write_input_tokens)
    return first_count(reported.cache_read_input_tokens) + written


def _written(into: Details, reported: ChatUsage) -> dict[str, Any]:
    """What was written to the cache, by lifetime, as it was reported."""
    by_lifetime = into.cache_creation if isinstance(into.cache_creation, dict) else {}
    if long := by_lifetime.get("ephemeral_1h_input_tokens"):
        return {"5m": by_lifetime.get("ephemeral_5m_input_tokens") or 0, "1h": long}
    every = (into.cache_write_tokens, into.cache_creation_input_tokens, into.cache_creation_tokens)
    beside = (reported.cache_creation_input_tokens, reported.cache_write_input_tokens)
    return {"5m": next((count for count in (*every, *beside) if count), 0)}


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
