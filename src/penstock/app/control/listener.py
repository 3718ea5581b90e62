"""The admin listener: Granian, embedded in the control process's own event loop."""

import asyncio
import socket
from dataclasses import dataclass

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server
from starlette.types import ASGIApp

from penstock.errors import PenstockError

BACKLOG = 1024
HEADER_TIMEOUT_MS = 15_000
STOP_TIMEOUT_S = 2.0


class AddressInUse(PenstockError):
    """Somebody else listens there."""


@dataclass
class Listener:
    """Serving from `start` on, until `stop`."""

    server: Server
    task: asyncio.Task[None]

    @classmethod
    def start(cls, application: ASGIApp, host: str, port: int) -> "Listener":
        """Raises AddressInUse."""
        _probe(host, port)
        server = Server(
            application,
            address=host,
            port=port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            websockets=False,
            backlog=BACKLOG,
            log_enabled=False,
            http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT_MS),
        )
        return cls(server, asyncio.get_running_loop().create_task(server.serve()))

    async def stop(self) -> None:
        """Takes no more connections; those that are open get a moment to end."""
        self.server.stop()  # type: ignore[no-untyped-call]
        await asyncio.wait([self.task], timeout=STOP_TIMEOUT_S)
        self.task.cancel()


def _probe(host: str, port: int) -> None:
    """Granian would share the port with whoever has it already, without a word."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise AddressInUse(f"the admin listener cannot have {host}:{port}: {error.strerror}") from error
