"""HTTP messages as the upstream room sees them: values only, no sockets."""

from msgspec import Struct

Headers = list[tuple[str, str]]
"""Header fields in order; names in lower case, values as latin-1 text without line breaks."""


class Origin(Struct, frozen=True, array_like=True):
    """Where a request may go: scheme (`http` or `https`), host, port. Connections are pooled per origin."""

    scheme: str
    host: str
    port: int


class Timeouts(Struct, frozen=True):
    """Bounds on one upstream call, in milliseconds.

    `first_byte_ms` runs from the last byte of the request to the first byte of the response head;
    `between_chunks_ms` from one read of the body to the next; `total_ms` over the whole call.
    """

    connect_ms: int = 5_000
    first_byte_ms: int = 300_000
    between_chunks_ms: int = 120_000
    total_ms: int = 900_000


class HttpRequest(Struct, frozen=True):
    """One upstream request. `path` has the query string; `host`, `content-length` and `connection` are the
    transport's to write and must not stand in `headers`. `repeatable`: sending it twice does no harm."""

    method: str
    origin: Origin
    path: str
    headers: Headers
    body: bytes = b""
    timeouts: Timeouts = Timeouts()
    repeatable: bool = False


def header(headers: Headers, name: str) -> str | None:
    """The first value of `name` (lower case), or None."""
    for key, value in headers:
        if key == name:
            return value
    return None
