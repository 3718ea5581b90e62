"""One connection of a caller: requests one after another, each answered by the handler in a task of its own."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus
from time import monotonic, time
from typing import cast
from urllib.parse import unquote_to_bytes

import httptools
from msgspec import Struct

from penstock.surfaces.http1.request import HeaderList, Request

Handle = Callable[[Request], Awaitable[None]]

_log = logging.getLogger("penstock.http")

_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
UNREAD_BODY_BYTES = 256 * 1024
"""How much of a body that nobody read is taken in to keep a connection; above, it closes."""

NEVER = float("inf")

LINGER_S = 2.0
"""How long a connection that was answered early is still read, so that the peer sees the answer and not a reset."""


class ServerLimits(Struct, frozen=True):
    """Bounds on one connection and on all of them."""

    header_read_timeout_ms: int = 15_000
    keep_alive_timeout_ms: int = 75_000
    body_timeout_ms: int = 60_000
    max_head_bytes: int = 65_536
    max_fields: int = 200
    max_connections: int = 10_000
    high_water_bytes: int = 262_144


class Shared:
    """What all connections of a server share: the handler, the bounds, the `date` header of this second."""

    def __init__(self, handle: Handle, limits: ServerLimits) -> None:
        self.handle = handle
        self.limits = limits
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.stopping = False
        self._date = b""
        self._date_until = 0

    def date(self) -> bytes:
        now = int(time())
        if now != self._date_until:
            self._date, self._date_until = f"date: {formatdate(now, usegmt=True)}\r\n".encode(), now
        return self._date


class _BadRequest(Exception):
    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message


class Connection(asyncio.Protocol):
    """States of a connection: reading a head, serving one request (more may wait behind it), idle, closing."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._parsing: Request | None = None
        self._serving: Request | None = None
        self._queue: deque[Request] = deque()
        self._target = b""
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._fields = 0
        self._body_waiter: asyncio.Future[None] | None = None
        self._write_waiter: asyncio.Future[None] | None = None
        self._paused_writing = False
        self._paused_reading = False
        self._pending_head = b""
        self._chunked = False
        self._lingering = False
        self.deadline = 0.0

    # -- the transport ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's does not derive from it
        self._transport = transport
        transport.set_write_buffer_limits(self._shared.limits.high_water_bytes)
        shared = self._shared
        if len(shared.connections) >= shared.limits.max_connections:
            transport.abort()
            return
        shared.connections.add(self)
        self._await(shared.limits.header_read_timeout_ms)

    def data_received(self, data: bytes) -> None:
        if not self._lingering:
            self._parse(data)

    def eof_received(self) -> bool:
        self._lose()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.connections.discard(self)
        self._lose()

    def pause_writing(self) -> None:
        self._paused_writing = True

    def resume_writing(self) -> None:
        self._paused_writing = False
        _wake(self._write_waiter)

    @property
    def idle(self) -> bool:
        return self._serving is None

    def _lose(self) -> None:
        """The peer is gone: whoever waits is told, once."""
        self._queue.clear()
        request = self._serving
        if request is not None and not request.gone:
            request.gone = True
            _wake(self._body_waiter)
            _wake(self._write_waiter)
            if request.on_disconnect is not None:
                request.on_disconnect()

    def _await(self, timeout_ms: int) -> None:
        self.deadline = monotonic() + timeout_ms / 1000

    def expire(self) -> None:
        """The deadline has passed: an idle or half-said connection closes, a body that stalls breaks off."""
        self._lose()
        if self._transport is not None:
            self._transport.abort()

    # -- parsing ------------------------------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400, "This server does not upgrade connections.")
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, _BadRequest):
                self._refuse(cause.status, cause.message)
            else:
                self._refuse(400, "The request is not valid HTTP/1.1.")
        except _BadRequest as bad:
            self._refuse(bad.status, bad.message)

    def on_message_begin(self) -> None:
        self._target, self._headers = b"", {}
        self._head_bytes = self._fields = 0

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._count_head(len(name) + len(value) + 4)
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._shared.limits.max_head_bytes or self._fields > self._shared.limits.max_fields:
            raise _BadRequest(431, "The request's head is too large.")

    def on_headers_complete(self) -> None:
        headers = self._headers
        if "transfer-encoding" in headers and (
            "content-length" in headers or headers["transfer-encoding"] != "chunked"
        ):
            raise _BadRequest(400, "The request's length is ambiguous.")
        target = self._target.decode("latin-1")
        raw_path = self._target.partition(b"?")[0]
        path = (unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path).decode("utf-8", "replace")
        request = Request(self, self._parser.get_method().decode("latin-1"), target, path, headers)
        request.keep_alive = self._parser.should_keep_alive() and not self._shared.stopping
        request.expects_continue = headers.get("expect", "").lower() == "100-continue"
        self._parsing = request
        if self._serving is None:
            self._start(request)
        else:
            self._queue.append(request)
            self._pause_reading()

    def on_body(self, body: bytes) -> None:
        request = self._parsing
        if request is None:
            return
        request.parts.append(body)
        request.parts_bytes += len(body)
        if request.parts_bytes > self._shared.limits.high_water_bytes:
            self._pause_reading()
        if request is self._serving:
            self._await(self._shared.limits.body_timeout_ms)
            _wake(self._body_waiter)

    def on_message_complete(self) -> None:
        request = self._parsing
        if request is None:
            return
        request.complete = True
        if request is self._serving:
            self.deadline = NEVER
            _wake(self._body_waiter)

    # -- serving ------------------------------------------------------------------------------------------------------

    def _start(self, request: Request) -> None:
        """Its turn has come. The handler's task bounds its own time; a body that stalls is bounded here."""
        self._serving = request
        self.deadline = NEVER if request.complete else monotonic() + self._shared.limits.body_timeout_ms / 1000
        task = self._loop.create_task(self._serve(request))
        self._shared.tasks.add(task)
        task.add_done_callback(self._shared.tasks.discard)

    async def _serve(self, request: Request) -> None:
        try:
            await self._shared.handle(request)
        except Exception:  # noqa: BLE001  the edge: a fault of ours ends one request, not the server
            _log.exception("a request was not answered")
        if request is self._serving and not request.gone and not request.answered:
            self._refuse(500, "The gateway met a fault of its own.")

    async def more_body(self, request: Request) -> bytes:
        while not request.parts:
            if request.complete or request.gone:
                return b""
            if request.expects_continue and self._transport is not None:
                request.expects_continue = False
                self._transport.write(_CONTINUE)
            self._resume_reading()
            self._body_waiter = self._loop.create_future()
            await self._body_waiter
        parts, request.parts, request.parts_bytes = request.parts, [], 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write_head_and_body(self, request: Request, status: int, headers: HeaderList, body: bytes) -> None:
        if request is not self._serving or request.gone or self._transport is None:
            return
        head = self._head(request, status, headers)
        head += f"content-length: {len(body)}\r\n\r\n".encode()
        self._transport.write(head if request.method == "HEAD" else head + body)
        self._turn(request)

    def write_head(self, request: Request, status: int, headers: HeaderList) -> None:
        self._chunked = True
        self._pending_head = self._head(request, status, headers) + b"transfer-encoding: chunked\r\n\r\n"

    async def write_chunk(self, chunk: bytes) -> None:
        request = self._serving
        if request is None or request.gone or self._transport is None:
            raise ConnectionResetError("the peer is gone")
        head, self._pending_head = self._pending_head, b""
        self._transport.write(b"%b%x\r\n%b\r\n" % (head, len(chunk), chunk) if chunk else head)
        if self._paused_writing:
            self._write_waiter = self._loop.create_future()
            await self._write_waiter
            if request.gone:
                raise ConnectionResetError("the peer is gone")

    def finish(self) -> None:
        request = self._serving
        if request is None or request.gone or self._transport is None:
            return
        self._transport.write(self._pending_head + _LAST_CHUNK)
        self._pending_head = b""
        self._turn(request)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _head(self, request: Request, status: int, headers: HeaderList) -> bytes:
        parts = [_STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n".encode()]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        head = b"".join(parts)
        if head.count(b"\n") != len(headers) + 1 or b"\0" in head:
            raise ValueError("a response header holds a line break")
        head += self._shared.date()
        return head if self._keeps(request) else head + b"connection: close\r\n"

    def _keeps(self, request: Request) -> bool:
        if self._shared.stopping:
            request.keep_alive = False
        return request.keep_alive and (request.complete or request.parts_bytes <= UNREAD_BODY_BYTES)

    def _turn(self, request: Request) -> None:
        """The answer is complete: on to the next request, or the end."""
        self._serving = None
        if not request.keep_alive or not request.complete:
            self._linger()
            return
        self._await(self._shared.limits.keep_alive_timeout_ms)
        self._resume_reading()
        if self._queue:
            self._start(self._queue.popleft())

    def _refuse(self, status: int, message: str) -> None:
        """Answers what cannot be served, and closes."""
        kind = '"type":"invalid_request_error","param":null,"code":"invalid_request"'
        text = f'{{"error":{{"message":"{message}",{kind}}}}}'
        request, self._serving, self._parsing = self._serving, None, None
        if request is not None and request.answered:
            self.abort()
            return
        if self._transport is not None and not self._transport.is_closing():
            line = _STATUS_LINES[status]
            head = b"content-type: application/json\r\nconnection: close\r\n" + self._shared.date()
            self._transport.write(b"%b%bcontent-length: %d\r\n\r\n%b" % (line, head, len(text), text.encode()))
        self._linger()

    def _linger(self) -> None:
        """Closes for writing, and goes on reading for a moment."""
        self._lingering = True
        self._await(int(LINGER_S * 1000))
        self._resume_reading()
        if self._transport is not None and not self._transport.is_closing():
            if self._transport.can_write_eof():
                self._transport.write_eof()
            else:
                self._transport.close()

    def _pause_reading(self) -> None:
        if not self._paused_reading and self._transport is not None and not self._transport.is_closing():
            self._paused_reading = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._paused_reading and self._transport is not None and not self._transport.is_closing():
            self._paused_reading = False
            self._transport.resume_reading()


def _wake(waiter: "asyncio.Future[None] | None") -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
