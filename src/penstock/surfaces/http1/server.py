"""The listener: accepts, watches the deadlines of all connections with one timer, and stops in good order."""

import asyncio
import socket
from time import monotonic

from penstock.surfaces.http1.protocol import Connection, Handle, ServerLimits, Shared

BACKLOG = 2048
SWEEP_S = 0.5


class HttpServer:
    """`handle` answers every request; what it leaves unanswered is a 500."""

    def __init__(self, handle: Handle, limits: ServerLimits) -> None:
        self._shared = Shared(handle, limits)
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        return len(self._shared.connections)

    async def listen(self, host: str, port: int) -> int:
        """Starts to accept; returns the port. Raises `OSError` when the address cannot be had."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._shared), host, port, backlog=BACKLOG, reuse_port=hasattr(socket, "SO_REUSEPORT")
        )
        self._sweep()
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    def stop_accepting(self) -> None:
        """No new connections; idle ones close now, busy ones after their answer."""
        self._shared.stopping = True
        if self._server is not None:
            self._server.close()
        for connection in list(self._shared.connections):
            if connection.idle:
                connection.abort()

    async def close(self, within_s: float) -> None:
        """Waits for the answers under way, then closes what is left."""
        self.stop_accepting()
        if self._shared.tasks:
            await asyncio.wait(list(self._shared.tasks), timeout=within_s)
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._shared.connections):
            connection.abort()

    def _sweep(self) -> None:
        now = monotonic()
        for connection in [c for c in self._shared.connections if c.deadline < now]:
            connection.expire()
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
