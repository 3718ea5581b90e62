"""What a vendor's file answers."""

from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable
from urllib.parse import urlsplit

from msgspec import Struct

from penstock.domain.http import Headers, HttpRequest, Origin
from penstock.domain.kept import Errand
from penstock.domain.snapshot import Credential, Provider

StopsBilling = Literal["yes", "no", "unknown"]

NONE_MARKED: frozenset[str] = frozenset()
"""`marks_end` of those that leave it open, or whose dialects have an ending that nobody leaves out."""

FORWARDED_HEADERS = frozenset({"traceparent", "tracestate"})
"""Request headers of the caller that every provider may see. Everything else stays here, but for those of its dialect
that a vendor's file names: callers' credentials, cookies and addresses are not the vendor's business, and an
idempotency key of one tenant could meet another's there."""


class Outgoing(Struct, frozen=True):
    """What goes to a vendor: the surface whose wire language `body` is in, the vendor's model name, whether the answer
    streams, the caller's request headers, the time (Unix seconds), for signatures, and the form of the stream where the
    dialect has several (`Call.form`). `errand`: what is asked of something that the vendor keeps."""

    surface: str
    body: bytes
    model: str = ""
    streaming: bool = False
    headers: Mapping[str, str] = {}
    now_s: float = 0.0
    form: str = ""
    errand: Errand | None = None


class Vendor(Protocol):
    """One vendor's manners. All methods are pure.

    `cancel_stops_billing`: whether the vendor bills what it would have produced after the stream is closed.
    `asks_usage`: whether a usage report must be asked for in a stream (`stream_options.include_usage`).
    `marks_end`: the surfaces whose streams always end with the dialect's mark here (`data: [DONE]`), where not all who
    speak the dialect send one: without it such a stream was cut.
    `forwards`: names of the caller's request headers that the vendor sees besides `FORWARDED_HEADERS`, from callers
    that speak its dialect.
    """

    kind: str
    cancel_stops_billing: StopsBilling
    asks_usage: bool
    marks_end: frozenset[str]
    forwards: frozenset[str]

    def surfaces(self, model: str) -> tuple[str, ...]:
        """Where the vendor serves `model`; of the conversations, the one that loses least first."""

    def output_cap_field(self, surface: str) -> str:
        """The name of the parameter that caps the output."""

    def request(self, provider: Provider, credential: Credential | None, outgoing: Outgoing) -> HttpRequest: ...


@runtime_checkable
class TellsBadCredentials(Protocol):
    """A vendor that rejects our credential with another status than 401."""

    def is_bad_credential(self, status: int, body: bytes) -> bool: ...


class Reframer(Protocol):
    """Tells an answer in another form, piece by piece. `content_type`: of what it tells."""

    @property
    def content_type(self) -> str: ...

    def feed(self, data: bytes) -> bytes:
        """Raises `UpstreamMalformed`."""

    def close(self) -> None:
        """Raises `UpstreamReset` when the stream was cut inside of a piece."""


@runtime_checkable
class Reframes(Protocol):
    """A vendor some of whose answers come in another form than the dialect's: a stream in frames of its own, or what
    the dialect has in the body in the `headers`."""

    def reframer(self, outgoing: Outgoing, headers: Headers) -> Reframer | None: ...


@runtime_checkable
class TradesCredentials(Protocol):
    """A vendor that takes an access token instead of some of its credentials. Pure, as the rest: `now_s` is the time
    (Unix seconds), and who fetches is the upstream room."""

    def token_request(self, credential: Credential, now_s: float) -> HttpRequest | None:
        """How a token is asked for; None where the credential goes as it is. Raises `ValueError` for one that is not
        what the vendor takes."""

    def token_of(self, body: bytes) -> tuple[str, float]:
        """The token in the answer, and its lifetime in seconds. Raises `UpstreamMalformed`."""


def origin_of(base_url: str) -> tuple[Origin, str]:
    """`https://host:port/path` -> its origin and the path without a closing slash."""
    parts = urlsplit(base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Origin(parts.scheme, parts.hostname or "", port), parts.path.rstrip("/")


def forwarded(headers: Mapping[str, str], vendors_own: frozenset[str] = frozenset()) -> Headers:
    return [(name, headers[name]) for name in sorted((FORWARDED_HEADERS | vendors_own) & headers.keys())]
