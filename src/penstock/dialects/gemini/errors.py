"""Google's error envelope: `{"error": {"code", "message", "status", "details"}}`.

Source: Google "API errors" (AIP-193) and the statuses of `google.rpc.Code`.
"""

from typing import Any

import msgspec
from msgspec import Struct

from penstock.dialects.base import encode_object
from penstock.errors import GatewayError

STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}


def error_object(message: str, status: int, code: str = "") -> dict[str, Any]:
    """`code`: ours, told as the `reason` of an `ErrorInfo`."""
    error: dict[str, Any] = {"code": status, "message": message, "status": STATUSES.get(status, "UNKNOWN")}
    if code:
        kind = "type.googleapis.com/google.rpc.ErrorInfo"
        error["details"] = [{"@type": kind, "reason": code.upper(), "domain": "penstock"}]
    return error


def error_body(error: GatewayError) -> bytes:
    return encode_object({"error": error_object(error.message, error.status, error.code)})


def error_event(error: GatewayError) -> bytes:
    return b"data: " + error_body(error) + b"\r\n\r\n"


class _Said(Struct):
    message: str


class _Enveloped(Struct):
    error: _Said


_enveloped_decoder = msgspec.json.Decoder(_Enveloped | list[_Enveloped])


def envelope(body: bytes, status: int) -> bytes:
    """A provider's error body in this envelope: verbatim when it is one (a stream's is in a list), else its words."""
    try:
        _enveloped_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return encode_object({"error": error_object(_said(body) or f"The provider answered {status}.", status)})
    return body


def _said(body: bytes) -> str:
    try:
        told: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""
    if isinstance(told, list) and told:
        told = told[0]
    for _ in range(2):
        if isinstance(told, dict):
            told = told.get("error") or told.get("message") or told.get("detail")
    return told[:1000] if isinstance(told, str) else ""


def read_error(error: Any) -> tuple[str | None, int]:
    """The message and the status of an `error` member, `(None, 0)` when there is none."""
    if not error:
        return None, 0
    if not isinstance(error, dict):
        return (error if isinstance(error, str) else "The provider reported an error.")[:1000], 0
    code = error.get("code")
    status = code if isinstance(code, int) and 400 <= code <= 599 else 0
    return str(error.get("message") or "The provider reported an error.")[:1000], status
