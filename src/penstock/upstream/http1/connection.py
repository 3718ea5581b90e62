"""One socket: it carries one call at a time, keeps the one timer that all deadlines share, and ends once."""

import asyncio
import select
from typing import Protocol, cast

from penstock.domain.http import HttpRequest
from penstock.errors import UpstreamReset
from penstock.upstream.http1.response import Http1Response

STEP_BYTES = 256 * 1024
"""A longer body is written in steps of this size, so that it never stands in the socket's buffer as a whole."""

_NEVER = float("inf")


class Owner(Protocol):
    """What a connection needs of its pool."""

    def release(self, connection: "Connection") -> None: ...
    def forget(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """`is_open` until the first of: an abort, the peer's close, bytes that nobody asked for, the idle deadline.
    `is_reused`: it has carried a call before."""

    __slots__ = (
        "_armed_s",
        "_deadline_s",
        "_drained",
        "_idle_timeout_s",
        "_is_request_sent",
        "_is_write_paused",
        "_loop",
        "_owner",
        "_poller",
        "_response",
        "_timer",
        "_transport",
        "is_open",
        "is_reused",
    )

    def __init__(self, owner: Owner, idle_timeout_s: float, loop: asyncio.AbstractEventLoop) -> None:
        self.is_open = True
        self.is_reused = False
        self._owner = owner
        self._loop = loop
        self._idle_timeout_s = idle_timeout_s
        self._transport: asyncio.Transport | None = None
        self._poller = select.poll()
        self._response: Http1Response | None = None
        self._is_request_sent = True
        self._is_write_paused = False
        self._drained: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed_s = _NEVER
        self._deadline_s = _NEVER

    # What the pool and the client do.

    async def exchange(self, head: bytes, request: HttpRequest, response: Http1Response) -> None:
        """Writes the request and returns when the head of the response is there; its faults are raised here.
        A caller that is cancelled closes the socket."""
        transport = self._transport
        assert transport is not None
        self._response = response
        body = request.body
        if len(body) <= STEP_BYTES:
            transport.write(head + body if body else head)
        else:
            self._is_request_sent = False
            transport.write(head)
            self._is_request_sent = await self._upload(transport, body, response)
        await response.head()

    def is_usable(self) -> bool:
        """Whether it can be written to, as far as the loop knows: a new connection asks no more, since after a TLS
        handshake the peer has more to say of its own accord."""
        return self.is_open and self._transport is not None and not self._transport.is_closing()

    def is_fit(self) -> bool:
        """Whether an idle connection may carry a call. It asks the kernel too: a close (or bytes that nobody asked
        for) which the loop has not seen yet is already there, and the call would be lost on it."""
        return self.is_usable() and self._loop.time() < self._deadline_s and not self._poller.poll(0)

    def abort(self) -> None:
        """Closes the socket at once. Idempotent."""
        if self.is_open:
            if self._transport is not None:
                self._transport.abort()
            self._leave()

    # What the response does: it knows this connection as its `Wire`.

    def arm(self, deadline_s: float) -> None:
        """Moves the deadline. A later one is free: the timer fires at the old time, looks, and goes on."""
        self._deadline_s = deadline_s
        if deadline_s < self._armed_s and self.is_open:
            if self._timer is not None:
                self._timer.cancel()
            self._armed_s = deadline_s
            self._timer = self._loop.call_at(deadline_s, self._on_timer)

    def pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def finish(self, is_reusable: bool, keep_alive_s: float) -> None:
        """The response is whole. What the peer says of its patience is taken with a margin for the way there."""
        self._response = None
        transport = self._transport
        idle_s = min(self._idle_timeout_s, max(keep_alive_s - 1, keep_alive_s / 2))
        if (
            is_reusable
            and idle_s > 0
            and self.is_open
            and self._is_request_sent
            and transport is not None
            and not transport.get_write_buffer_size()
        ):
            self.is_reused = True
            self.arm(self._loop.time() + idle_s)
            self._owner.release(self)
        else:
            self.abort()

    # What the loop does.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._poller.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        if self._response is not None:
            self._response.feed(data)
            if self._drained is not None:
                self._wake_upload()
        else:
            self.abort()  # nobody asked for it

    def eof_received(self) -> None:
        if self._response is not None:
            self._response.feed_eof(is_clean=True)
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._response is not None:
            self._response.feed_eof(is_clean=exc is None)
        self._leave()

    def pause_writing(self) -> None:
        self._is_write_paused = True

    def resume_writing(self) -> None:
        self._is_write_paused = False
        self._wake_upload()

    # Inside.

    async def _upload(self, transport: asyncio.Transport, body: bytes, response: Http1Response) -> bool:
        """Writes `body` at the pace of the peer. False when the answer made the rest of it pointless."""
        view = memoryview(body)
        for start in range(0, len(view), STEP_BYTES):
            if transport.is_closing():
                return False  # a write failed; `connection_lost` is on its way
            response.begin_upload_step()
            transport.write(view[start : start + STEP_BYTES])
            while self._is_write_paused and not response.wants_no_more:
                self._drained = self._loop.create_future()
                try:
                    await self._drained
                except asyncio.CancelledError:
                    response.abort()
                    raise
                finally:
                    self._drained = None
            if response.wants_no_more:
                return False
        return True

    def _wake_upload(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _on_timer(self) -> None:
        self._timer = None
        self._armed_s = _NEVER
        now_s = self._loop.time()
        if now_s < self._deadline_s:
            self.arm(self._deadline_s)
        elif self._response is not None:
            self._response.expire(now_s)
        else:
            self.abort()  # idle for long enough

    def _leave(self) -> None:
        """The end, whatever brought it: nothing of this connection stays behind."""
        if not self.is_open:
            return
        self.is_open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        response, self._response = self._response, None
        if response is not None:
            response.fail(UpstreamReset("The connection to the provider was closed."))
        self._wake_upload()
        self._owner.forget(self)
