"""Bedrock's errors: `{"message": ...}`, its type in a header or in `__type`; in a stream, an exception in a frame.

Source: Amazon Bedrock API reference, "Converse" (Errors) and `ConverseStreamOutput`; AWS JSON protocols (`__type`).
Ours has `penstock_error` besides, which says what the gateway's own headers say.
"""

from typing import Any

import msgspec

from penstock.dialects import eventstream
from penstock.dialects.base import encode_object
from penstock.dialects.eventstream import Frame
from penstock.errors import GatewayError

STATUSES = {
    "validationException": 400,
    "accessDeniedException": 403,
    "resourceNotFoundException": 404,
    "modelTimeoutException": 408,
    "throttlingException": 429,
    "internalServerException": 500,
    "modelStreamErrorException": 424,
    "modelErrorException": 424,
    "serviceUnavailableException": 503,
}
_KINDS = {
    401: "accessDeniedException",
    403: "accessDeniedException",
    404: "resourceNotFoundException",
    408: "modelTimeoutException",
    424: "modelErrorException",
    429: "throttlingException",
    503: "serviceUnavailableException",
    529: "serviceUnavailableException",
}
_IN_A_STREAM = frozenset(
    {"internalServerException", "throttlingException", "validationException", "serviceUnavailableException"}
)
_OF_A_STREAM = {"modelErrorException": "modelStreamErrorException", "modelTimeoutException": "internalServerException"}


def kind_of(status: int) -> str:
    return _KINDS.get(status) or ("internalServerException" if status >= 500 else "validationException")


def error_body(error: GatewayError) -> bytes:
    kind = kind_of(error.status)
    told = {"__type": kind[0].upper() + kind[1:], "message": error.message, "penstock_error": error.code}
    return encode_object(told)


def exception_frame(message: str, status: int, code: str) -> bytes:
    """The frame that ends a stream with a fault. Of the exceptions, a stream has some alone."""
    kind = kind_of(status)
    kind = kind if kind in _IN_A_STREAM else _OF_A_STREAM.get(kind, "validationException")
    payload = encode_object({"message": message, **({"penstock_error": code} if code else {})})
    return eventstream.encode(Frame(kind, payload, is_exception=True))


def error_event(error: GatewayError) -> bytes:
    return exception_frame(error.message, error.status, error.code)


def told_by(frame: Frame) -> tuple[str, int]:
    """The message of an exception, and the status that it stands for."""
    try:
        told: Any = msgspec.json.decode(frame.payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        told = frame.payload.decode(errors="replace")
    message = told.get("message") if isinstance(told, dict) else told
    original = told.get("originalMessage") if isinstance(told, dict) else None
    if isinstance(original, str) and isinstance(message, str):  # the model's own words
        message = f"{message} {original}"
    status = STATUSES.get(frame.kind[:1].lower() + frame.kind[1:], 0)
    return (message if isinstance(message, str) and message else "The provider reported an error.")[:1000], status


def envelope(body: bytes, status: int) -> bytes:
    """A provider's error body: verbatim when it has a message, else one of ours with the original under `upstream`."""
    told: dict[str, Any] = {"message": f"The provider answered {status}."}
    try:
        original = msgspec.json.decode(body)
        if isinstance(original, dict) and isinstance(original.get("message", original.get("Message")), str):
            return body
        return encode_object({**told, "upstream": original})
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return encode_object(told)
