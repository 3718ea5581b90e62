"""What the gateway asks of an HTTP client: send one request, read one response, cut it at any moment.

Two things set it apart from a general client. `on_dispatch` marks the moment before which nothing can have reached
the vendor, so that a hold is on disk before the first byte; and every way out of a call, cancellation included,
leaves no socket open that still works for a caller who has gone.
"""

from collections.abc import Callable
from typing import Protocol

from penstock.domain.http import Headers, HttpRequest


class UpstreamResponse(Protocol):
    """A response whose head has come. It must be read to its end or aborted; else its connection stays taken until
    `total_ms` has passed. One task reads; any task may abort."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Headers:
        """Names in lower case, values as latin-1 text. A `content-encoding` that was decoded is not among them."""

    async def read(self) -> bytes:
        """The next bytes of the body as they came, never empty; `b""` at the clean end, and again after it.

        Raises `UpstreamReset` (cut before the end), `UpstreamTimeout` (`between_chunks`, `total`) or
        `UpstreamMalformed`, each only after every byte that came before the fault was handed out. A reader that is
        cancelled closes the socket.
        """

    async def read_all(self, limit_bytes: int) -> bytes:
        """The whole (rest of the) body. `UpstreamMalformed`, and a closed socket, above `limit_bytes`."""

    def abort(self) -> None:
        """Closes the socket at once; nothing when the response is complete. What was not read is `unread`."""

    def unread(self) -> bytes:
        """The part of the body that had come and was not handed out; empty for a coded one. Ends the reading."""


class Transport(Protocol):
    async def send(self, request: HttpRequest, on_dispatch: Callable[[], None]) -> UpstreamResponse:
        """The response to `request`, as soon as its head is there.

        `on_dispatch` is called once, after the connection (TLS included) is made and right before the first byte is
        written; when it raises, nothing was written, the connection is kept and the exception passes through.

        Raises, with nothing sent: `UpstreamConnectFailed`, `UpstreamTimeout` with phase `connect`, and `ValueError`
        for a request that cannot be written (a line break in a header, a header that is the transport's own): a
        fault of the code that made it, which checks what callers say. Raises, after `on_dispatch`:
        `UpstreamTimeout` (`first_byte`, `between_chunks`, `total`), `UpstreamReset`, `UpstreamMalformed`.
        """

    async def close(self) -> None:
        """Closes every socket, also of calls under way, which fail with `UpstreamReset`; later calls with
        `UpstreamConnectFailed`."""
