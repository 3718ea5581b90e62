"""Service tiers, in OpenAI's words, which are a conversation's: `default` is the usual service, `auto` leaves it to the
account.

Source: OpenAI API reference, `service_tier`; Anthropic, "Service tiers" (`standard`, `priority`, `batch`; asked for as
`auto` or `standard_only`), "Fast mode" (`speed`); Amazon Bedrock API reference, `ServiceTier`; Gemini API reference,
`ServiceTier` (`standard`, `flex`, `priority`).
"""

ASKED_OF_OPENAI = frozenset({"auto", "default", "flex", "priority", "scale", "fast"})
TOLD_BY_OPENAI = frozenset({"default", "flex", "priority", "scale"})

USUAL_AT_OTHERS = "standard"
"""What Anthropic and Google call `default`."""
TOLD_BY_ANTHROPIC = frozenset({"default", "priority", "batch"})
TOLD_BY_GOOGLE = frozenset({"default", "flex", "priority"})
TOLD_BY_BEDROCK = frozenset({"default", "flex", "priority", "reserved"})


def in_openais_words(tier: str) -> str:
    """What Anthropic or Google says that it served."""
    return "default" if tier == USUAL_AT_OTHERS else tier


def in_others_words(tier: str) -> str:
    return USUAL_AT_OTHERS if tier == "default" else tier
