"""OpenAI. Source: OpenAI API reference, "Authentication", "Chat", "Embeddings" (read 2026-11).

A stream is closed by closing the connection; the reference does not say that this stops the bill.
"""

from functools import lru_cache

from penstock.domain.http import Headers, HttpRequest, Origin
from penstock.domain.snapshot import Credential, Provider
from penstock.providers.base import Outgoing, StopsBilling, origin_of

BASE_URL = "https://api.openai.com/v1"

PATHS = {"chat.completions": "/chat/completions", "embeddings": "/embeddings"}


class OpenAI:
    kind = "openai"
    cancel_stops_billing: StopsBilling = "unknown"
    asks_usage = True
    forwards = frozenset({"openai-beta"})

    def surfaces(self, model: str) -> tuple[str, ...]:
        return tuple(PATHS)

    def output_cap_field(self, surface: str) -> str:
        """`max_tokens` is deprecated and refused by reasoning models."""
        return "max_completion_tokens"

    def request(self, provider: Provider, credential: Credential | None, outgoing: Outgoing) -> HttpRequest:
        origin, path = target(provider.base_url or BASE_URL, outgoing.surface)
        return HttpRequest("POST", origin, path, headers(provider, credential), outgoing.body, provider.timeouts)


@lru_cache(maxsize=1024)
def target(base_url: str, surface: str) -> tuple[Origin, str]:
    """Where a surface lives under this base URL."""
    origin, path = origin_of(base_url)
    return origin, path + PATHS[surface]


def headers(provider: Provider, credential: Credential | None) -> Headers:
    """The operator's headers, then ours: the credential is never overridden."""
    fields: Headers = [(name.lower(), value) for name, value in provider.headers.items()]
    fields.append(("content-type", "application/json"))
    if credential is not None:
        fields.append(("authorization", f"Bearer {credential.value.reveal()}"))
    return fields
