"""Answers and problems: JSON out, and `application/problem+json` for whatever goes wrong.

A problem is `{"type", "title", "status", "detail", "code", "request_id"}`, and `errors` (`[{"place", "message"}]`)
where fields are at fault. `detail` is written for a person; it never holds exception text of the gateway's own faults.
"""

import re
from http import HTTPStatus
from math import ceil
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy import exc
from starlette.exceptions import HTTPException

from penstock.errors import ControlError, InvalidFile, StoreDown, TooManyAttempts
from penstock.store.claim import reason

PROBLEM_TYPE = "application/problem+json"
STORE_AWAY = (StoreDown, exc.OperationalError, exc.InterfaceError, exc.TimeoutError)
"""What is raised while the store cannot be reached, or does not take what it is given."""
RETRY_AFTER_S = 2

log = structlog.get_logger()

_encoder = msgspec.json.Encoder()
_CODES = {
    400: "invalid_request",
    401: "invalid_admin_key",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    422: "invalid",
    503: "store_unavailable",
}


class JsonResponse(Response):
    """Any value that msgspec encodes: dicts of plain values, structs, whole numbers of 64 bits."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return _encoder.encode(content)


def problem(
    status: int,
    detail: str,
    *,
    code: str = "",
    errors: list[dict[str, str]] | None = None,
    headers: dict[str, str] | None = None,
    request_id: str = "",
) -> Response:
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code or _CODES.get(status, "internal_error"),
    }
    if request_id:
        content["request_id"] = request_id
    if errors:
        content["errors"] = errors
    return Response(_encoder.encode(content), status, headers, PROBLEM_TYPE)


def install(application: FastAPI) -> None:
    """Every refusal that a handler meets becomes a problem, and so does what nobody foresaw; that one is raised again
    behind the answer, for the edge to log."""
    application.add_exception_handler(ControlError, _refused)
    application.add_exception_handler(RequestValidationError, _invalid_parameters)
    application.add_exception_handler(HTTPException, _http)
    for away in STORE_AWAY:
        application.add_exception_handler(away, _store_away)
    application.add_exception_handler(exc.DataError, _unstorable)
    application.add_exception_handler(Exception, _unforeseen)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ControlError)
    errors = [{"place": error.place, "message": error.message}] if error.place or error.status == 422 else None
    if isinstance(error, InvalidFile):
        errors = [{"place": "", "message": fault} for fault in error.faults]
    headers = {"retry-after": str(ceil(error.retry_after_s))} if isinstance(error, TooManyAttempts) else None
    return problem(
        error.status, error.message, code=error.code, errors=errors, headers=headers, request_id=request_id(request)
    )


async def _invalid_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [
        {"place": ".".join(str(step) for step in fault["loc"][1:]), "message": fault["msg"]} for fault in error.errors()
    ]
    return problem(422, "a parameter cannot be read", errors=errors, request_id=request_id(request))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = error.detail if isinstance(error.detail, str) else HTTPStatus(error.status_code).phrase
    headers = dict(error.headers) if error.headers else None
    if error.status_code == 405:
        methods = _methods_of(request)
        headers, detail = {"allow": ", ".join(methods)}, f"this path takes {', '.join(methods)}, not {request.method}"
    return problem(error.status_code, detail, headers=headers, request_id=request_id(request))


def _methods_of(request: Request) -> list[str]:
    """What a path takes, by the OpenAPI document: each route knows its own method alone. Of two paths that fit, the one
    with more words of its own is meant."""
    paths: dict[str, dict[str, Any]] = request.app.openapi()["paths"]
    fitting = [path for path in paths if re.fullmatch(_anything(path, ".+"), request.scope["path"])]
    closest = max(fitting, key=lambda path: len(_anything(path, "")), default="")
    return sorted(method.upper() for method in paths.get(closest, {}))


def _anything(path: str, instead: str) -> str:
    """A path of the document as a pattern, with `instead` for each of its parameters."""
    return re.sub(r"\\{[a-z_]+\\}", lambda _: instead, re.escape(path))


async def _store_away(request: Request, error: Exception) -> Response:
    return store_away(error, request_id(request))


def store_away(error: Exception, request_id: str) -> Response:
    log.warning("an admin request found no store", request_id=request_id, reason=reason(error))
    detail = "the store does not answer: try again, and look whether what was asked for has happened"
    return problem(503, detail, headers={"retry-after": str(RETRY_AFTER_S)}, request_id=request_id)


async def _unstorable(request: Request, _error: Exception) -> Response:
    """PostgreSQL keeps no text with a zero byte, and no number that is too large for its column."""
    return problem(422, "a value in this request cannot be stored", request_id=request_id(request))


async def _unforeseen(request: Request, _error: Exception) -> Response:
    return unforeseen(request_id(request))


def unforeseen(request_id: str) -> Response:
    detail = f"the gateway failed to answer; its log has the reason under {request_id}"
    return problem(500, detail, request_id=request_id)


def request_id(request: Request) -> str:
    return str(request.scope.get("penstock.request_id", ""))
