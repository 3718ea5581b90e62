"""The wire: an HTTP/1.1 server on its own thread that does exactly what it is told, faults included.

A test double for a vendor has to be able to break the protocol, so this is built on bare transports: a subclass
answers each `Received` through a `Reply`, which can also reset, half-close or write bytes that are not HTTP.
Everything a server sees is kept, with the moment the peer went away.
"""

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Self, cast

import httptools
import msgspec
import uvloop

from penstock.domain.http import Headers, header

WAIT_STEP_S = 0.005
LONGEST_WAIT_STEP_S = 0.1
"""`eventually` looks less often the longer it has waited: to look costs those who are waited for as well."""


class Received:
    """One request as it came in. `at` and `gone_at` are monotonic seconds; `gone_at` is None while the peer is there
    or after the answer was complete."""

    def __init__(self, method: str, path: str, headers: Headers, body: bytes) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.at = time.monotonic()
        self.gone_at: float | None = None
        self.answered = False
        self.sent_bytes = 0

    def header(self, name: str) -> str | None:
        return header(self.headers, name)

    def json(self) -> Any:
        """The body as JSON; raises `msgspec.DecodeError` when it is not."""
        return msgspec.json.decode(self.body)

    @property
    def model(self) -> str:
        """The `model` of a JSON body, empty when there is none."""
        try:
            body = self.json()
        except msgspec.DecodeError:
            return ""
        return str(body.get("model", "")) if isinstance(body, dict) else ""


class Reply:
    """The way back to the peer of one request. Writing to a peer that is gone raises `ConnectionResetError`."""

    def __init__(self, received: Received, connection: "_Connection") -> None:
        self.received = received
        self._connection = connection
        self._chunked = False

    async def head(self, status: int, headers: Iterable[tuple[str, str]] = (), length: int | None = None) -> None:
        """The status line and the fields. With `length` None the body is chunked."""
        self._chunked = length is None
        framing = ("transfer-encoding", "chunked") if length is None else ("content-length", str(length))
        lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in [*headers, framing])]
        await self.raw(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def body(self, data: bytes) -> None:
        if data:
            self.received.sent_bytes += len(data)
            await self.raw(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def end(self) -> None:
        """The end of the body. Marks the request as answered."""
        self.received.answered = True
        if self._chunked:
            await self.raw(b"0\r\n\r\n")

    async def whole(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        """A complete answer with a content-length, in one write."""
        fields = [*headers, ("content-length", str(len(body)))]
        lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in fields)]
        self.received.answered = True
        self.received.sent_bytes += len(body)
        await self.raw(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body)

    async def raw(self, data: bytes) -> None:
        """Bytes as they are; waits while the peer reads slowly."""
        await self._connection.write(data)

    def reset(self) -> None:
        """A TCP reset: what a crashed vendor looks like."""
        self._connection.reset()

    def close(self) -> None:
        """An orderly close in the middle of whatever was being said."""
        self._connection.transport.close()

    def half_close(self) -> None:
        """No more bytes from this side, and the socket stays open."""
        self._connection.transport.write_eof()


class LoopServer:
    """A listener on a free port of 127.0.0.1, with a thread and an event loop of its own. Subclasses write `open`."""

    def __init__(self) -> None:
        self.port = 0
        self._loop = uvloop.new_event_loop()
        self._stopping: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)
        self._listening = threading.Event()

    async def open(self, place: socket.socket) -> asyncio.AbstractServer:
        """Starts to accept connections on `place`."""
        raise NotImplementedError

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._listening.wait(10):
            raise TimeoutError("the server did not start to listen")
        return self

    def __exit__(self, *_: object) -> None:
        if self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        place = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.port = place.getsockname()[1]
        listener = await self.open(place)
        self._listening.set()
        await self._stopping.wait()
        listener.close()


class WireServer(LoopServer):
    """A server that answers HTTP/1.1. Subclasses write `answer`.

    `received`: every request, in order of arrival. `connections`: how many sockets were ever accepted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.received: list[Received] = []
        self.connections = 0
        self.open_connections = 0
        self.faults: list[BaseException] = []

    async def answer(self, reply: Reply) -> None:
        raise NotImplementedError

    async def open(self, place: socket.socket) -> asyncio.AbstractServer:
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: _Connection(self), sock=place, backlog=2048)


class _Connection(asyncio.Protocol):
    """One socket: requests are answered one after another, as HTTP/1.1 wants."""

    transport: asyncio.Transport

    def __init__(self, server: WireServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._fields: Headers = []
        self._parts: list[bytes] = []
        self._waiting: list[Received] = []
        self._current: Received | None = None
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._server.connections += 1
        self._server.open_connections += 1

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as fault:
            self._server.faults.append(fault)
            self.transport.abort()

    def eof_received(self) -> bool:
        self._note_gone()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.open_connections -= 1
        self._note_gone()
        self._writable.set()
        if self._task is not None:
            self._task.cancel()

    def _note_gone(self) -> None:
        for received in [self._current, *self._waiting]:
            if received is not None and not received.answered and received.gone_at is None:
                received.gone_at = time.monotonic()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def on_message_begin(self) -> None:
        self._path, self._fields, self._parts = b"", [], []

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        received = Received(method, self._path.decode("latin-1"), self._fields, b"".join(self._parts))
        self._server.received.append(received)
        self._waiting.append(received)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._answer_waiting())

    async def _answer_waiting(self) -> None:
        try:
            while self._waiting:
                self._current = self._waiting.pop(0)
                await self._server.answer(Reply(self._current, self))
        except ConnectionResetError:
            self._note_gone()
        except Exception as fault:  # noqa: BLE001  a fault of a script must reach the test, not the loop's log
            self._server.faults.append(fault)
            self.transport.abort()
        finally:
            self._task = None

    async def write(self, data: bytes) -> None:
        if self.transport.is_closing():
            raise ConnectionResetError
        self.transport.write(data)
        if not self._writable.is_set():
            await self._writable.wait()

    def reset(self) -> None:
        reset(self.transport)


def reset(transport: asyncio.WriteTransport) -> None:
    """Ends a connection with a TCP reset, whatever was still to be sent."""
    raw = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def eventually(
    holds: Callable[[], Any], within_s: float = 5.0, what: str = "", longest_step_s: float = LONGEST_WAIT_STEP_S
) -> Any:
    """The first truthy value of `holds()`; `TimeoutError` when there is none within `within_s`. `longest_step_s`: by
    how much it may be told too late."""
    began = time.monotonic()
    while True:
        value = holds()
        if value:
            return value
        waited_s = time.monotonic() - began
        if waited_s > within_s:
            raise TimeoutError(f"not within {within_s} s: {what or holds}")
        time.sleep(min(max(WAIT_STEP_S, waited_s / 16), longest_step_s))
