"""One use of an Idempotency-Key: which virtual key said it, for which request."""

from msgspec import Struct


class KeyUse(Struct, frozen=True):
    """`key`: id of the virtual key. `name`: hex SHA-256 of the Idempotency-Key. `content`: hex SHA-256 of the request's
    path and body. `request_id`: of the call that uses it."""

    key: str
    name: str
    content: str
    request_id: str
