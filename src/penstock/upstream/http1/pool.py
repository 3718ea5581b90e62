"""The connections to one origin: the idle ones (the last used is the first reused), and a bound on all of them."""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable

from msgspec import Struct

from penstock.domain.http import Origin
from penstock.errors import UpstreamConnectFailed, UpstreamTimeout
from penstock.upstream.http1.connection import Connection
from penstock.upstream.http1.request import host_of


class TransportSettings(Struct, frozen=True):
    """Per origin: `max_connections` open at once (a call that finds none free waits its turn), `max_idle` of them
    kept for reuse, each for `idle_timeout_ms` at most. `ca_file`: a PEM bundle that replaces the system's."""

    max_connections: int = 1_000
    max_idle: int = 256
    idle_timeout_ms: int = 15_000
    ca_file: str | None = None


class Pool:
    """A slot is the right to have one connection open. It belongs to a connection, to a task that makes one, or it
    is free; while tasks wait none is free, and a slot (or an idle connection) goes to the one that waits longest."""

    def __init__(self, origin: Origin, settings: TransportSettings, tls: Callable[[], ssl.SSLContext]) -> None:
        self._host = host_of(origin)
        self._origin = origin
        self._settings = settings
        self._tls = tls
        self._idle: list[Connection] = []
        self._owned: set[Connection] = set()
        self._taken_slots = 0
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._is_closed = False

    def reuse(self) -> Connection | None:
        """An idle connection that is fit to carry a call; unfit ones on the way to it are closed."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fit():
                return connection
            connection.abort()
        return None

    async def connect(self, deadline_s: float, must_be_fresh: bool = False) -> Connection:
        """A connection, new or handed over by another call (never that when `must_be_fresh`).

        Raises `UpstreamConnectFailed`, or `UpstreamTimeout` with phase `connect`: the wait for a slot, DNS, TCP and
        TLS together have until `deadline_s` (loop time).
        """
        try:
            async with asyncio.timeout_at(deadline_s):
                while True:
                    connection = await self._slot(must_be_fresh)
                    if connection is None:
                        return await self._open()
                    if connection.is_fit() and not must_be_fresh:
                        return connection
                    connection.abort()
        except TimeoutError as error:
            raise UpstreamTimeout("No connection to the provider could be made in time.", "connect") from error

    def release(self, connection: Connection) -> None:
        """Takes back a connection that can carry another call."""
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.set_result(connection)
        elif len(self._idle) < self._settings.max_idle and not self._is_closed:
            self._idle.append(connection)
        else:
            connection.abort()

    def forget(self, connection: Connection) -> None:
        """A connection has ended."""
        if connection in self._owned:
            self._owned.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._free_slot()

    def close(self) -> None:
        """Closes every connection; who waits for one, or asks later, gets `UpstreamConnectFailed`."""
        self._is_closed = True
        while (waiter := self._next_waiter()) is not None:
            waiter.set_exception(_closed())
        for connection in list(self._owned):
            connection.abort()

    async def _slot(self, must_be_fresh: bool) -> Connection | None:
        """None: a slot, taken. Else a connection that another call has just released."""
        if self._is_closed:
            raise _closed()
        if must_be_fresh and self._idle and self._taken_slots >= self._settings.max_connections:
            self._idle[0].abort()
        if self._taken_slots < self._settings.max_connections:
            self._taken_slots += 1
            return None
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._pass_on(waiter.result())
            raise

    def _pass_on(self, handed: Connection | None) -> None:
        """What was handed to a task that is gone goes to the next."""
        if handed is None:
            self._free_slot()
        elif handed.is_fit():
            self.release(handed)
        else:
            handed.abort()

    def _free_slot(self) -> None:
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.set_result(None)
        else:
            self._taken_slots -= 1

    def _next_waiter(self) -> asyncio.Future[Connection | None] | None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                return waiter
        return None

    async def _open(self) -> Connection:
        """Makes a connection in a slot that is taken; the slot is free again when that fails."""
        loop = asyncio.get_running_loop()
        connection = Connection(self, self._settings.idle_timeout_ms / 1000, loop)
        is_tls = self._origin.scheme == "https"
        try:
            await loop.create_connection(
                lambda: connection,
                self._host,
                self._origin.port,
                ssl=self._tls() if is_tls else None,
                server_hostname=self._host if is_tls else None,
            )
        except OSError as error:
            self._free_slot()
            raise UpstreamConnectFailed(_why(error)) from error
        except BaseException:
            connection.abort()
            self._free_slot()
            raise
        self._owned.add(connection)
        if self._is_closed or not connection.is_usable():
            connection.abort()
            self.forget(connection)  # one that ended before it was owned has not said so
            raise _closed() if self._is_closed else UpstreamConnectFailed("The provider closed the connection at once.")
        return connection


def _closed() -> UpstreamConnectFailed:
    return UpstreamConnectFailed("The gateway is closing its connections.")


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "The provider's certificate did not verify."
    if isinstance(error, ssl.SSLError):
        return "No secure connection to the provider could be made."
    return "The provider could not be reached."
