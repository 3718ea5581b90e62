"""The edge of the admin listener: what happens to every request before the application sees it.

In this order: a request id for the answer, the administrator's key (all paths but the open ones need it, also those
that do not exist), the bound on the body, and afterwards a 500 without a word for whatever nobody foresaw.
"""

import asyncio
import hmac
import uuid
from typing import Any

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.config.document import MAX_BYTES as MAX_FILE_BYTES
from penstock.domain.snapshot import Secret
from penstock.surfaces.admin.problems import problem, unforeseen

OPEN_PATHS = frozenset({"/metrics", "/healthz"})
MAX_BODY_BYTES = 1024 * 1024
MAX_BODY_BYTES_OF = {"/admin/v1/config/apply": MAX_FILE_BYTES}
"""A configuration file may be larger than any other body."""
BODY_TIMEOUT_S = 20.0

log = structlog.get_logger()


class Edge:
    """An ASGI application around another. `admin_key`: the bootstrap administrator's."""

    def __init__(self, application: ASGIApp, admin_key: Secret) -> None:
        self._application = application
        self._expected = f"Bearer {admin_key.reveal()}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the admin listener speaks http only, not {scope['type']}")
        request_id = f"req_{uuid.uuid4().hex}"
        scope["penstock.request_id"] = request_id
        answer = _Answer(send, request_id)
        try:
            refusal = None if scope["path"] in OPEN_PATHS else self._refuse_stranger(scope)
            if refusal is None:
                body = await _read_body(scope, receive)
                if isinstance(body, bytes):
                    await self._application(scope, _replay(body, receive), answer)
                    return
                refusal = body
            await refusal(scope, receive, answer)
        except Exception:
            log.exception("an admin request failed", request_id=request_id, path=scope["path"])
            if not answer.started:
                await unforeseen(request_id)(scope, receive, answer)

    def _refuse_stranger(self, scope: Scope) -> Response | None:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, key = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        # The scheme is case-insensitive, the key is compared whole and in constant time.
        if scheme.lower() == b"bearer" and hmac.compare_digest(b"Bearer " + key.strip(), self._expected):
            return None
        return problem(
            401,
            "send the administrator's key as Authorization: Bearer ...",
            headers={"www-authenticate": "Bearer"},
            request_id=scope["penstock.request_id"],
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
