"""Anthropic, and servers that speak its dialect at an address of theirs.

Source: Anthropic API reference, "Overview" (headers), "Versioning", "Beta headers", "Rate limits" (read 2026-11).

The version of the API that a caller names goes with its call, and so do the betas it asks for; a call without one gets
the version that the dialect was written from. The reference does not say whether closing a stream stops the bill.
"""

from functools import lru_cache

from penstock.domain.http import Headers, HttpRequest, Origin
from penstock.domain.snapshot import Credential, Provider
from penstock.providers.base import NONE_MARKED, Outgoing, StopsBilling, origin_of

BASE_URL = "https://api.anthropic.com"
VERSION = "2023-06-01"

PATHS = {"messages": "/v1/messages", "messages.count_tokens": "/v1/messages/count_tokens"}


class Anthropic:
    kind = "anthropic"
    cancel_stops_billing: StopsBilling = "unknown"
    asks_usage = False
    marks_end = NONE_MARKED
    forwards = frozenset({"anthropic-version", "anthropic-beta"})

    def surfaces(self, model: str) -> tuple[str, ...]:
        return tuple(PATHS)

    def output_cap_field(self, surface: str) -> str:
        return "max_tokens"

    def request(self, provider: Provider, credential: Credential | None, outgoing: Outgoing) -> HttpRequest:
        origin, path = _target(provider.base_url or BASE_URL, outgoing.surface)
        fields: Headers = [(name.lower(), value) for name, value in provider.headers.items()]
        fields.append(("content-type", "application/json"))
        if "anthropic-version" not in outgoing.headers:
            fields.append(("anthropic-version", VERSION))
        if credential is not None:
            fields.append(("x-api-key", credential.value.reveal()))
        return HttpRequest("POST", origin, path, fields, outgoing.body, provider.timeouts)


@lru_cache(maxsize=1024)
def _target(base_url: str, surface: str) -> tuple[Origin, str]:
    """Where a surface lives; a base URL may end in `/v1`, as other vendors write it."""
    origin, path = origin_of(base_url)
    return origin, path.removesuffix("/v1") + PATHS[surface]
