"""OpenAI's errors: the object, the envelope around it, and the event that ends a stream.

Source: OpenAI API reference, "Errors" and "Streaming". All surfaces of OpenAI share them but for the events of
Responses.
"""

from typing import Any

import msgspec
from msgspec import Struct

from penstock.dialects.base import encode_object
from penstock.errors import GatewayError


def read_error(error: Any) -> tuple[str | None, int]:
    """The message and the status of an `error` member, `(None, 0)` when it is absent or empty."""
    if not error:
        return None, 0
    if not isinstance(error, dict):
        return (error if isinstance(error, str) else "The provider reported an error.")[:1000], 0
    code = error.get("code")
    status = code if isinstance(code, int) and 400 <= code <= 599 else 0
    return str(error.get("message") or "The provider reported an error.")[:1000], status


def error_object(error: GatewayError) -> dict[str, Any]:
    """OpenAI's error object: message, type, param, code."""
    return {"message": error.message, "type": error.type, "param": error.param, "code": error.code}


def error_body(error: GatewayError) -> bytes:
    return encode_object({"error": error_object(error)})


class _Envelope(Struct):
    message: str


class _Enveloped(Struct):
    error: _Envelope


_enveloped_decoder = msgspec.json.Decoder(_Enveloped)


def _is_enveloped(body: bytes) -> bool:
    try:
        _enveloped_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return True


def envelope(body: bytes, status: int) -> bytes:
    """A provider's error body in this dialect's envelope: verbatim when it is one, else wrapped with the original
    under `upstream`."""
    if _is_enveloped(body):
        return body
    error = {"message": f"The provider answered {status}.", "type": "upstream_error", "param": None, "code": None}
    try:
        original = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return encode_object({"error": error})
    if isinstance(original, dict):
        said = original.get("message") or original.get("error") or original.get("detail")
        error["message"] = (
            said if isinstance(said, str) else encode_object({"": said})[4:-1].decode() if said else error["message"]
        )
        for name in ("type", "param", "code"):
            if isinstance(original.get(name), str):
                error[name] = original[name]
    try:
        return encode_object({"error": {**error, "upstream": original}})
    except RecursionError:
        return encode_object({"error": error})
