"""The data plane's HTTP edge over `pipeline.serve`: it routes, calls and encodes; it holds no rules.

Three things happen here because only the edge can see them: a body over the limit is refused before it is held, a
caller that leaves cuts its call, and a call that is cut from elsewhere ends with the dialect's error event.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from penstock.admission.address import HEADER, refuse_address
from penstock.admission.admit import may_use
from penstock.dialects.base import Dialect, Spoken
from penstock.dialects.registry import DIALECTS
from penstock.domain.events import Cause
from penstock.domain.exchange import Exchange
from penstock.domain.trust import Exchanged
from penstock.errors import (
    GatewayError,
    IdempotencyConflict,
    InternalError,
    InvalidApiKey,
    Killed,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    UnknownSigner,
    UpstreamCredential,
    UpstreamRefused,
)
from penstock.pipeline import Gateway, Reply, serve
from penstock.surfaces import models, tokens
from penstock.surfaces.http1.request import HeaderList, Request
from penstock.surfaces.limit_headers import limit_headers
from penstock.surfaces.request_id import new_request_id
from penstock.surfaces.routes import methods_at, route
from penstock.upstream.call import passed_on

_OTHERS = DIALECTS["chat.completions"]
"""How errors read where no dialect is spoken."""

FAREWELL_S = 1.0
"""How long a cut stream's caller may take to accept its last event."""

_log = logging.getLogger("penstock.inference")

MAY_PASS = frozenset({"internal_error", "upstream_unreachable", "upstream_timeout", "upstream_reset", "upstream_error"})
"""Errors without a time of their own that may be gone at the next try; the others stay until somebody acts."""

_JSON = (b"content-type", b"application/json")


async def _nowhere() -> None:
    """There is nobody to look."""


async def _unrecorded(_: Exchanged) -> None:
    """Nobody asks for a token where there is no control process."""


class Inference:
    """`receipt(request_id, key_id)` asks the control process; None is "there is none of yours". `look_again` has it
    look for new keys of trusted issuers, `record` has it write down that a token is given; all raise StoreUnavailable
    where it cannot."""

    def __init__(
        self,
        gateway: Gateway,
        node: str,
        receipt: Callable[[str, str], Awaitable[bytes | None]],
        look_again: Callable[[], Awaitable[None]] = _nowhere,
        record: Callable[[Exchanged], Awaitable[None]] = _unrecorded,
    ) -> None:
        self._gateway = gateway
        self._node = node
        self._receipt = receipt
        self._look_again = look_again
        self._record = record
        self.refused_strangers = 0

    async def handle(self, request: Request) -> None:
        """Answers one request, whatever it is."""
        spoken = route(request.path, request.target, request.method)
        if spoken is not None:
            await self._infer(request, spoken)
            return
        if request.path == tokens.PATH and request.method == "POST":
            await self._exchange(request)
            return
        request_id = new_request_id(self._gateway.clock())
        asked = models.asked_for(request.path, request.target, request.headers)
        try:
            if methods := ["POST"] if request.path == tokens.PATH else methods_at(request.path):
                raise MethodNotAllowed(f"'{_shown(request.path)}' takes {' and '.join(methods)}.")
            status, body = await self._look_up(request, asked)
        except GatewayError as error:
            _refuse(request, error, _OTHERS if asked is None else asked.dialect, request_id)
            return
        request.respond(status, [(b"x-request-id", request_id.encode()), _JSON], body)

    # -- calls --------------------------------------------------------------------------------------------------------

    async def _infer(self, request: Request, spoken: Spoken) -> None:
        dialect = spoken.dialect
        started_at = self._gateway.clock()
        request_id = new_request_id(started_at)
        exchange = Exchange(request_id, self._node, dialect.surface, request.headers, started_at)
        exchange.path, exchange.peer = request.path, request.peer
        exchange.cut = cut = _cutter(exchange)
        request.on_disconnect = lambda: cut("aborted")
        limit = self._gateway.snapshot.server.max_body_bytes
        try:
            reply = await self._serve(exchange, spoken, lambda: request.body(limit))
            await self._reply(request, reply, exchange)
        except GatewayError as error:
            exchange.cut = None
            self.refused_strangers += isinstance(error, InvalidApiKey)
            _refuse(request, error, dialect, request_id, len(exchange.attempts), now_ns=self._gateway.clock())
        except asyncio.CancelledError:
            if exchange.cut_by is None:
                raise
            _forgive_cancellation()
            exchange.cut = None
            if not request.answered and (farewell := _farewell(self._gateway, exchange)) is not None:
                _refuse(request, farewell, dialect, request_id)
        except Exception:  # noqa: BLE001  the edge: whatever a fault of ours is, its caller gets an answer
            _log.exception("request %s met a fault of the gateway's own", request_id)
            if not request.answered:
                _refuse(request, InternalError("The gateway met a fault of its own."), dialect, request_id)

    async def _serve(self, exchange: Exchange, spoken: Spoken, read_body: Callable[[], Awaitable[bytes]]) -> Reply:
        try:
            return await serve(self._gateway, exchange, spoken, read_body)
        except UnknownSigner:
            if exchange.principal is not None:
                raise
            await self._look_again()  # nothing has been read of the request yet
            return await serve(self._gateway, exchange, spoken, read_body)

    async def _exchange(self, request: Request) -> None:
        """A key or an identity for a token."""
        request_id = new_request_id(self._gateway.clock())
        try:
            form = await tokens.form_of(request)
            try:
                headers, body, made = tokens.exchange(self._gateway, request, form)
            except UnknownSigner:
                await self._look_again()
                headers, body, made = tokens.exchange(self._gateway, request, form)
            await self._record(msgspec.structs.replace(made, request_id=request_id))
            status = 200
        except GatewayError as error:
            self.refused_strangers += isinstance(error, InvalidApiKey)
            status, headers, body = tokens.refusal(error)
        request.respond(status, [(b"x-request-id", request_id.encode()), *headers], body)

    async def _reply(self, request: Request, reply: Reply, exchange: Exchange) -> None:
        headers = [(b"x-request-id", exchange.request_id.encode()), *reply.headers]
        if reply.chunks is None:
            exchange.cut = None
            request.respond(reply.status, headers, reply.body)
            return
        chunks = reply.chunks
        try:
            request.start(reply.status, headers)
            async for chunk in chunks:
                await request.write(chunk)
            exchange.cut = None
            request.end()
        except asyncio.CancelledError:
            if exchange.cut_by is None:
                raise
            _forgive_cancellation()
            await chunks.aclose()
            await _end_early(request, reply, _farewell(self._gateway, exchange))
        except GatewayError as error:
            await _end_early(request, reply, error)
        except ConnectionResetError:
            exchange.cut_by = exchange.cut_by or "aborted"
        finally:
            await chunks.aclose()

    # -- look-ups -----------------------------------------------------------------------------------------------------

    async def _look_up(self, request: Request, asked: models.Asked | None) -> tuple[int, bytes]:
        path = request.path
        if request.method not in ("GET", "HEAD"):
            raise NotFound(f"There is no '{_shown(path)}' here.")
        if path == "/healthz":
            return 200, b'{"status":"alive"}'
        if path == "/readyz":
            self._gateway.require_ready()
            self._gateway.require_glass()
            self._gateway.ledger.require_journal()
            return 200, b'{"status":"ready"}'
        if asked is None and not path.startswith("/v1/receipts/"):
            raise NotFound(f"There is no '{_shown(path)}' here.")
        self._gateway.require_ready()
        snapshot, now_s = self._gateway.snapshot, self._gateway.clock() / 1e9
        principal = self._gateway.identify(snapshot, request.headers, now_s)
        refuse_address(principal, request.peer, request.headers.get(HEADER), snapshot.server.trusted_proxies)
        if asked is not None:
            usable = [alias for name, alias in snapshot.aliases.items() if may_use(principal, name)]
            return 200, models.told(asked, usable, now_s)
        receipt = await self._receipt(path.removeprefix("/v1/receipts/"), principal.key_id)
        if receipt is None:
            raise NotFound("There is no such receipt among this key's calls.")
        return 200, receipt


def _cutter(exchange: Exchange) -> Callable[[Cause], None]:
    task = asyncio.current_task()
    assert task is not None

    def cut(cause: Cause) -> None:
        if exchange.cut_by is None:
            exchange.cut_by = cause
            task.cancel()

    return cut


def _forgive_cancellation() -> None:
    """The cancellation was `cut`'s: the task goes on, to say farewell."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


def _farewell(gateway: Gateway, exchange: Exchange) -> GatewayError | None:
    """What a caller whose call was cut is told; nothing when it was the caller who left."""
    if exchange.cut_by == "killed":
        return Killed("Stopped by an operator.")
    if gateway.draining:
        return Overloaded("The gateway is restarting. Try again.", retry_after_s=1)
    return None


# -- the wire ---------------------------------------------------------------------------------------------------------


async def _end_early(request: Request, reply: Reply, error: GatewayError | None) -> None:
    """The last words of a stream without its normal ending, then the end of the answer. A caller that does not read
    them is not waited for; one that has gone is not told."""
    try:
        async with asyncio.timeout(FAREWELL_S):
            if error is not None and reply.error_event is not None:
                await request.write(reply.error_event(error))
            request.end()
    except (TimeoutError, ConnectionResetError):
        request.abort()


def _refuse(
    request: Request, error: GatewayError, dialect: Dialect, request_id: str, attempts: int = 0, *, now_ns: int = 0
) -> None:
    """An error in the surface's own envelope, with the headers that tell a client what to do."""
    headers: HeaderList = [(b"x-request-id", request_id.encode()), (b"x-penstock-error", error.code.encode()), _JSON]
    if attempts:
        headers.append((b"x-penstock-attempts", str(attempts).encode()))
    status = error.status
    if isinstance(error, UpstreamRefused):
        status, body = error.upstream_status, error.body
        headers += [(name, value) for name, value in passed_on(error.headers) if name != b"content-type"]
    else:
        body = dialect.error_body(error)
        if isinstance(error, UpstreamCredential):
            headers += passed_on(error.headers)
        if error.retry_after_s is not None:
            headers.append((b"retry-after", str(max(1, -int(-error.retry_after_s // 1))).encode()))
        elif error.code in MAY_PASS:
            headers.append((b"retry-after", b"1"))
        else:
            headers.append((b"x-should-retry", b"false"))
        if error.denial is not None:
            headers += limit_headers(error.denial, dialect.surface, now_ns)
        if isinstance(error, IdempotencyConflict):
            headers.append((b"x-penstock-first-request-id", error.first_request_id.encode()))
    request.respond(status, headers, body)


def _shown(text: str) -> str:
    """A caller's text as it may stand in a message."""
    return "".join(c if c.isprintable() else "?" for c in text[:100])
