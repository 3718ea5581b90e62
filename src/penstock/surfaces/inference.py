"""The data plane's HTTP edge: an ASGI application over `pipeline.serve`. It parses, calls, encodes; it holds no rules.

Source of the interface: the ASGI HTTP specification. Granian serves it; any ASGI server can.

Three things are watched from here because only the edge can see them: a body over the limit is refused before it is
buffered, a caller that leaves cuts its call, and a call that is cut from elsewhere ends with the dialect's error event.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from penstock.admission.admit import may_use
from penstock.dialects.base import Dialect
from penstock.dialects.embeddings import Embeddings
from penstock.dialects.openai_chat import ChatCompletions
from penstock.domain.events import Cause
from penstock.domain.exchange import Exchange
from penstock.domain.policy import Denial
from penstock.errors import (
    BodyTooLarge,
    GatewayError,
    InternalError,
    InvalidRequest,
    Killed,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    UpstreamRefused,
)
from penstock.identity.authenticate import authenticate
from penstock.pipeline import Gateway, Reply, serve
from penstock.upstream.call import passed_on

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
HeaderList = list[tuple[bytes, bytes]]

CALLS: dict[str, Dialect] = {
    "/v1/chat/completions": ChatCompletions(),
    "/v1/embeddings": Embeddings(),
}
"""The inference surfaces of this release: path -> dialect."""

WATCH_AFTER_S = 0.1
"""A plain call is watched for a caller that leaves only when it takes longer than this; most never pay for it."""

FAREWELL_S = 1.0
"""How long a cut stream's caller may take to accept its last event."""

_log = logging.getLogger("penstock.inference")

_JSON = (b"content-type", b"application/json")


class InferenceApp:
    """`receipt(request_id, key)` asks the control process; None is "there is none of yours"."""

    def __init__(self, gateway: Gateway, node: str, receipt: Callable[[str, str], Awaitable[bytes | None]]) -> None:
        self._gateway = gateway
        self._node = node
        self._receipt = receipt
        self.refused_strangers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        dialect = CALLS.get(path)
        if dialect is not None and scope["method"] == "POST":
            await self._infer(scope, receive, send, dialect)
            return
        request_id = new_request_id(self._gateway.clock())
        try:
            if dialect is not None:
                raise MethodNotAllowed(f"'{path}' takes POST.")
            status, body = await self._look_up(scope, path)
        except GatewayError as error:
            await _refuse(send, error, CALLS["/v1/chat/completions"], request_id)
            return
        await _answer(send, status, [(b"x-request-id", request_id.encode()), _JSON], body)

    # -- calls --------------------------------------------------------------------------------------------------------

    async def _infer(self, scope: Scope, receive: Receive, send: Send, dialect: Dialect) -> None:
        started_at = self._gateway.clock()
        request_id = new_request_id(started_at)
        exchange = Exchange(request_id, self._node, dialect.surface, headers_of(scope), started_at)
        exchange.cut = _cutter(exchange)
        watch = _Watch(exchange, receive)
        limit = self._gateway.snapshot.server.max_body_bytes
        try:
            reply = await serve(self._gateway, exchange, dialect, lambda: _read_body(exchange, receive, limit))
            await self._reply(send, reply, exchange, (dialect, watch))
        except GatewayError as error:
            if exchange.key is None:
                self.refused_strangers += 1
            exchange.cut = None
            await _refuse(send, error, dialect, request_id)
        except asyncio.CancelledError:
            if exchange.cut_by is None:
                raise
            _forgive_cancellation()
            exchange.cut = None
            if not exchange.answering and (farewell := _farewell(self._gateway, exchange)) is not None:
                await _refuse(send, farewell, dialect, request_id)
        except Exception:  # noqa: BLE001  the edge: whatever a fault of ours is, its caller gets an answer
            _log.exception("request %s met a fault of the gateway's own", request_id)
            if not exchange.answering:
                await _refuse(send, InternalError("The gateway met a fault of its own."), dialect, request_id)
        finally:
            watch.stop()

    async def _reply(self, send: Send, reply: Reply, exchange: Exchange, context: "tuple[Dialect, _Watch]") -> None:
        headers = [(b"x-request-id", exchange.request_id.encode()), *reply.headers]
        exchange.answering = True
        if reply.chunks is None:
            await _too_late_to_cut(exchange)
            await _answer(send, reply.status, headers, reply.body)
            return
        dialect, watch = context
        watch.start()
        chunks = reply.chunks
        try:
            await send({"type": "http.response.start", "status": reply.status, "headers": headers})
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except asyncio.CancelledError:
            if exchange.cut_by is None:
                raise
            _forgive_cancellation()
            await chunks.aclose()
            if (farewell := _farewell(self._gateway, exchange)) is not None:
                await _send_within(send, dialect.error_event(farewell), FAREWELL_S)
        except GatewayError as error:
            await _send_within(send, dialect.error_event(error), FAREWELL_S)
        finally:
            await chunks.aclose()
        await _too_late_to_cut(exchange)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    # -- look-ups -----------------------------------------------------------------------------------------------------

    async def _look_up(self, scope: Scope, path: str) -> tuple[int, bytes]:
        if scope["method"] not in ("GET", "HEAD"):
            raise NotFound(f"There is no '{_shown(path)}' here.")
        if path == "/healthz":
            return 200, b'{"status":"alive"}'
        if path == "/readyz":
            self._gateway.require_ready()
            return 200, b'{"status":"ready"}'
        if not path.startswith(("/v1/models", "/v1/receipts/")):
            raise NotFound(f"There is no '{_shown(path)}' here.")
        self._gateway.require_ready()
        snapshot, now_s = self._gateway.snapshot, self._gateway.clock() / 1e9
        key = authenticate(snapshot, headers_of(scope), self._gateway.pepper, now_s)
        if path.startswith("/v1/receipts/"):
            receipt = await self._receipt(path.removeprefix("/v1/receipts/"), key.id)
            if receipt is None:
                raise NotFound("There is no such receipt among this key's calls.")
            return 200, receipt
        usable = [name for name in snapshot.aliases if may_use(key, name)]
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "penstock"} for name in sorted(usable)]
        if path == "/v1/models":
            return 200, msgspec.json.encode({"object": "list", "data": models})
        wanted = path.removeprefix("/v1/models/")
        found = next((model for model in models if model["id"] == wanted), None)
        if found is None:
            raise NotFound(f"The model '{_shown(wanted)}' does not exist here, or this key may not use it.")
        return 200, msgspec.json.encode(found)


class _Watch:
    """Cuts an exchange when its caller leaves. It starts by itself after `WATCH_AFTER_S`, or when told to."""

    def __init__(self, exchange: Exchange, receive: Receive) -> None:
        self._exchange = exchange
        self._receive = receive
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self.start)

    def start(self) -> None:
        if self._task is None and self._exchange.body_read:
            self._task = asyncio.get_running_loop().create_task(self._wait())
        elif self._task is None:
            self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self.start)

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        if self._exchange.cut is not None:
            self._exchange.cut("aborted")

    def stop(self) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()


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


async def _too_late_to_cut(exchange: Exchange) -> None:
    """The answer is complete and settled: a cut that arrives now, or is on its way, no longer changes it."""
    exchange.cut = None
    if exchange.cut_by is not None:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            _forgive_cancellation()


def _farewell(gateway: Gateway, exchange: Exchange) -> GatewayError | None:
    """What a caller whose call was cut is told; nothing when it was the caller who left."""
    if exchange.cut_by == "killed":
        return Killed("Stopped by an operator.")
    if gateway.draining:
        return Overloaded("The gateway is restarting. Try again.", retry_after_s=1)
    return None


# -- the wire ---------------------------------------------------------------------------------------------------------


def new_request_id(now_ns: int) -> str:
    """`req_` + milliseconds since 1970 + 64 random bits, both hex: sorts by time, cannot be guessed."""
    return f"req_{now_ns // 1_000_000:011x}{os.urandom(8).hex()}"


def headers_of(scope: Scope) -> Mapping[str, str]:
    """Request headers by lower-case name; the last of a repeated one."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


async def _read_body(exchange: Exchange, receive: Receive, limit_bytes: int) -> bytes:
    """The whole body; `BodyTooLarge` before more than `limit_bytes` of it is held."""
    too_large = BodyTooLarge(f"The request body may have at most {limit_bytes} bytes.")
    declared = exchange.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > limit_bytes:
        raise too_large
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            exchange.cut_by = "aborted"
            raise InvalidRequest("The request ended before its body was complete.")
        part: bytes = message["body"]
        body = body + part if body else part
        if len(body) > limit_bytes:
            raise too_large
        if not message.get("more_body"):
            exchange.body_read = True
            return body


async def _answer(send: Send, status: int, headers: HeaderList, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _send_within(send: Send, body: bytes, seconds: float) -> None:
    """The last words of a cut stream. A caller that does not read them is not waited for."""
    try:
        async with asyncio.timeout(seconds):
            await send({"type": "http.response.body", "body": body, "more_body": True})
    except TimeoutError:
        return


async def _refuse(send: Send, error: GatewayError, dialect: Dialect, request_id: str) -> None:
    """An error in the surface's own envelope, with the headers that tell a client what to do."""
    headers: HeaderList = [(b"x-request-id", request_id.encode()), (b"x-penstock-error", error.code.encode()), _JSON]
    status = error.status
    if isinstance(error, UpstreamRefused):
        status, body = error.upstream_status, dialect.envelope(error.body, error.upstream_status)
        headers += [(name, value) for name, value in passed_on(error.headers) if name != b"content-type"]
    else:
        body = dialect.error_body(error)
        if error.retry_after_s is not None:
            headers.append((b"retry-after", str(max(1, -int(-error.retry_after_s // 1))).encode()))
        elif 400 <= status < 500 and error.source != "upstream":
            headers.append((b"x-should-retry", b"false"))
        if error.denial is not None:
            headers += _limit_headers(error.denial)
    headers.append((b"content-length", str(len(body)).encode()))
    await _answer(send, status, headers, body)


def _limit_headers(denial: Denial) -> HeaderList:
    """Our own limits under OpenAI's names (API reference, "Rate limits"); limits in dollars have no name there."""
    unit = {"requests": "requests", "tokens": "tokens"}.get(denial.limit.unit)
    if unit is None:
        return []
    fields = [("limit", str(denial.limit.amount)), ("remaining", str(max(0, denial.left)))]
    if denial.retry_after_s is not None:
        fields.append(("reset", f"{denial.retry_after_s:.0f}s"))
    return [(f"x-ratelimit-{name}-{unit}".encode(), value.encode()) for name, value in fields]


def _shown(text: str) -> str:
    """A caller's text as it may stand in a message."""
    return "".join(c if c.isprintable() else "?" for c in text[:100])
