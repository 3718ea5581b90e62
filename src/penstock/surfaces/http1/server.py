"""The listener: accepts, watches the deadlines of all connections with one timer, and stops in good order."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Sequence
from time import monotonic
from typing import Any

from penstock.surfaces.http1.protocol import Connection, Handle, ServerLimits, Shared

BACKLOG = 2048
SWEEP_S = 0.5
"""How far behind its deadline a connection may be noticed."""

HELP_S = 0.05
"""How long a connection may lie on the socket of a server that does not take it."""

HELPED_AT_ONCE = 64

HANDSHAKE_S = 15.0
"""How long a TLS handshake may take."""

POLL_S = 0.01
FAREWELL_S = 1.0
"""How long a handler may take to end once its peer is gone, when the server closes."""


class HttpServer:
    """`handle` answers every request; what it leaves unanswered is a 500. `tls`: None for plain HTTP."""

    def __init__(self, handle: Handle, limits: ServerLimits, tls: ssl.SSLContext | None = None) -> None:
        self._shared = Shared(handle, limits)
        self._tls: dict[str, Any] = {} if tls is None else {"ssl": tls, "ssl_handshake_timeout": HANDSHAKE_S}
        self._servers: list[asyncio.Server] = []
        self._others: list[socket.socket] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._helper: asyncio.TimerHandle | None = None
        self._taken: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        return len(self._shared.connections)

    async def listen(self, addresses: Sequence[Sequence[socket.socket]], number: int = 0) -> None:
        """Starts to accept. `addresses`: for each address a bound socket per server, this server's at `number`; what
        its owner leaves lying on another is taken from there. Raises `OSError` where another program listens."""
        loop = asyncio.get_running_loop()
        for sockets in addresses:
            _share(sockets, number)
            server = await loop.create_server(
                lambda: Connection(self._shared), sock=sockets[number], backlog=BACKLOG, **self._tls
            )
            self._servers.append(server)
            self._others += [*sockets[:number], *sockets[number + 1 :]]
        for other in self._others:
            other.setblocking(False)
        self._sweep()
        if self._others:
            self._help()

    def stop_accepting(self) -> None:
        """No new connections; idle ones close now, busy ones after their answer. Idempotent."""
        self._shared.stopping = True
        for server in self._servers:
            server.close()
        if self._helper is not None:
            self._helper.cancel()
        for other in self._others:
            other.close()
        for connection in list(self._shared.connections):
            connection.close_if_idle()

    async def close(self, within_s: float) -> None:
        """Waits for the answers under way, to their last byte, then closes what is left."""
        self.stop_accepting()
        shared, deadline = self._shared, monotonic() + within_s
        while monotonic() < deadline and (shared.tasks or any(c.is_busy for c in shared.connections)):
            await asyncio.sleep(POLL_S)
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(shared.connections):
            connection.cut()
        if shared.tasks:
            _, late = await asyncio.wait(list(shared.tasks), timeout=FAREWELL_S)
            for task in late:
                task.cancel()

    def _sweep(self) -> None:
        now = monotonic()
        for connection in [c for c in self._shared.connections if c.deadline < now]:
            connection.expire()
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _help(self) -> None:
        """Takes what waits on the others' sockets: their servers are gone, draining or too busy."""
        loop = asyncio.get_running_loop()
        for other in self._others:
            for _ in range(HELPED_AT_ONCE):
                try:
                    found, _peer = other.accept()
                except OSError:  # nothing waits, nobody has listened there yet, or there is no room: look again later
                    break
                task = loop.create_task(self._take(found))
                self._taken.add(task)
                task.add_done_callback(self._taken.discard)
        self._helper = loop.call_later(HELP_S, self._help)

    async def _take(self, found: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        # Whoever leaves before or in the handshake has asked for nothing.
        with contextlib.suppress(OSError):
            await loop.connect_accepted_socket(lambda: Connection(self._shared), found, **self._tls)


def _share(sockets: Sequence[socket.socket], number: int) -> None:
    """Listens on the first socket, and on this server's.

    The first begins to listen before it allows any other on its address, which the kernel refuses while somebody else
    listens there. Only then may those that are bound by now listen beside it. Where it listens already this is a server
    that comes later, and nothing is changed.
    """
    sockets[0].listen(BACKLOG)
    if len(sockets) > 1:
        for place in (sockets[0], sockets[number]):
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
