"""OpenAI. Source: OpenAI API reference, "Authentication", "Responses", "Conversations", "Chat", "Embeddings",
"Models" (read 2026-11).

A stream is closed by closing the connection; the reference does not say that this stops the bill.
"""

import re
from functools import lru_cache

from msgspec import structs

from penstock.domain.http import Headers, HttpRequest, Origin
from penstock.domain.snapshot import Credential, Provider
from penstock.providers.base import Outgoing, StopsBilling, origin_of

BASE_URL = "https://api.openai.com/v1"

PATHS = {
    "chat.completions": "/chat/completions",
    "responses": "/responses",
    "responses.compact": "/responses/compact",
    "responses.input_tokens": "/responses/input_tokens",
    "responses.stored": "/responses",
    "conversations": "/conversations",
    "completions": "/completions",
    "embeddings": "/embeddings",
    "moderations": "/moderations",
}

_REASONS = re.compile(r"(ft:)?(o\d|gpt-[5-9](?!.*chat)|codex|computer-use)")
"""Models that think, which keep their thoughts between turns at Responses alone."""

_AT_RESPONSES_ALONE = re.compile(r"(o1|o3|gpt-[5-9][.\d]*)-pro|codex|.*-codex|computer-use|.*deep-research")
""""Models" (read 2026-11): those whose page names no other endpoint for conversations."""

_CAPS = {"chat.completions": "max_completion_tokens", "responses": "max_output_tokens"}
_WITH_RESPONSES = ("responses.compact", "responses.input_tokens", "responses.stored")
MARKED = frozenset({"chat.completions", "completions"})
"""The reference says of these that `data: [DONE]` ends each stream."""
CONVERSATIONS = "conversations"
OTHERS = (*_WITH_RESPONSES, "completions", "embeddings", "moderations")


class OpenAI:
    kind = "openai"
    cancel_stops_billing: StopsBilling = "unknown"
    asks_usage = True
    marks_end = MARKED
    forwards = frozenset({"openai-beta"})

    def surfaces(self, model: str) -> tuple[str, ...]:
        """Chat Completions has stop sequences, seeds and several choices; Responses keeps reasoning."""
        if _AT_RESPONSES_ALONE.match(model):
            return ("responses", *_WITH_RESPONSES, CONVERSATIONS)
        if _REASONS.match(model):
            return ("responses", "chat.completions", *OTHERS, CONVERSATIONS)
        return ("chat.completions", "responses", *OTHERS, CONVERSATIONS)

    def output_cap_field(self, surface: str) -> str:
        """In chats `max_tokens` is deprecated, and refused by reasoning models."""
        return _CAPS.get(surface, "max_tokens")

    def request(self, provider: Provider, credential: Credential | None, outgoing: Outgoing) -> HttpRequest:
        origin, path = target(provider.base_url or BASE_URL, outgoing.surface)
        return addressed(
            outgoing, HttpRequest("POST", origin, path, headers(provider, credential), outgoing.body, provider.timeouts)
        )


def addressed(outgoing: Outgoing, request: HttpRequest) -> HttpRequest:
    """The request; where something that is kept is asked for, at that one's address."""
    errand = outgoing.errand
    if errand is None:
        return request
    path, _, version = request.path.partition("?")
    query = "&".join(part for part in (version, errand.query) if part)
    path += errand.path + (f"?{query}" if query else "")
    return structs.replace(request, method=errand.method, path=path, repeatable=errand.method == "GET")


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
