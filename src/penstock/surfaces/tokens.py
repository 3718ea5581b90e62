"""`POST /v1/token`: the exchange of RFC 8693, as forms go in and JSON comes out (RFC 6749, sections 5.1 and 5.2)."""

from collections.abc import Mapping
from urllib.parse import parse_qsl

import msgspec

from penstock.admission.address import HEADER
from penstock.domain.trust import Exchanged
from penstock.errors import GatewayError, InvalidApiKey, InvalidTokenRequest
from penstock.pipeline import tokens
from penstock.pipeline.gateway import Gateway
from penstock.surfaces.http1.request import HeaderList, Request

PATH = "/v1/token"
MAX_BODY_BYTES = 64 * 1024
_FORM = "application/x-www-form-urlencoded"
_HEADERS: HeaderList = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]


async def form_of(request: Request) -> dict[str, str]:
    """What the request says. Raises `InvalidTokenRequest`, or what refuses a body."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise InvalidTokenRequest(f"The body must be a form, {_FORM}.")
    return _read(await request.body(MAX_BODY_BYTES))


def exchange(gateway: Gateway, request: Request, form: Mapping[str, str]) -> tuple[HeaderList, bytes, Exchanged]:
    """The answer to a request that is in order, and what is to be recorded before it is given. Raises
    `GatewayError`."""
    caller = tokens.Caller(request.peer, request.headers.get(HEADER))
    answer, made = tokens.exchange(gateway, form, caller)
    return [*_HEADERS], msgspec.json.encode(answer), made


def refusal(error: GatewayError) -> tuple[int, HeaderList, bytes]:
    """The status, headers and body that refuse. A subject token that is not good is a fault of the request (RFC 8693,
    section 2.2.2)."""
    status = 400 if isinstance(error, InvalidApiKey) else error.status
    body = msgspec.json.encode({"error": _error(error, status), "error_description": error.message})
    headers = [*_HEADERS, (b"x-penstock-error", error.code.encode())]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(max(1, round(error.retry_after_s))).encode()))
    return status, headers, body


def _error(error: GatewayError, status: int) -> str:
    if isinstance(error, InvalidTokenRequest):
        return error.error
    if status == 403:
        return "access_denied"
    return "temporarily_unavailable" if status >= 500 else "invalid_request"


def _read(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=20)
    except ValueError:
        raise InvalidTokenRequest("The body is no form.") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise InvalidTokenRequest("A parameter is given twice.")
    return form
