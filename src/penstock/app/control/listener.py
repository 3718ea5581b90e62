"""The admin listener: Granian, embedded in the control process's own event loop, with or without TLS."""

import asyncio
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server

from penstock.app.tls import LOOK_S, Certificates
from penstock.domain.snapshot import TlsFiles
from penstock.errors import ConfigError, PenstockError

BACKLOG = 1024
HEADER_TIMEOUT_MS = 15_000
STOP_TIMEOUT_S = 2.0


log = structlog.get_logger()


class AddressInUse(PenstockError):
    """Somebody else listens there."""


class Surface:
    """An ASGI application that is there before it can answer: requests wait until `serve` says who answers them."""

    def __init__(self) -> None:
        self._application: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def serve(self, application: Any) -> None:
        self._application.set_result(application)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        application = await asyncio.shield(self._application)
        await application(scope, receive, send)


@dataclass
class Listener:
    """Serving from `start` on, until `stop`."""

    server: Server
    task: asyncio.Task[None]
    renewing: asyncio.Task[None] | None = None

    @classmethod
    def start(cls, application: Any, host: str, port: int, tls: TlsFiles | None = None) -> "Listener":
        """Raises AddressInUse, and ConfigError for TLS files that cannot be used."""
        certificates = None if tls is None else Certificates(tls)
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
            **_granian_tls(tls),
        )
        loop = asyncio.get_running_loop()
        listener = cls(server, loop.create_task(server.serve()))
        if certificates is not None and tls is not None:
            listener.renewing = loop.create_task(_keep_renewing(server, certificates, tls))
        return listener

    async def stop(self) -> None:
        """Takes no more connections; those that are open get a moment to end."""
        if self.renewing is not None:
            self.renewing.cancel()
        self.server.stop()  # type: ignore[no-untyped-call]
        await asyncio.wait([self.task], timeout=STOP_TIMEOUT_S)
        self.task.cancel()


def _granian_tls(files: TlsFiles | None) -> dict[str, Any]:
    if files is None:
        return {}
    ca = Path(files.client_ca) if files.client_ca else None
    paths = {"ssl_cert": Path(files.cert), "ssl_key": Path(files.key), "ssl_ca": ca}
    return {**paths, "ssl_protocol_min": SSLProtocols.tls12, "ssl_client_verify": ca is not None}


async def _keep_renewing(server: Server, certificates: Certificates, files: TlsFiles) -> None:
    """Granian reads the files when its acceptor begins: the next one begins with the new ones, and then the one before
    ends, when the answers that are under way have been given."""
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            if certificates.renew():
                server.reload()  # type: ignore[no-untyped-call]
                log.info("the admin listener's certificate was read again", cert=files.cert)
        except ConfigError as error:
            log.warning("a new certificate cannot be used, the old one stays", reason=str(error))


def _probe(host: str, port: int) -> None:
    """Granian would share the port with whoever has it already, without a word."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise AddressInUse(f"the admin listener cannot have {host}:{port}: {error.strerror}") from error
