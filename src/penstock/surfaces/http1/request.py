"""One request as its handler sees it, and the way to answer it."""

from collections.abc import Callable
from typing import Protocol

from penstock.errors import BodyTooLarge, InvalidRequest

HeaderList = list[tuple[bytes, bytes]]


class Line(Protocol):
    """What a request needs of its connection."""

    def write_head_and_body(self, request: "Request", status: int, headers: HeaderList, body: bytes) -> None: ...

    def write_head(self, request: "Request", status: int, headers: HeaderList) -> None: ...

    async def write_chunk(self, chunk: bytes) -> None: ...

    def finish(self) -> None: ...

    async def more_body(self, request: "Request") -> bytes: ...

    def abort(self) -> None: ...


class Request:
    """`path` is decoded once and has no query; `headers` by lower-case name, repeated fields joined with a comma.

    `on_disconnect` is called once when the peer goes before the answer is complete; `gone` says so at any time.
    A handler answers with `respond`, or with `start`, `write`... and `end`.
    """

    __slots__ = (
        "_line",
        "answered",
        "complete",
        "expects_continue",
        "gone",
        "headers",
        "keep_alive",
        "method",
        "on_disconnect",
        "parts",
        "parts_bytes",
        "path",
        "target",
    )

    def __init__(self, line: Line, method: str, target: str, path: str, headers: dict[str, str]) -> None:
        self._line = line
        self.method = method
        self.target = target
        self.path = path
        self.headers = headers
        self.parts: list[bytes] = []
        self.parts_bytes = 0
        self.keep_alive = True
        self.expects_continue = False
        self.complete = False
        self.answered = False
        self.gone = False
        self.on_disconnect: Callable[[], None] | None = None

    async def body(self, limit_bytes: int) -> bytes:
        """The whole body. `BodyTooLarge` before more than `limit_bytes` are held; `InvalidRequest` when it ends early."""
        declared = self.headers.get("content-length", "0")
        if not declared.isdigit() or int(declared) > limit_bytes:
            raise BodyTooLarge(f"The request body may have at most {limit_bytes} bytes.")
        parts: list[bytes] = []
        size = 0
        while part := await self._line.more_body(self):
            parts.append(part)
            size += len(part)
            if size > limit_bytes:
                raise BodyTooLarge(f"The request body may have at most {limit_bytes} bytes.")
        if not self.complete:
            raise InvalidRequest("The request ended before its body was complete.")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def respond(self, status: int, headers: HeaderList, body: bytes) -> None:
        """A whole answer in one write."""
        self.answered = True
        self._line.write_head_and_body(self, status, headers, body)

    def start(self, status: int, headers: HeaderList) -> None:
        """The head of a streamed answer. It leaves with the first chunk."""
        self.answered = True
        self._line.write_head(self, status, headers)

    async def write(self, chunk: bytes) -> None:
        """One chunk. Waits while the peer does not read; `ConnectionResetError` when it is gone."""
        await self._line.write_chunk(chunk)

    def end(self) -> None:
        """The normal end of a streamed answer."""
        self._line.finish()

    def abort(self) -> None:
        """Closes the socket at once: the peer sees that the answer is not complete."""
        self._line.abort()
