"""One request as its handler sees it, and the way to answer it."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from penstock.errors import BodyTooLarge, InvalidRequest

HeaderList = list[tuple[bytes, bytes]]


class Line(Protocol):
    """What a request needs of its connection."""

    def write_answer(self, request: "Request", status: int, headers: HeaderList, body: bytes) -> None: ...

    def write_head(self, request: "Request", status: int, headers: HeaderList) -> None: ...

    def write_chunk(self, request: "Request", chunk: bytes) -> "asyncio.Future[None] | None": ...

    def finish(self, request: "Request") -> None: ...

    def more_body(self, request: "Request", limit_bytes: int) -> "asyncio.Future[None]": ...

    def abort(self, request: "Request") -> None: ...


class Request:
    """`peer` is the address at the other end, empty where it has none. `path` is decoded once and has no query
    (`target` is what was sent); `headers` by lower-case name, repeated fields joined with a comma.

    `on_disconnect` is called once when the peer goes before the answer is complete; a handler sets it before its first
    `await`, and none is begun for a peer that has gone already. `gone` says so at any time.
    A handler answers with `respond`, or with `start`, `write`... and `end`. What it says to a peer that has gone is
    lost in silence, but for `write`.
    """

    __slots__ = (
        "_line",
        "answered",
        "broken",
        "complete",
        "drain_until_bytes",
        "expects_continue",
        "finished",
        "gone",
        "headers",
        "keep_alive",
        "method",
        "on_disconnect",
        "parts",
        "path",
        "peer",
        "received_bytes",
        "target",
        "task",
        "version",
    )

    def __init__(self, line: Line, method: str, target: str, path: str, headers: dict[str, str]) -> None:
        self._line = line
        self.method = method
        self.target = target
        self.path = path
        self.peer = ""
        self.headers = headers
        self.on_disconnect: Callable[[], None] | None = None
        self.gone = False
        # The connection's notes: of what was read ...
        self.version = "1.1"
        self.parts: list[bytes] = []
        self.received_bytes = 0
        self.complete = False
        self.broken = False
        self.expects_continue = False
        self.drain_until_bytes = 0
        # ... and of what was answered.
        self.keep_alive = True
        self.answered = False
        self.finished = False
        self.task: asyncio.Task[None] | None = None

    async def body(self, limit_bytes: int) -> bytes:
        """The whole body, once. `BodyTooLarge` as soon as it is known to have more than `limit_bytes`: before a byte
        is taken in where its length was declared. `InvalidRequest` when it ends early, stalls, or is badly chunked.
        """
        if int(self.headers.get("content-length", 0)) > limit_bytes:
            raise BodyTooLarge(f"The request body may have at most {limit_bytes} bytes.")
        if not self.complete and self.received_bytes <= limit_bytes:
            await self._line.more_body(self, limit_bytes)
        if self.received_bytes > limit_bytes:
            raise BodyTooLarge(f"The request body may have at most {limit_bytes} bytes.")
        if not self.complete:
            raise InvalidRequest("The request's body did not arrive whole.")
        parts, self.parts = self.parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def respond(self, status: int, headers: HeaderList, body: bytes) -> None:
        """A whole answer in one write. `ValueError`, with nothing sent, when a header holds a line break."""
        self._line.write_answer(self, status, headers, body)

    def start(self, status: int, headers: HeaderList) -> None:
        """The head of a streamed answer; it leaves with the first chunk, or in a moment. Raises like `respond`."""
        self._line.write_head(self, status, headers)

    async def write(self, chunk: bytes) -> None:
        """One chunk. Waits while the peer does not read; `ConnectionResetError` when it is gone."""
        waiter = self._line.write_chunk(self, chunk)
        if waiter is not None:
            await waiter
            if self.gone:
                raise ConnectionResetError("the peer is gone")

    def end(self) -> None:
        """The normal end of a streamed answer."""
        self._line.finish(self)

    def abort(self) -> None:
        """Closes the socket at once: the peer sees that the answer is not complete."""
        self._line.abort(self)
