"""The transport over HTTP/1.1: a pool per origin, one request at a time per connection, one careful retry."""

import asyncio
import ssl
from collections.abc import Callable

from penstock.domain.http import HttpRequest, Origin
from penstock.errors import UpstreamConnectFailed, UpstreamError, UpstreamReset, UpstreamTimeout
from penstock.upstream.http1.connection import Connection
from penstock.upstream.http1.pool import Pool, TransportSettings
from penstock.upstream.http1.request import RequestWriter
from penstock.upstream.http1.response import Http1Response

_DEFAULTS = TransportSettings()


class Http1Transport:
    """The `Transport` for one event loop. See `penstock.upstream.transport` for what it promises.

    A connection that had carried calls before may be closed by the vendor in the moment a request is written to it.
    A request that is `repeatable` is then sent once more, over a new connection, if not one byte had come back.
    Any other is not: nothing proves that the vendor did not begin to work on it. `Connection.is_fit` keeps that
    rare, because it sees a close that is already in the kernel.
    """

    def __init__(self, settings: TransportSettings = _DEFAULTS) -> None:
        """A `ca_file` that cannot be read raises `OSError` here, at boot."""
        self._settings = settings
        self._context: ssl.SSLContext | None = _context(settings.ca_file) if settings.ca_file else None
        self._routes: dict[Origin, tuple[RequestWriter, Pool]] = {}
        self._is_closed = False

    async def send(self, request: HttpRequest, on_dispatch: Callable[[], None]) -> Http1Response:
        route = self._routes.get(request.origin)
        writer, pool = route if route is not None else self._add_route(request.origin)
        head = writer.head(request)
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        total_deadline_s = start_s + request.timeouts.total_ms / 1000
        connection = pool.reuse()
        if connection is None:
            connection = await pool.connect(min(start_s + request.timeouts.connect_ms / 1000, total_deadline_s))
        try:
            on_dispatch()
        except BaseException:
            connection.finish(is_reusable=True, keep_alive_s=float("inf"))
            raise
        was_reused = connection.is_reused
        response = Http1Response(connection, request, total_deadline_s, loop)
        try:
            await connection.exchange(head, request, response)
        except UpstreamReset as fault:
            if not (was_reused and request.repeatable) or response.is_received:
                raise
            connection = await _connect_again(pool, request, total_deadline_s, fault)
            response = Http1Response(connection, request, total_deadline_s, loop)
            await connection.exchange(head, request, response)
        return response

    async def close(self) -> None:
        self._is_closed = True
        for _, pool in self._routes.values():
            pool.close()
        await asyncio.sleep(0)  # an aborted socket is closed in the loop's next turn

    def _add_route(self, origin: Origin) -> tuple[RequestWriter, Pool]:
        if self._is_closed:
            raise UpstreamConnectFailed("The gateway is closing its connections.")
        route = RequestWriter(origin), Pool(origin, self._settings, self._tls)
        self._routes[origin] = route
        return route

    def _tls(self) -> ssl.SSLContext:
        """Made when first needed: reading the system's certificates takes 20 ms and some megabytes."""
        if self._context is None:
            self._context = _context(None)
        return self._context


async def _connect_again(pool: Pool, request: HttpRequest, total_deadline_s: float, fault: UpstreamError) -> Connection:
    """A new connection for a request that was written once already: `fault` stays the truth when there is none,
    since "nothing was sent" no longer is."""
    deadline_s = asyncio.get_running_loop().time() + request.timeouts.connect_ms / 1000
    try:
        return await pool.connect(min(deadline_s, total_deadline_s), must_be_fresh=True)
    except (UpstreamConnectFailed, UpstreamTimeout) as error:
        raise fault from error


def _context(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context
