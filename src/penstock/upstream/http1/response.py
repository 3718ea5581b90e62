"""One response: llhttp's callbacks on one side, a reader that awaits on the other, bounds on everything between."""

import asyncio
import re
from functools import lru_cache
from typing import Protocol

import httptools

from penstock.domain.http import Headers, HttpRequest
from penstock.errors import UpstreamError, UpstreamMalformed, UpstreamReset, UpstreamTimeout
from penstock.upstream.http1.inflate import Inflater, is_inflatable

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 200
MAX_INFORMATIONAL = 16
MAX_FRAMING_BYTES = 64 * 1024
"""What may come in a row between two bytes of body: chunk extensions, trailers."""
PAUSE_ABOVE_BYTES = 256 * 1024

_SPECIAL = frozenset({"content-length", "transfer-encoding", "content-encoding", "keep-alive"})
_KEEP_ALIVE_TIMEOUT = re.compile(r"timeout=(\d{1,6})")
_LATE = {
    "first_byte": "The provider did not begin to answer in time.",
    "between_chunks": "The provider stopped in the middle of its answer.",
    "total": "The call took longer than its total time limit.",
}


class Wire(Protocol):
    """What a response needs of the connection that carries it."""

    def arm(self, deadline_s: float) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def finish(self, is_reusable: bool, keep_alive_s: float) -> None: ...
    def abort(self) -> None: ...


class Http1Response:
    """The `UpstreamResponse` of HTTP/1.1. It holds the connection until its last byte came, and not a moment longer:
    a body that nobody reads up is kept here while the connection serves the next call."""

    __slots__ = (
        "_between_chunks_s",
        "_buffered_bytes",
        "_chunks",
        "_fault",
        "_first_byte_s",
        "_framing_bytes",
        "_has_head",
        "_head_bytes",
        "_inflater",
        "_informational",
        "_is_complete",
        "_is_head_request",
        "_is_in_head",
        "_is_paused",
        "_is_until_close",
        "_keep_alive",
        "_keep_alive_s",
        "_left",
        "_loop",
        "_parser",
        "_phase",
        "_phase_deadline_s",
        "_total_deadline_s",
        "_waiter",
        "_wire",
        "headers",
        "is_received",
        "status",
    )

    def __init__(
        self, wire: Wire, request: HttpRequest, total_deadline_s: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.status = 0
        self.headers: Headers = []
        self.is_received = False
        """Whether a single byte has come."""
        self._wire: Wire | None = wire
        self._loop = loop
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._is_head_request = request.method == "HEAD"
        self._first_byte_s = request.timeouts.first_byte_ms / 1000
        self._between_chunks_s = request.timeouts.between_chunks_ms / 1000
        self._total_deadline_s = total_deadline_s
        self._phase = "first_byte"
        self._phase_deadline_s = total_deadline_s
        self._waiter: asyncio.Future[None] | None = None
        self._fault: UpstreamError | None = None
        self._chunks: list[bytes] = []
        self._left = b""
        self._buffered_bytes = 0
        self._framing_bytes = 0
        self._head_bytes = 0
        self._informational = 0
        self._inflater: Inflater | None = None
        self._has_head = False
        self._is_in_head = False
        self._is_complete = False
        self._is_until_close = False
        self._is_paused = False
        self._keep_alive = False
        self._keep_alive_s = float("inf")

    # What the caller does.

    async def read(self) -> bytes:
        inflater = self._inflater
        while True:
            data = self._take() if inflater is None else self._take_inflated(inflater)
            if data:
                return data
            if self._fault is not None:
                raise self._fault
            if self._is_complete:
                return b""
            self._begin_phase("between_chunks", self._between_chunks_s)
            await self._arrival()

    async def read_all(self, limit_bytes: int) -> bytes:
        parts = []
        total_bytes = 0
        while data := await self.read():
            total_bytes += len(data)
            if total_bytes > limit_bytes:
                self.abort()
                raise UpstreamMalformed("The provider's answer is longer than the gateway takes.")
            parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def abort(self) -> None:
        if not self._is_complete:
            self._left = b"" if self._inflater is not None else b"".join(self._chunks)
            self._chunks.clear()
            self._buffered_bytes = 0
            self._inflater = None
            self.fail(UpstreamReset("The call was cut before the provider's answer was whole."))

    def unread(self) -> bytes:
        if self._inflater is None:
            self._left += b"".join(self._chunks)
        self._chunks.clear()
        self._buffered_bytes = 0
        left, self._left = self._left, b""
        return left

    # What the connection does.

    @property
    def wants_no_more(self) -> bool:
        """Whether the rest of the request's body need not be sent: the answer is an error, whole, or a fault."""
        return self._is_complete or self._fault is not None or self.status >= 400

    def begin_upload_step(self) -> None:
        """The request's body goes on its way; each step of it has `first_byte_ms` to leave."""
        self._begin_phase("first_byte", self._first_byte_s)

    async def head(self) -> None:
        """Returns when status and headers are there. The request's last byte has just been written."""
        if not self.is_received:
            self._begin_phase("first_byte", self._first_byte_s)
        while not self._has_head:
            if self._fault is not None:
                raise self._fault
            await self._arrival()

    def feed(self, data: bytes) -> None:
        """Bytes came. Whatever a hostile peer sends ends in data, completeness or a fault, never in an exception."""
        parser = self._parser
        if parser is None:
            return
        if not self._has_head:
            is_first, self.is_received = not self.is_received, True
            if is_first and not data.startswith(b"H"):  # llhttp takes RTSP and ICE for HTTP
                self.fail(UpstreamMalformed("The provider did not answer in HTTP/1.1."))
                return
            self._head_bytes += len(data)
        before = self._buffered_bytes
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._is_complete:
                refusal = error.__context__  # what one of the callbacks below raised
                if not isinstance(refusal, UpstreamMalformed):
                    refusal = UpstreamMalformed("The provider's answer is not well-formed HTTP/1.1.")
                self.fail(refusal)
                return
            self._keep_alive = False  # what follows a whole response answers nobody
        if self._is_complete:
            self._finish()
        elif self._buffered_bytes != before:
            self._framing_bytes = 0
            if self._buffered_bytes > PAUSE_ABOVE_BYTES and self._wire is not None:
                self._is_paused = True
                self._wire.pause()
        elif not self._check_progress(len(data)):
            return
        if self._has_head:
            self._wake()

    def feed_eof(self, is_clean: bool) -> None:
        """The peer closed. Only a body that is delimited by the close ends so, and only by a clean one."""
        if is_clean and self._is_until_close and not self._is_complete and self._fault is None:
            self._is_complete = True
            self._keep_alive = False
            self._finish()
            self._wake()
        else:
            self.fail(UpstreamReset("The provider closed the connection before its answer was whole."))

    def expire(self, now_s: float) -> None:
        """The armed deadline has passed. Once the head is there, only a reader that waits can wait too long."""
        if now_s >= self._total_deadline_s:
            self.fail(UpstreamTimeout(_LATE["total"], "total"))
        elif now_s >= self._phase_deadline_s and (self._waiter is not None or not self._has_head):
            self.fail(UpstreamTimeout(_LATE[self._phase], self._phase))
        elif self._wire is not None:
            self._wire.arm(self._total_deadline_s)

    def fail(self, fault: UpstreamError) -> None:
        """The response will not get further: closes the socket. A reader gets what came before, then `fault`."""
        if self._is_complete or self._fault is not None:
            return
        self._fault = fault
        wire, self._wire, self._parser = self._wire, None, None
        if wire is not None:
            wire.abort()
        self._wake()

    # What the parser says, in this order.

    def on_message_begin(self) -> None:
        if self._is_complete:
            raise UpstreamMalformed("The provider answered one request twice.")
        self._is_in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._has_head:
            return  # a trailer
        self.headers.append((_lower(name), value.decode("latin-1").rstrip(" \t")))

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        if len(self.headers) > MAX_HEADERS or (self._head_bytes > MAX_HEAD_BYTES and self._is_head_too_large()):
            raise UpstreamMalformed("The head of the provider's answer is too large.")
        status = parser.get_status_code()
        if status < 200:
            self._informational += 1
            if status < 100 or status == 101 or self._informational > MAX_INFORMATIONAL:
                raise UpstreamMalformed("The provider's answer is informational only.")
            return
        if not parser.get_http_version().startswith("1."):
            raise UpstreamMalformed("The provider did not answer in HTTP/1.1.")
        self._keep_alive = parser.should_keep_alive()
        self._read_framing(status)
        self.status = status
        self._has_head = True
        self._is_complete = self._is_head_request

    def on_body(self, data: bytes) -> None:
        if self._is_complete:
            raise UpstreamMalformed("The provider sent a body where none can be.")
        self._chunks.append(data)
        self._buffered_bytes += len(data)

    def on_message_complete(self) -> None:
        if self._has_head:
            self._is_complete = True
        else:  # 100 Continue and its kin: the wait for the answer's first byte goes on
            self.headers.clear()
            self._is_in_head = False

    # Inside.

    def _read_framing(self, status: int) -> None:
        """Takes from the headers what is the transport's own business."""
        self._is_until_close = status not in (204, 304)
        coding = ""
        for name, value in self.headers:
            if name not in _SPECIAL:
                continue
            if name == "content-length":
                self._is_until_close = False
            elif name == "transfer-encoding":
                if value.lower() != "chunked":
                    raise UpstreamMalformed("The provider's answer has an unknown transfer coding.")
                self._is_until_close = False
            elif name == "content-encoding":
                coding = f"{coding}, {value}" if coding else value
            elif found := _KEEP_ALIVE_TIMEOUT.search(value):
                self._keep_alive_s = float(found[1])
        if coding.lower() in ("", "identity") or self._is_head_request or status in (204, 304):
            return
        if not is_inflatable(coding):  # unread, it could be neither checked nor priced
            raise UpstreamMalformed("The provider's answer has a content coding that the gateway did not ask for.")
        self._inflater = Inflater(coding)
        self.headers = [field for field in self.headers if field[0] not in ("content-encoding", "content-length")]

    def _is_head_too_large(self) -> bool:
        return sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD_BYTES

    def _check_progress(self, count: int) -> bool:
        """Bytes came and brought neither body nor end. False when that went on for too long."""
        if self._has_head:
            self._framing_bytes += count
            if self._framing_bytes > MAX_FRAMING_BYTES:
                self.fail(UpstreamMalformed("The provider's answer has more framing than content."))
                return False
        elif self._head_bytes > MAX_HEAD_BYTES:
            self.fail(UpstreamMalformed("The head of the provider's answer is too large."))
            return False
        elif self._is_in_head and self._phase == "first_byte":
            self._begin_phase("between_chunks", self._between_chunks_s)
        elif not self._is_in_head and self._phase == "between_chunks":
            self._begin_phase("first_byte", self._first_byte_s)
        return True

    def _begin_phase(self, phase: str, bound_s: float) -> None:
        self._phase = phase
        deadline_s = self._loop.time() + bound_s
        self._phase_deadline_s = deadline_s if deadline_s < self._total_deadline_s else self._total_deadline_s
        if self._wire is not None:
            self._wire.arm(self._phase_deadline_s)

    async def _arrival(self) -> None:
        """Waits until something changed."""
        if self._waiter is not None:
            raise RuntimeError("two tasks read one response")
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _finish(self) -> None:
        wire, self._wire, self._parser = self._wire, None, None
        if wire is not None:
            wire.finish(self._keep_alive, self._keep_alive_s)

    def _take(self) -> bytes:
        """What has come of the body and was not handed out, in one piece."""
        chunks = self._chunks
        if not chunks:
            return b""
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._buffered_bytes = 0
        if self._is_paused:
            self._is_paused = False
            if self._wire is not None:
                self._wire.resume()
        return data

    def _take_inflated(self, inflater: Inflater) -> bytes:
        try:
            plain = inflater.pull()
            while not plain and (coded := self._take()):
                inflater.push(coded)
                plain = inflater.pull()
            if not plain and self._is_complete:
                inflater.finish()
        except ValueError as error:
            fault = UpstreamMalformed("The provider's answer is damaged.")
            self.fail(fault)
            self._chunks.clear()
            self._inflater = None
            self._fault = fault
            raise fault from error
        return plain


@lru_cache(maxsize=1024)
def _lower(name: bytes) -> str:
    return name.decode("latin-1").lower()
