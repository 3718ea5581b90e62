"""The usage object of a response, read into disjoint classes and written from them.

Source: OpenAI API reference, "The response object"; guides "Web search" (only the action `search` is charged) and
"Image generation"; xAI, "Tools pricing". It counts as a chat completion's does, under other names. What a tool's own
model used is reported beside it, in `tool_usage` (Wei-Shaw/sub2api issue 4644).
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from penstock.dialects import openai_usage
from penstock.dialects.base import believed, first_count
from penstock.dialects.openai_usage import ChatUsage
from penstock.domain.usage import Usage


class _InputDetails(Struct):
    cached_tokens: Any = None
    cache_write_tokens: Any = None
    audio_tokens: Any = None
    cache_read_input_tokens: Any = None  # Perplexity, which may say `cached_tokens` as well
    cache_creation_input_tokens: Any = None  # Perplexity


class _OutputDetails(Struct):
    reasoning_tokens: Any = None
    audio_tokens: Any = None


class ResponseUsage(Struct):
    input_tokens: Any = None
    output_tokens: Any = None
    total_tokens: Any = None
    input_tokens_details: Any = None
    output_tokens_details: Any = None
    tool_calls_details: Any = None  # Perplexity
    server_side_tool_usage_details: Any = None  # xAI


def tells_half(reported: ResponseUsage) -> bool:
    """Whether nothing is told of what came out, neither by itself nor within the total."""
    return reported.output_tokens is None and reported.total_tokens is None


def normalise(reported: ResponseUsage) -> Usage | None:
    """The vendor's counts in disjoint classes; None when they cannot be true."""
    into = openai_usage.details(reported.input_tokens_details, _InputDetails)
    out = openai_usage.details(reported.output_tokens_details, _OutputDetails)
    return openai_usage.normalise(
        ChatUsage(
            reported.input_tokens,
            reported.output_tokens,
            reported.total_tokens,
            openai_usage.Details(
                first_count(into.cached_tokens, into.cache_read_input_tokens),
                into.cache_write_tokens,
                into.audio_tokens,
                cache_creation_input_tokens=into.cache_creation_input_tokens,
            ),
            openai_usage.Details(audio_tokens=out.audio_tokens, reasoning_tokens=out.reasoning_tokens),
            num_search_queries=_searches(reported),
        )
    )


def tells_searches(reported: ResponseUsage) -> bool:
    """Whether the vendor says how often it searched, so that its items need not be counted."""
    return isinstance(reported.server_side_tool_usage_details, dict)


def _searches(reported: ResponseUsage) -> Any:
    """How often the vendor searched: xAI the web and X, which have one price; Perplexity the web, with its tool
    `web_search`, which is told as `search_web`."""
    if isinstance(ran := reported.server_side_tool_usage_details, dict):
        counts = [ran.get(name) or 0 for name in ("web_search_calls", "x_search_calls")]
        return sum(counts) if believed(*counts) else None
    calls = reported.tool_calls_details
    told = [calls.get(name) for name in ("search_web", "web_search")] if isinstance(calls, dict) else []
    return next((one["invocation"] for one in told if isinstance(one, dict) and one.get("invocation")), None)


_CHARGED_APART = ("image_generation_call", "file_search_call", "code_interpreter_call")
"""Items of tools that the vendor charges by the picture, the search or the container."""


class _Pictures(Struct):
    """What a tool's model used that draws."""

    input_tokens: Any = None
    output_tokens: Any = None
    input_tokens_details: Any = None
    output_tokens_details: Any = None


class _PictureDetails(Struct):
    image_tokens: Any = None


def with_pictures(usage: Usage, tool_usage: Any) -> Usage:
    """The usage with what was used to draw, which is in no total of it."""
    told = tool_usage.get("image_gen") if isinstance(tool_usage, dict) else None
    if not isinstance(told, dict):
        return usage
    drawn = openai_usage.details(told, _Pictures)
    into = openai_usage.details(drawn.input_tokens_details, _PictureDetails).image_tokens
    out = openai_usage.details(drawn.output_tokens_details, _PictureDetails).image_tokens
    if not believed(drawn.input_tokens, drawn.output_tokens, into, out):
        return usage
    read, made = drawn.input_tokens or 0, drawn.output_tokens or 0
    pictures = Usage(read, made, requests=0, image_in=min(into or 0, read), image_out=min(out or 0, made))
    return usage if pictures == Usage(requests=0) else usage.plus(pictures)


def is_more_owed(output: Raw) -> bool:
    """Whether a tool put something out that no rate card has a price of."""
    told = bytes(output)
    if not any(kind.encode() in told for kind in _CHARGED_APART):
        return False
    return any(item.type in _CHARGED_APART for item in _made(told))


class _Action(Struct):
    type: Any = None


class _Made(Struct):
    type: Any = None
    action: _Action | None = None


_made_decoder = msgspec.json.Decoder(list[_Made])


def _made(output: bytes) -> list[_Made]:
    """The items of an output; none where it is not one."""
    try:
        return _made_decoder.decode(output)
    except (msgspec.DecodeError, RecursionError):
        return []


def searches_in(output: Raw) -> int:
    """How often the vendor searched the web, by the items that it put out. To open a page, or to find something in it,
    is no search."""
    told = bytes(output)
    if b"web_search_call" not in told:
        return 0
    searches = [item.action for item in _made(told) if item.type == "web_search_call"]
    return sum(1 for action in searches if action is None or action.type in (None, "search"))


def response_usage(usage: Usage) -> dict[str, Any]:
    """The usage object of a response. It has no place for sounds, which are in the totals."""
    read, wrote = usage.total_input, usage.total_output
    into = {"cached_tokens": usage.cache_read, "cache_write_tokens": sum(usage.cache_write.values())}
    return {
        "input_tokens": read,
        "input_tokens_details": into | ({"audio_tokens": usage.audio_in} if usage.audio_in else {}),
        "output_tokens": wrote,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning}
        | ({"audio_tokens": usage.audio_out} if usage.audio_out else {}),
        "total_tokens": read + wrote,
    }
