"""The edge of the admin listener: what happens to every request before the application sees it.

In this order: a request id for the answer, who asks (all paths but the open ones need somebody who is known, also
those that do not exist), the bound on the body, and afterwards a 500 without a word for whatever nobody foresaw. What
somebody who is known may do is decided where the route has been found, in `authorisation`.
"""

import asyncio
import hmac
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.config.document import MAX_BYTES as MAX_FILE_BYTES
from penstock.control.actor import ORGANISATION, Actor, Grant
from penstock.domain.snapshot import Secret
from penstock.surfaces.admin import cookies
from penstock.surfaces.admin.problems import STORE_AWAY, problem, store_away, unforeseen

OPEN_PATHS = frozenset({"/metrics", "/healthz", "/auth/login", "/auth/oidc/login", "/auth/oidc/callback"})
"""Where strangers may come. That these routes are open is said once more where they are authorised."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_HEADER = b"x-penstock-csrf"
"""What a browser sends from a page of ours, and no page of others can make it send."""
MAX_BODY_BYTES = 1024 * 1024
MAX_BODY_BYTES_OF = {"/admin/v1/config/apply": MAX_FILE_BYTES}
"""A configuration file may be larger than any other body."""
BODY_TIMEOUT_S = 20.0

BOOTSTRAP = Actor("admin", "bootstrap", (Grant("owner", ORGANISATION),))
"""Whoever has the administrator's key of the installation."""


@dataclass(frozen=True)
class Recognition:
    """`admin_key`: the bootstrap administrator's, which needs no store. `bearer(secret)`: whose token it is.
    `session(secret)`: the name of the session whose cookie it is, and whose it is."""

    admin_key: Secret
    bearer: Callable[[str], Awaitable[Actor | None]]
    session: Callable[[str], Awaitable[tuple[str, Actor] | None]]


log = structlog.get_logger()


class Edge:
    """An ASGI application around another."""

    def __init__(self, application: ASGIApp, recognition: Recognition) -> None:
        self._application = application
        self._recognition = recognition
        self._admin_key = recognition.admin_key.reveal().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the admin listener speaks http only, not {scope['type']}")
        request_id = f"req_{uuid.uuid4().hex}"
        scope["penstock.request_id"] = request_id
        answer = _Answer(send, request_id)
        try:
            refusal = None
            if scope["path"] not in OPEN_PATHS:
                scope["penstock.actor"] = await self._recognised(scope)
                refusal = _stranger(request_id) if scope["penstock.actor"] is None else _refuse_forged(scope)
            if refusal is None:
                body = await _read_body(scope, receive)
                if isinstance(body, bytes):
                    await self._application(scope, _replay(body, receive), answer)
                    return
                refusal = body
            await refusal(scope, receive, answer)
        except STORE_AWAY as error:
            await store_away(error, request_id)(scope, receive, answer)
        except Exception:
            log.exception("an admin request failed", request_id=request_id, path=scope["path"])
            if not answer.started:
                await unforeseen(request_id)(scope, receive, answer)

    async def _recognised(self, scope: Scope) -> Actor | None:
        """Who asks, with where from; None for a stranger. Of several credentials none counts."""
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        actor = await (self._by_bearer(given) if given else self._by_cookie(scope))
        client = scope.get("client") or ("",)
        return actor and replace(actor, address=str(client[0]), request_id=scope["penstock.request_id"])

    async def _by_bearer(self, given: list[bytes]) -> Actor | None:
        scheme, _, secret = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        if scheme.lower() != b"bearer":
            return None
        secret = secret.strip()
        if hmac.compare_digest(secret, self._admin_key):
            return BOOTSTRAP
        return await self._recognition.bearer(secret.decode("latin-1"))

    async def _by_cookie(self, scope: Scope) -> Actor | None:
        secret = cookies.of(scope, cookies.SESSION)
        found = await self._recognition.session(secret) if secret else None
        if found is None:
            return None
        scope["penstock.session"], actor = found
        return actor


def _refuse_forged(scope: Scope) -> Response | None:
    """A browser sends its cookie along with whatever any page makes it send; it takes one of ours to add a header."""
    if "penstock.session" not in scope or scope["method"] in SAFE_METHODS:
        return None
    if any(name == CSRF_HEADER for name, _ in scope["headers"]):
        return None
    detail = f"send {CSRF_HEADER.decode()}: 1 with a change that goes by the session's cookie"
    return problem(403, detail, code="not_permitted", request_id=scope["penstock.request_id"])


def _stranger(request_id: str) -> Response:
    return problem(
        401,
        "send the administrator's key or an admin token as Authorization: Bearer ...",
        headers={"www-authenticate": "Bearer"},
        request_id=request_id,
    )


class _Answer:
    """`send` that adds what every answer carries."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._headers = [
            (b"x-request-id", request_id.encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            message = {**message, "headers": [*message.get("headers", []), *self._headers]}
        await self._send(message)


async def _read_body(scope: Scope, receive: Receive) -> bytes | Response:
    """The whole body, or the refusal of one that is too large or too slow."""
    limit = MAX_BODY_BYTES_OF.get(scope["path"], MAX_BODY_BYTES)
    too_large = problem(413, f"a body has at most {limit} bytes here", request_id=scope["penstock.request_id"])
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if not declared.isdigit() or int(declared[:20]) > limit:
        return too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    break
                body += message.get("body", b"")
                if len(body) > limit:
                    return too_large
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        detail = f"the body did not arrive within {BODY_TIMEOUT_S:g} s"
        return problem(408, detail, request_id=scope["penstock.request_id"])
    return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed
