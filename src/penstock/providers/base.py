"""What a vendor's file answers."""

from collections.abc import Mapping
from typing import Literal, Protocol
from urllib.parse import urlsplit

from penstock.domain.http import Headers, HttpRequest, Origin
from penstock.domain.snapshot import Credential, Provider

StopsBilling = Literal["yes", "no", "unknown"]

FORWARDED_HEADERS = frozenset({"traceparent", "tracestate", "openai-beta"})
"""Request headers of the caller that a provider may see. Everything else stays here: callers' credentials, cookies and
addresses are not the vendor's business, and an idempotency key of one tenant could meet another's there."""


class Vendor(Protocol):
    """One vendor's manners. All methods are pure.

    `cancel_stops_billing`: whether the vendor bills what it would have produced after the stream is closed.
    `asks_usage`: whether a usage report must be asked for in a stream (`stream_options.include_usage`).
    """

    kind: str
    cancel_stops_billing: StopsBilling
    asks_usage: bool

    def output_cap_field(self, surface: str) -> str:
        """The name of the parameter that caps the output."""

    def request(self, provider: Provider, credential: Credential | None, surface: str, body: bytes) -> HttpRequest: ...


def origin_of(base_url: str) -> tuple[Origin, str]:
    """`https://host:port/path` -> its origin and the path without a closing slash."""
    parts = urlsplit(base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Origin(parts.scheme, parts.hostname or "", port), parts.path.rstrip("/")


def forwarded(headers: Mapping[str, str]) -> Headers:
    return [(name, value) for name, value in headers.items() if name in FORWARDED_HEADERS]
