"""Anthropic's error envelope: `{"type": "error", "error": {"type", "message"}, "request_id"}`.

Source: Anthropic API reference, "Errors" (types and their statuses; an error in a stream that began with status 200).
Ours has `code` besides, which says what the gateway's own headers say.
"""

from typing import Any

import msgspec
from msgspec import Struct

from penstock.dialects.base import encode_object
from penstock.errors import ContextTooLong, GatewayError, ThreadUnsupported

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    424: "api_error",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
STATUSES = {kind: status for status, kind in TYPES.items()}


def type_of(status: int) -> str:
    return TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")


def read_error(error: Any) -> tuple[str | None, int]:
    """The message and the status of an `error` member, `(None, 0)` when it is absent or empty."""
    if not error:
        return None, 0
    if not isinstance(error, dict):
        return (error if isinstance(error, str) else "The provider reported an error.")[:1000], 0
    kind = error.get("type")
    message = str(error.get("message") or "The provider reported an error.")[:1000]
    return message, STATUSES.get(kind, 0) if isinstance(kind, str) else 0


TOO_LONG = "prompt is too long"
"""How the vendor says that a conversation does not fit: clients look for it, and compact the conversation."""


def error_body(error: GatewayError) -> bytes:
    message = error.message
    if isinstance(error, ContextTooLong) and TOO_LONG not in message:
        message = f"{TOO_LONG}: {message}"
    told: dict[str, Any] = {"type": type_of(error.status), "message": message, "code": error.code}
    if isinstance(error, ThreadUnsupported):
        told["details"] = error.details
    return encode_object({"type": "error", "error": told, "request_id": None})


def error_event(error: GatewayError) -> bytes:
    return b"event: error\ndata: " + error_body(error) + b"\n\n"


class _Error(Struct):
    type: str
    message: str


class _Enveloped(Struct):
    type: str
    error: _Error


_enveloped_decoder = msgspec.json.Decoder(_Enveloped)


def envelope(body: bytes, status: int) -> bytes:
    """A provider's error body in this dialect's envelope: verbatim when it is one, else wrapped with the original
    under `upstream`."""
    try:
        if _enveloped_decoder.decode(body).type == "error":
            return body
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass
    told: dict[str, Any] = {"type": type_of(status), "message": f"The provider answered {status}."}
    try:
        original = msgspec.json.decode(body)
        told["message"] = _said(original) or told["message"]
        return encode_object({"type": "error", "error": {**told, "upstream": original}, "request_id": None})
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return encode_object({"type": "error", "error": told, "request_id": None})


def _said(original: Any) -> str:
    """The message in an error body of whatever shape."""
    for _ in range(3):
        if isinstance(original, list) and original:
            original = original[0]
        if not isinstance(original, dict):
            break
        original = original.get("error") or original.get("message") or original.get("Message") or original.get("detail")
    return original if isinstance(original, str) else ""
