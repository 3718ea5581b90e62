"""Idempotency-Key: a caller's word for one call, so that saying it twice does not pay twice.

Source: IETF draft "The Idempotency-Key HTTP Header Field" (draft-ietf-httpapi-idempotency-key-header). An answer is
never kept, so it cannot be given again: the second request is refused, with the id of the first.
"""

from hashlib import sha256

from penstock.domain.exchange import Exchange
from penstock.domain.idempotency import KeyUse
from penstock.errors import IdempotencyConflict, IdempotencyMismatch, InvalidRequest

HEADER = "idempotency-key"
MAX_LENGTH = 255


def key_use(exchange: Exchange, body: bytes) -> KeyUse | None:
    """What the request says; None without the header. The exchange is authenticated. Raises `InvalidRequest`."""
    said = exchange.headers.get(HEADER)
    if said is None:
        return None
    if not 0 < len(said) <= MAX_LENGTH or not all("!" <= character <= "~" for character in said):
        raise InvalidRequest(
            f"'Idempotency-Key' must be 1 to {MAX_LENGTH} visible ASCII characters without spaces, and be sent once.",
            param="Idempotency-Key",
        )
    assert exchange.principal is not None
    content = sha256(exchange.path.encode() + b"\n" + body).hexdigest()
    return KeyUse(exchange.principal.key_id, sha256(said.encode()).hexdigest(), content, exchange.request_id)


def refusal(first: KeyUse, second: KeyUse) -> IdempotencyConflict:
    """What the second request with an Idempotency-Key is told of the first."""
    if first.content != second.content:
        return IdempotencyMismatch(
            f"This Idempotency-Key is another request's, {first.request_id}: send a new one with a new request.",
            first.request_id,
        )
    return IdempotencyConflict(
        f"This request was sent before, as {first.request_id}, and is not sent twice. What came of it is at "
        f"GET /v1/receipts/{first.request_id}.",
        first.request_id,
    )
