"""One connection of a caller: requests one after another, each answered by the handler in a task of its own."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import cast

import httptools
from msgspec import Struct

from penstock.surfaces.http1.heads import LOWER, BadRequest, DateHeader, answer_head, check_head, path_of
from penstock.surfaces.http1.refusal import refusal
from penstock.surfaces.http1.request import HeaderList, Request

Handle = Callable[[Request], Awaitable[None]]

_log = logging.getLogger("penstock.http")

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_BARE = (204, 304)
"""Statuses whose answers have no body and no length (RFC 9110, sections 15.3.5 and 15.4.5)."""

UNREAD_BODY_BYTES = 256 * 1024
"""How much of a body that nobody read is taken in to keep a connection; above, it closes."""

MAX_PIPELINED = 64
PIPELINED_BYTES = 64 * 1024
"""How many requests, and how many unread bytes, wait behind the one that is served."""

LINGER_MS = 2_000
"""How long a connection that was answered early is still read, so that the peer sees the answer and not a reset."""

NEVER = float("inf")


class ServerLimits(Struct, frozen=True):
    """Bounds on one connection and on all of them. `body_timeout_ms` is between two pieces of a body,
    `send_timeout_ms` between two moments in which the peer took something of the answer."""

    header_read_timeout_ms: int = 15_000
    keep_alive_timeout_ms: int = 75_000
    body_timeout_ms: int = 60_000
    send_timeout_ms: int = 60_000
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
        self.date = DateHeader()


class Connection(asyncio.Protocol):
    """At any time one request at most is being read (`_parsing`) and one is being served (`_serving`); often they are
    the same. Complete requests wait in `_queue`, bytes behind them in `_behind`, a refusal behind those in `_fault`.
    A deaf connection reads only to notice the peer's end."""

    __slots__ = (
        "_behind",
        "_body_limit_bytes",
        "_body_waiter",
        "_fault",
        "_feed_bytes",
        "_fruitless_bytes",
        "_has_body",
        "_headers",
        "_in_head",
        "_is_chunked",
        "_is_deaf",
        "_is_fruitful",
        "_is_reading_paused",
        "_is_writing_paused",
        "_loop",
        "_parser",
        "_parsing",
        "_peer",
        "_pending_head",
        "_queue",
        "_repeated",
        "_serving",
        "_shared",
        "_target",
        "_transport",
        "_unsent_bytes",
        "_write_waiter",
        "deadline",
    )

    _transport: asyncio.Transport
    _peer: str

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        # What is being read.
        self._target = b""
        self._headers: dict[str, str] = {}
        self._repeated = 0
        self._in_head = False
        self._feed_bytes = 0
        self._fruitless_bytes = 0
        self._is_fruitful = False
        self._parsing: Request | None = None
        # What waits.
        self._queue: deque[Request] = deque()
        self._behind = b""
        self._fault: tuple[int, str] | None = None
        self._is_deaf = False
        self._is_reading_paused = False
        # What is being answered.
        self._serving: Request | None = None
        self._pending_head = b""
        self._is_chunked = False
        self._has_body = False
        self._is_writing_paused = False
        self._unsent_bytes = 0
        self._body_limit_bytes = 0
        self._body_waiter: asyncio.Future[None] | None = None
        self._write_waiter: asyncio.Future[None] | None = None
        self.deadline = NEVER

    # -- the transport ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not derive from it
        name = transport.get_extra_info("peername")
        self._peer = str(name[0]) if isinstance(name, tuple) and name else ""
        shared = self._shared
        self._transport.set_write_buffer_limits(shared.limits.high_water_bytes)
        is_full = len(shared.connections) >= shared.limits.max_connections
        shared.connections.add(self)
        self._await(shared.limits.header_read_timeout_ms)
        if shared.stopping:
            self._close()
        elif is_full:
            self._write_refusal(503, "The gateway has as many connections as it may. Try again.")
            self._close()

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        serving = self._serving
        if self._queue or (serving is not None and serving.complete):
            self._behind += data
            if len(self._behind) > PIPELINED_BYTES:
                self._pause_reading()
            return
        self._parse(data)

    def eof_received(self) -> bool:
        self._lose()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.connections.discard(self)
        self._lose()

    def pause_writing(self) -> None:
        self._is_writing_paused = True

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        if self._serving is not None:
            self.deadline = NEVER
            _wake(self._write_waiter)
        elif not self._is_deaf and (self._parsing is None or not self._parsing.finished):
            self._next()

    # -- the server ---------------------------------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        return self._serving is not None or self._transport.get_write_buffer_size() > 0

    def close_if_idle(self) -> None:
        """Between two requests there is nothing to wait for."""
        if self._serving is None and self._parsing is None and not self._in_head and not self._is_deaf:
            self._close()

    def expire(self) -> None:
        """The deadline has passed. A peer that still takes the answer has more time; a body that stalls is its
        handler's to refuse; half a head is refused here; the rest is cut."""
        unsent_bytes = self._transport.get_write_buffer_size()
        if unsent_bytes and unsent_bytes != self._unsent_bytes:
            self._await_peer()
        elif self._serving is not None and self._body_waiter is not None:
            self._break(self._serving)
        elif self._in_head and self._serving is None and not self._is_deaf:
            self._refuse(408, "The request did not arrive in time.")
        else:
            self.cut()

    def cut(self) -> None:
        """Ends it, whatever is under way; who waits is told."""
        self._lose()
        self._transport.abort()

    def _lose(self) -> None:
        """The peer is gone: whoever waits is told, once."""
        self._is_deaf = True
        self._queue.clear()
        self._behind, self._pending_head, self._fault = b"", b"", None
        request = self._serving
        if request is not None and not request.gone:
            request.gone = True
            _wake(self._body_waiter)
            _wake(self._write_waiter)
            if request.on_disconnect is not None:
                request.on_disconnect()

    def _await(self, timeout_ms: int) -> None:
        self.deadline = monotonic() + timeout_ms / 1000

    def _await_peer(self) -> None:
        """It has to take some of what was written within the time for that."""
        self._unsent_bytes = self._transport.get_write_buffer_size()
        self._await(self._shared.limits.send_timeout_ms)

    # -- reading ------------------------------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        self._feed_bytes, self._is_fruitful = len(data), False
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            if self._parsing is not None:
                self._break(self._parsing)
            elif isinstance(cause, BadRequest):
                self._refuse(cause.status, cause.message)
            else:
                self._refuse(400, "The request is not valid HTTP/1.1.")
            return
        if self._is_fruitful:
            self._fruitless_bytes = 0
            return
        limits = self._shared.limits
        self._fruitless_bytes += len(data)
        if self._fruitless_bytes > limits.max_head_bytes or len(self._headers) > limits.max_fields:
            if self._parsing is None:
                self._refuse(431, "The request's head is too large.")
            else:
                self._break(self._parsing)  # trailers or chunk extensions without end

    def _feed(self, data: bytes) -> None:
        """A request to upgrade is served as if it had not asked: the parser, which would leave HTTP here and skip the
        body, gets the same head once more without that wish."""
        while True:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                method, version = self._parser.get_method().decode("latin-1"), self._parser.get_http_version()
                line = f"{method} {self._target.decode('latin-1')} HTTP/{version}\r\n"
                fields = [f"{name}: {value}\r\n" for name, value in self._headers.items() if name != "upgrade"]
                data = "".join([line, *fields, "\r\n"]).encode("latin-1") + data[upgrade.args[0] :]
                self._parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self._in_head = True
        self._target = b""
        self._repeated = 0
        if self._headers:
            self._headers = {}
        if self._serving is None:
            self._await(self._shared.limits.header_read_timeout_ms)

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Also called for trailers, which go into a dictionary that nobody reads."""
        headers = self._headers
        key = LOWER.get(name) or name.decode("latin-1").lower()
        text = value.decode("latin-1").rstrip(" \t")
        if key in headers:
            self._repeated += 1
            if self._repeated > self._shared.limits.max_fields:
                raise BadRequest(431, "The request's head is too large.")
            text = f"{headers[key]}, {text}"
        headers[key] = text

    def on_headers_complete(self) -> None:
        headers, parser = self._headers, self._parser
        method = parser.get_method().decode("latin-1")
        if "upgrade" in headers and parser.should_upgrade() and method != "CONNECT":
            return  # `_feed` comes again with the same head
        if self._is_deaf:
            raise BadRequest(400, "Nothing is read any more.")  # the bytes before this head closed the connection
        if self._fruitless_bytes + self._feed_bytes > self._shared.limits.max_head_bytes:
            self._measure_head()
        if len(headers) + self._repeated > self._shared.limits.max_fields:
            raise BadRequest(431, "The request's head has too many fields.")
        if len(self._queue) >= MAX_PIPELINED:
            raise BadRequest(400, "Too many requests were sent at once.")
        request = Request(self, method, self._target.decode("latin-1"), path_of(self._target), headers)
        request.peer = self._peer
        request.version = parser.get_http_version()
        check_head(request)
        request.keep_alive = parser.should_keep_alive() and request.version == "1.1"
        self._headers = {}
        self._in_head, self._is_fruitful = False, True
        self._parsing = request
        if self._serving is None and not self._queue and not self._is_writing_paused:
            self._start(request)
        else:
            self._queue.append(request)

    def _measure_head(self) -> None:
        """Only a head that came with more bytes than one may have needs to be measured."""
        limit_bytes = self._shared.limits.max_head_bytes
        if len(self._target) > limit_bytes:
            raise BadRequest(414, "The request's target is too long.")
        fields_bytes = sum(len(name) + len(value) + 4 for name, value in self._headers.items())
        if len(self._target) + fields_bytes > limit_bytes:
            raise BadRequest(431, "The request's head is too large.")

    def on_body(self, body: bytes) -> None:
        request = self._parsing
        if request is None:
            return
        self._is_fruitful = True
        request.received_bytes += len(body)
        if request.finished:
            if request.received_bytes > request.drain_until_bytes and not self._is_deaf:
                self._close(lingering=True)
            return
        request.parts.append(body)
        if request is not self._serving or self._body_waiter is None:
            if request.received_bytes > self._shared.limits.high_water_bytes:
                self._pause_reading()
        elif request.received_bytes > self._body_limit_bytes:
            _wake(self._body_waiter)
        else:
            self._await(self._shared.limits.body_timeout_ms)

    def on_message_complete(self) -> None:
        request, self._parsing = self._parsing, None
        if request is None:
            return
        self._is_fruitful = True
        request.complete = True
        if request is self._serving:
            _wake(self._body_waiter)
        elif request.finished and not self._is_deaf:
            self._rest()

    def _break(self, request: Request) -> None:
        """The rest of its body will not come, or cannot be read. Its handler answers that, if it asks for the body."""
        self._is_deaf = True
        request.broken, request.keep_alive = True, False
        if request is self._serving:
            self.deadline = NEVER
            _wake(self._body_waiter)
        elif request.finished:
            self._close(lingering=True)

    def more_body(self, request: Request, limit_bytes: int) -> "asyncio.Future[None]":
        """Done when the body is complete, has more than `limit_bytes`, or will not be complete."""
        waiter = self._loop.create_future()
        if request.gone or request.broken or request is not self._serving:
            waiter.set_result(None)
            return waiter
        self._body_waiter = waiter
        waiter.add_done_callback(self._end_body_wait)
        if request.expects_continue and not request.received_bytes:
            self._transport.write(_CONTINUE)
        request.expects_continue = False
        self._body_limit_bytes = limit_bytes
        self._await(self._shared.limits.body_timeout_ms)
        self._resume_reading()
        return waiter

    def _end_body_wait(self, waiter: "asyncio.Future[None]") -> None:
        if self._body_waiter is waiter:
            self._body_waiter = None
            if self._serving is not None:
                self.deadline = NEVER

    # -- serving ------------------------------------------------------------------------------------------------------

    def _start(self, request: Request) -> None:
        """Its turn has come. The handler bounds its own time; the connection bounds its waits for the peer."""
        self._serving = request
        self.deadline = NEVER
        request.task = task = self._loop.create_task(self._serve(request))
        self._shared.tasks.add(task)

    async def _serve(self, request: Request) -> None:
        shared = self._shared
        try:
            if not request.gone:
                await shared.handle(request)
        except Exception as error:  # noqa: BLE001  the edge: a fault of ours ends one request, not the server
            if not (request.gone and isinstance(error, ConnectionResetError)):
                _log.exception("a request was not answered")
        finally:
            if request.task is not None:
                shared.tasks.discard(request.task)
            if request is self._serving and not request.gone:
                self._make_up_for(request)

    def _make_up_for(self, request: Request) -> None:
        """Its handler has ended and its answer has not."""
        if request.answered:
            self.abort(request)
            return
        request.keep_alive = False
        self.write_answer(request, 500, *refusal(500, "The gateway met a fault of its own."))

    def write_answer(self, request: Request, status: int, headers: HeaderList, body: bytes) -> None:
        if request.answered:
            raise RuntimeError("the request is answered already")
        head = self._head(request, status, headers)
        request.answered = True
        if request is not self._serving or request.gone:
            return
        if status in _BARE:
            self._transport.write(head + b"\r\n")
        elif request.method == "HEAD":
            self._transport.write(b"%bcontent-length: %d\r\n\r\n" % (head, len(body)))
        else:
            self._transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        self._turn(request)

    def write_head(self, request: Request, status: int, headers: HeaderList) -> None:
        """A peer that speaks HTTP/1.0 knows no chunks: there the answer ends where the connection does."""
        if request.answered:
            raise RuntimeError("the request is answered already")
        head = self._head(request, status, headers)
        request.answered = True
        if request is not self._serving or request.gone:
            return
        self._has_body = status not in _BARE and request.method != "HEAD"
        self._is_chunked = self._has_body and request.version == "1.1"
        self._pending_head = head + (b"transfer-encoding: chunked\r\n\r\n" if self._is_chunked else b"\r\n")
        self._loop.call_soon(self._flush_head)

    def _flush_head(self) -> None:
        if self._pending_head:
            self._transport.write(self._pending_head)
            self._pending_head = b""

    def write_chunk(self, request: Request, chunk: bytes) -> "asyncio.Future[None] | None":
        """What to wait for, or None. Raises `ConnectionResetError` when the peer is gone."""
        if request.gone or request is not self._serving:
            raise ConnectionResetError("the peer is gone")
        head = self._pending_head
        if chunk and self._has_body:
            self._transport.write(b"%b%x\r\n%b\r\n" % (head, len(chunk), chunk) if self._is_chunked else head + chunk)
            self._pending_head = b""
        if not self._is_writing_paused:
            return None
        self._await_peer()
        self._write_waiter = self._loop.create_future()
        return self._write_waiter

    def finish(self, request: Request) -> None:
        if request is not self._serving or request.gone:
            return
        self._transport.write(self._pending_head + _LAST_CHUNK if self._is_chunked else self._pending_head)
        self._pending_head = b""
        self._turn(request)

    def abort(self, request: Request) -> None:
        if request is self._serving:
            request.gone = True
            self.cut()

    def _head(self, request: Request, status: int, headers: HeaderList) -> bytes:
        head = answer_head(status, headers) + self._shared.date.line()
        if request.keep_alive and not self._shared.stopping and self._can_drain(request):
            return head
        request.keep_alive = False
        return head + b"connection: close\r\n"

    def _can_drain(self, request: Request) -> bool:
        """Whether so little of the body can be missing that the connection is worth taking it in."""
        if request.complete:
            return True
        declared = request.headers.get("content-length")
        unread_bytes = request.received_bytes if declared is None else int(declared) - request.received_bytes
        return unread_bytes <= UNREAD_BODY_BYTES and not request.expects_continue

    # -- between two requests, and the end ----------------------------------------------------------------------------

    def _turn(self, request: Request) -> None:
        """The answer is complete: on to the next request, or the end."""
        request.finished = True
        self._serving = None
        if not request.keep_alive:
            self._close(lingering=not request.complete)
        elif request.complete:
            self._next()
        else:
            request.parts.clear()
            request.drain_until_bytes = request.received_bytes + UNREAD_BODY_BYTES
            self._await(self._shared.limits.body_timeout_ms)
            self._resume_reading()

    def _next(self) -> None:
        """Serves what waits, unless the peer has yet to take what it was answered."""
        if self._is_writing_paused:
            self._await_peer()
            return
        if self._queue:
            self._start(self._queue.popleft())
        elif self._fault is not None:
            self._write_refusal(*self._fault)
            self._close(lingering=True)
            return
        else:
            self._rest()
        if self._behind and not self._queue:
            behind, self._behind = self._behind, b""
            self._parse(behind)
        self._resume_reading()

    def _rest(self) -> None:
        """No request is there, or a part of one."""
        limits = self._shared.limits
        if self._shared.stopping and not self._in_head and not self._behind:
            self._close()
        else:
            self._await(limits.header_read_timeout_ms if self._in_head else limits.keep_alive_timeout_ms)

    def _refuse(self, status: int, message: str) -> None:
        """What follows cannot be served. It is told when its turn comes, and the connection closes."""
        if self._is_deaf:
            return
        self._is_deaf = True
        if self._serving is None and not self._queue:
            self._write_refusal(status, message)
            self._close(lingering=True)
        else:
            self._fault = (status, message)

    def _write_refusal(self, status: int, message: str) -> None:
        headers, body = refusal(status, message)
        head = answer_head(status, headers) + self._shared.date.line()
        self._transport.write(b"%bconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (head, len(body), body))

    def _close(self, lingering: bool = False) -> None:
        """Closes when all is sent. `lingering`: what still comes is read for a moment and dropped."""
        self._is_deaf = True
        self._queue.clear()
        self._behind = b""
        if lingering and not self._transport.is_closing():
            self._unsent_bytes = 0
            self._await(LINGER_MS)
            self._resume_reading()
            if self._transport.can_write_eof():  # TLS has no half of a connection to close
                self._transport.write_eof()
        else:
            self._await_peer()
            self._transport.close()

    def _pause_reading(self) -> None:
        if not self._is_reading_paused and not self._transport.is_closing():
            self._is_reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._is_reading_paused and not self._transport.is_closing():
            self._is_reading_paused = False
            self._transport.resume_reading()


def _wake(waiter: "asyncio.Future[None] | None") -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
