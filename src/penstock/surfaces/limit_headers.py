"""What a refusal by a limit of ours says in its headers, in the words of the dialect that the caller speaks.

Sources: OpenAI API reference, "Rate limits" (`x-ratelimit-...`; how long until the reset); Anthropic API reference,
"Rate limits" (`anthropic-ratelimit-...`; the moment of the reset in RFC 3339). Limits in dollars and on concurrent
calls have no names there.
"""

from time import gmtime, strftime

from penstock.domain.policy import Denial
from penstock.surfaces.http1.request import HeaderList

_OPENAI = {"requests": "requests", "tokens": "tokens"}
_ANTHROPIC = {**_OPENAI, "input_tokens": "input-tokens", "output_tokens": "output-tokens"}


def limit_headers(denial: Denial, surface: str, now_ns: int) -> HeaderList:
    """The headers for a caller of `surface`. `now_ns`: Unix nanoseconds."""
    limit, remaining = denial.limit.amount, max(0, denial.left)
    wait_s = denial.retry_after_s
    if surface.startswith("messages"):
        if (name := _ANTHROPIC.get(denial.limit.unit)) is None:
            return []
        fields = {"limit": str(limit), "remaining": str(remaining)}
        if wait_s is not None:
            fields["reset"] = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(now_ns // 10**9 + int(wait_s)))
        return [(f"anthropic-ratelimit-{name}-{field}".encode(), value.encode()) for field, value in fields.items()]
    if (name := _OPENAI.get(denial.limit.unit)) is None:
        return []
    fields = {"limit": str(limit), "remaining": str(remaining)}
    if wait_s is not None:
        fields["reset"] = f"{wait_s:.0f}s"
    return [(f"x-ratelimit-{field}-{name}".encode(), value.encode()) for field, value in fields.items()]
