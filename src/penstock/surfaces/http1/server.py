"""The listener: accepts, watches the deadlines of all connections with one timer, and stops in good order."""

import asyncio
from time import monotonic

from penstock.surfaces.http1.protocol import Connection, Handle, ServerLimits, Shared

BACKLOG = 2048
SWEEP_S = 0.5
"""How far behind its deadline a connection may be noticed."""

POLL_S = 0.01
FAREWELL_S = 1.0
"""How long a handler may take to end once its peer is gone, when the server closes."""


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
            lambda: Connection(self._shared), host, port, backlog=BACKLOG, reuse_address=True
        )
        self._sweep()
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    def stop_accepting(self) -> None:
        """No new connections; idle ones close now, busy ones after their answer. Idempotent."""
        self._shared.stopping = True
        if self._server is not None:
            self._server.close()
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
