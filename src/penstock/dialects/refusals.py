"""A provider's refusal in the words of another dialect."""

import re
from typing import Any

import msgspec

from penstock.errors import (
    BodyTooLarge,
    ContextTooLong,
    GatewayError,
    InternalError,
    InvalidRequest,
    ModelNotFound,
    NotPermitted,
    Overloaded,
    RateLimitExceeded,
)

MAX_MESSAGE = 2_000

_MEANINGS: dict[int, type[GatewayError]] = {
    403: NotPermitted,
    404: ModelNotFound,
    408: InternalError,
    413: BodyTooLarge,
    424: InternalError,
    429: RateLimitExceeded,
    503: Overloaded,
    529: Overloaded,
}
"""What a provider's status says in the words of every dialect; the rest is the request's fault, or the provider's."""


_SAYING = ("error", "message", "Message", "detail", "errors", "msg", "base_resp", "status_msg", "x_groq")
"""Members that hold a message, or lead to it."""


_TOO_LONG = re.compile(
    r"context_length_exceeded|maximum context length|context (?:window|length|size)|prompt is too long"
    r"|input is too long|input token count|too many (?:input )?tokens|maximum prompt length",
    re.IGNORECASE,
)
"""How vendors say that a conversation does not fit: OpenAI and who follows it, Anthropic, Bedrock, Google, Cohere,
xAI."""


def refusal_as_told(body: bytes, status: int) -> GatewayError:
    """A provider's refusal as an error that every dialect can write: its own message, under the status's meaning."""
    meaning = _MEANINGS.get(status, InvalidRequest if status < 500 else InternalError)
    message = message_in(body)
    if status in (400, 413, 422) and (_TOO_LONG.search(message) or b"context_length_exceeded" in body):
        meaning = ContextTooLong
    return meaning(message or f"The provider answered {status}.")


def message_in(body: bytes) -> str:
    """What a provider's error body says, in any of the forms that vendors use."""
    try:
        told: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""
    for _ in range(3):
        if isinstance(told, list) and told:  # Google, FastAPI, Cloudflare
            told = told[0]
        if isinstance(told, dict):
            members = (told.get(name) for name in _SAYING)
            told = next((member for member in members if isinstance(member, str | dict | list) and member), "")
    return told[:MAX_MESSAGE] if isinstance(told, str) else ""
