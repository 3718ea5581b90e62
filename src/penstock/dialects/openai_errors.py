"""OpenAI's errors: the object, the envelope around it, and the event that ends a stream.

Source: OpenAI API reference, "Errors" and "Streaming"; MiniMax, "Error codes"; the flat
errors of Mistral and vLLM. All surfaces of OpenAI share them but for the events of Responses.
"""

from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from penstock.dialects.base import decode_reply, encode_object
from penstock.dialects.refusals import message_in
from penstock.errors import GatewayError


def read_error(error: Any) -> tuple[str | None, int]:
    """The message and the status of an `error` member, `(None, 0)` when it is absent or empty."""
    if not error:
        return None, 0
    if not isinstance(error, dict):
        return (error if isinstance(error, str) else "The provider reported an error.")[:1000], 0
    codes = [error.get(name) for name in ("code", "status_code", "status")]  # Groq and Cerebras; Azure
    status = next((found for code in codes if (found := status_of(code))), 0)
    status = status or status_in_words(error.get("code")) or status_in_words(error.get("type"))
    return str(error.get("message") or "The provider reported an error.")[:1000], status


def status_of(code: Any) -> int:
    """The status that a code is, also where it is written in quotes; 0 for any other code."""
    code = int(code) if isinstance(code, str) and len(code) == 3 and code.isascii() and code.isdecimal() else code
    return code if isinstance(code, int) and 400 <= code <= 599 else 0


_IN_WORDS = {
    **dict.fromkeys(("rate_limit_exceeded", "rate_limit_error", "insufficient_quota"), 429),
    **dict.fromkeys(("invalid_request_error", "context_length_exceeded"), 400),
    **dict.fromkeys(("server_error", "vector_store_timeout"), 500),
    "overloaded_error": 503,
    **dict.fromkeys(
        (
            *("invalid_prompt", "data_residency_mismatch", "bio_policy", "invalid_image", "invalid_image_format"),
            *("invalid_base64_image", "invalid_image_url", "image_too_large", "image_too_small", "image_parse_error"),
            *("image_content_policy_violation", "invalid_image_mode", "image_file_too_large", "empty_image_file"),
            *("unsupported_image_media_type", "failed_to_download_image", "image_file_not_found"),
        ),
        400,
    ),
}
"""What errors that come with a success status say in words: the types of all surfaces, and the codes of a response
(`ResponseErrorCode`)."""


def status_in_words(word: Any) -> int:
    """The status that a code or a type of an error stands for; 0 for any other."""
    return _IN_WORDS.get(word, 0) if isinstance(word, str) else 0


class _Fault(Struct):
    """The members in which a reply says that it is an error."""

    error: Any = None
    object: Any = None
    message: Any = None
    type: Any = None
    code: Any = None
    status_code: Any = None
    status: Any = None
    detail: Any = None
    id: Any = None
    usage: Any = None
    base_resp: Any = None
    x_groq: Any = None


class Fault(NamedTuple):
    """What a reply says of the error that it is. `message` None: it is none. `is_bare`: nothing but its words says so,
    and clients take it for one more chunk."""

    message: str | None = None
    status: int = 0
    kind: str = ""
    is_bare: bool = False


_fault_decoder = msgspec.json.Decoder(_Fault)
_MINIMAX_STATUSES = {
    **dict.fromkeys((1002, 1039, 1041, 2045, 2056), 429),
    **dict.fromkeys((1026, 1027, 1042, 2013), 400),
}


def fault_of(reply: bytes) -> Fault:
    """The error that a reply with a success status is, or a chunk of a stream. It is in `error`, of Groq's in `x_groq`
    where a stream stops early; Mistral and older servers of vLLM send the error itself; MiniMax tells it in
    `base_resp`, where 0 is none. FastAPI and what is built on it have nothing but a `detail`, or a `message`."""
    may_be_bare = b'"choices"' not in reply and (b'"message"' in reply or b'"detail"' in reply)
    if not may_be_bare and b'"error"' not in reply and b'"base_resp"' not in reply:
        return Fault()
    told = decode_reply(_fault_decoder, reply)
    error = told.error
    if not error and isinstance(told.x_groq, dict):
        error = told.x_groq.get("error")
    if not error and told.object == "error":
        error = {"message": told.message, "type": told.type, "code": told.code}
    message, status = read_error(error)
    if message is not None:
        kind = error.get("type") if isinstance(error, dict) else None
        return Fault(message, status or status_of(told.status_code), kind if isinstance(kind, str) else "")
    base = told.base_resp if isinstance(told.base_resp, dict) else {}
    if code := base.get("status_code"):
        said = str(base.get("status_msg") or "The provider reported an error.")[:1000]
        return Fault(said, _MINIMAX_STATUSES.get(code, 0) if isinstance(code, int) else 0, "")
    return _bare(told, reply) if may_be_bare else Fault()


def _bare(told: _Fault, reply: bytes) -> Fault:
    """The error in a reply that has a message, or a list of them, and nothing that a chunk has."""
    is_chunk = any(member is not None for member in (told.id, told.object, told.usage))
    said = next((one for one in (told.message, told.detail) if one is not None), None)
    words = message_in(reply) if isinstance(said, str | list) and not is_chunk else ""
    if not words:
        return Fault()
    error = {"message": words, "code": told.code, "status_code": told.status_code, "status": told.status}
    message, status = read_error({**error, "type": told.type})
    return Fault(message, status, told.type if isinstance(told.type, str) else "", is_bare=True)


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
    message = message_in(body) or f"The provider answered {status}."
    error = {"message": message, "type": "upstream_error", "param": None, "code": None}
    try:
        original = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return encode_object({"error": error})
    if isinstance(original, dict):
        said = original.get("message") or original.get("error") or original.get("detail") or fault_of(body).message
        error["message"] = (
            said if isinstance(said, str) else encode_object({"": said})[4:-1].decode() if said else message
        )
        for name in ("type", "param", "code"):
            if isinstance(original.get(name), str):
                error[name] = original[name]
    try:
        return encode_object({"error": {**error, "upstream": original}})
    except RecursionError:
        return encode_object({"error": error})
