"""`usageMetadata` -> usage in disjoint classes.

Source: Gemini API reference, `UsageMetadata`. `promptTokenCount` includes what was cached, but not always at Vertex
(BerriAI/litellm issue 39125); `toolUsePromptTokenCount` is on top of it, as `thoughtsTokenCount` is on top of
`candidatesTokenCount`. Zeros are left out. A stream reports it anew with each piece, and the last one counts.
"""

from collections import Counter
from typing import Any

from msgspec import Struct

from penstock.dialects.base import as_whole, believed
from penstock.dialects.gemini.names import MODALITIES, word
from penstock.domain.usage import Usage

_TIERS = {"ON_DEMAND": "standard", "ON_DEMAND_PRIORITY": "priority", "ON_DEMAND_FLEX": "flex"}
"""Vertex's types of traffic that are service tiers (reference, `TrafficType`)."""


class Metadata(Struct, rename="camel"):
    prompt_token_count: Any = None
    cached_content_token_count: Any = None
    candidates_token_count: Any = None
    response_token_count: Any = None
    thoughts_token_count: Any = None
    tool_use_prompt_token_count: Any = None
    total_token_count: Any = None
    prompt_tokens_details: Any = None
    cache_tokens_details: Any = None
    candidates_tokens_details: Any = None
    tool_use_prompt_tokens_details: Any = None
    service_tier: Any = None
    traffic_type: Any = None

    def tier(self) -> str:
        """The service tier that served the call, which decides its price, whichever was asked for; empty when it is not
        told. Vertex tells it as the type of traffic."""
        tier = self.service_tier if isinstance(self.service_tier, str) else _TIERS.get(str(self.traffic_type), "")
        return "" if tier == "unspecified" else tier

    def is_told(self) -> bool:
        """Whether there is a count in it; the first pieces of a stream may have none (Vertex)."""
        return self.prompt_token_count is not None or self.total_token_count is not None

    def tells_half(self) -> bool:
        """Whether nothing is told of what came out, neither by itself nor within the total."""
        out = (self.candidates_token_count, self.thoughts_token_count, self.total_token_count)
        return all(count is None for count in out)


def normalise(reported: Metadata) -> Usage | None:
    """The vendor's counts in disjoint classes; None when they cannot be true."""
    counts = (
        reported.prompt_token_count,
        reported.cached_content_token_count,
        reported.candidates_token_count,
        reported.thoughts_token_count,
        reported.tool_use_prompt_token_count,
        reported.total_token_count,
    )
    given = tuple(map(as_whole, counts))
    asked = _by_modality(reported.prompt_tokens_details)
    kept = _by_modality(reported.cache_tokens_details)
    made = _by_modality(reported.candidates_tokens_details)
    found = _by_modality(reported.tool_use_prompt_tokens_details)
    if not believed(*given) or asked is None or kept is None or made is None or found is None:
        return None
    told, cached, candidates, thoughts, tool_use, total = (count or 0 for count in given)
    prompt = told or total - candidates - thoughts - tool_use
    if prompt < 0:
        return None
    hidden = max(total - prompt - tool_use - candidates - thoughts, 0)
    if cached > prompt or 0 < cached == hidden:
        prompt += cached
        hidden = max(hidden - cached, 0)
    heard = asked["AUDIO"] - kept["AUDIO"]
    audio_in = min(max(heard, 0), prompt - cached) + min(found["AUDIO"], tool_use)
    audio_out = min(made["AUDIO"], candidates)
    input_, said = prompt - cached + tool_use - audio_in, candidates - audio_out
    image_in = min(max(asked["IMAGE"] - kept["IMAGE"], 0) + found["IMAGE"], input_)
    video_in = min(max(asked["VIDEO"] - kept["VIDEO"], 0) + found["VIDEO"], input_ - image_in)
    image_out = min(made["IMAGE"], said)
    return Usage(
        input=input_,
        output=said + thoughts + hidden,
        cache_read=cached,
        reasoning=thoughts,
        audio_in=audio_in,
        audio_out=audio_out,
        image_in=image_in,
        video_in=video_in,
        image_out=image_out,
        video_out=min(made["VIDEO"], said - image_out),
    )


def _by_modality(details: Any) -> Counter[str] | None:
    """Tokens by modality; none where the details are no list, which does not make the rest of the report untrue. None
    where they cannot be true."""
    counts: Counter[str] = Counter()
    for one in details if isinstance(details, list) else ():
        count = as_whole(one.get("tokenCount")) if isinstance(one, dict) else None
        if not believed(count):
            return None
        if count:
            counts[word(one.get("modality"), MODALITIES)] += count
    return counts


def metadata_of(usage: Usage) -> dict[str, Any]:
    """`usageMetadata` for a caller. Zeros are left out, but for what every answer has."""
    candidates = usage.total_output - usage.reasoning
    counts = {
        "promptTokenCount": usage.total_input,
        "cachedContentTokenCount": usage.cache_read,
        "candidatesTokenCount": candidates,
        "thoughtsTokenCount": usage.reasoning,
    }
    written: dict[str, Any] = {name: count for name, count in counts.items() if count or name.startswith("prompt")}
    written["totalTokenCount"] = usage.total_input + usage.total_output
    if usage.audio_in:
        written["promptTokensDetails"] = _split(usage.total_input - usage.audio_in, usage.audio_in)
    if usage.audio_out:
        written["candidatesTokensDetails"] = _split(candidates - usage.audio_out, usage.audio_out)
    return written


def _split(text: int, audio: int) -> list[dict[str, Any]]:
    return [{"modality": "TEXT", "tokenCount": text}, {"modality": "AUDIO", "tokenCount": audio}]
