"""The server's own answer to what never reaches a handler, or what a handler left unanswered."""

from http import HTTPStatus
from time import time_ns

import msgspec

from penstock.errors import GatewayError, InternalError, InvalidRequest, Overloaded
from penstock.surfaces.http1.request import HeaderList
from penstock.surfaces.request_id import new_request_id

_ERRORS: dict[int, type[GatewayError]] = {500: InternalError, 503: Overloaded}


def refusal(status: int, message: str) -> tuple[HeaderList, bytes]:
    """Headers and body. Which surface was meant is not known here, so the envelope is OpenAI's."""
    error = _ERRORS.get(status, InvalidRequest)
    headers = [
        (b"x-request-id", new_request_id(time_ns()).encode()),
        (b"x-penstock-error", error.code.encode()),
        (b"content-type", b"application/json"),
    ]
    if error is Overloaded:
        headers.append((b"retry-after", b"1"))
    elif error is InvalidRequest and status != HTTPStatus.REQUEST_TIMEOUT:
        headers.append((b"x-should-retry", b"false"))
    envelope = {"error": {"message": message, "type": error.type, "param": None, "code": error.code}}
    return headers, msgspec.json.encode(envelope)
