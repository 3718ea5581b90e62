"""Cohere. Source: Cohere API reference, "Chat V2", "Embed V2", "Rerank V2"; guide "Compatibility API" (read 2026-11).

Callers of every other dialect are translated to its own Chat, which tells what is billed and has more than its Chat
Completions (`k`, a budget for thinking, documents, citations, plans), and to its own Embed, which tells what is billed
and knows what a vector is for and how long it is to be. The reference does not say that closing a stream
stops the bill.
"""

from functools import lru_cache

from penstock.domain.http import HttpRequest, Origin
from penstock.domain.snapshot import Credential, Provider
from penstock.providers.base import NONE_MARKED, Outgoing, StopsBilling, origin_of
from penstock.providers.openai import headers

BASE_URL = "https://api.cohere.com"

PATHS = {
    "cohere.chat": "/v2/chat",
    "cohere.embed": "/v2/embed",
    "rerank": "/v2/rerank",
}


class Cohere:
    kind = "cohere"
    cancel_stops_billing: StopsBilling = "unknown"
    asks_usage = False
    marks_end = NONE_MARKED
    forwards = frozenset({"x-client-name"})

    def surfaces(self, model: str) -> tuple[str, ...]:
        return tuple(PATHS)

    def output_cap_field(self, surface: str) -> str:
        return "max_tokens"

    def request(self, provider: Provider, credential: Credential | None, outgoing: Outgoing) -> HttpRequest:
        origin, root = _root(provider.base_url or BASE_URL)
        path = root + PATHS[outgoing.surface]
        return HttpRequest("POST", origin, path, headers(provider, credential), outgoing.body, provider.timeouts)


@lru_cache(maxsize=1024)
def _root(base_url: str) -> tuple[Origin, str]:
    origin, path = origin_of(base_url)
    return origin, path.removesuffix("/v2").removesuffix("/v1")
