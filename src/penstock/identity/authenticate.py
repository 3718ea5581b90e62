"""AUTHENTICATE: from request headers to the key that calls."""

from collections.abc import Mapping

from penstock.domain.snapshot import Key, Snapshot
from penstock.errors import InvalidApiKey
from penstock.identity.virtual_keys import digest, well_formed

KEY_HEADERS = ("x-api-key", "api-key", "x-goog-api-key")


def authenticate(snapshot: Snapshot, headers: Mapping[str, str], pepper: bytes, now_s: float) -> Key:
    """The key whose secret the caller presents. Raises `InvalidApiKey`; what it says never tells whether a key that is
    not the caller's exists."""
    secret = presented_secret(headers)
    if secret is None:
        raise InvalidApiKey("No API key was given. Send 'Authorization: Bearer pk-...'.")
    key = snapshot.keys.get(digest(pepper, secret)) if well_formed(secret) else None
    if key is None:
        raise InvalidApiKey("The API key is not known to this gateway.")
    if key.revoked_at is not None and key.revoked_at <= now_s:
        raise InvalidApiKey(f"The API key '{key.name}' was revoked.")
    if key.expires_at is not None and key.expires_at <= now_s:
        raise InvalidApiKey(f"The API key '{key.name}' has expired.")
    return key


def presented_secret(headers: Mapping[str, str]) -> str | None:
    """The secret from `Authorization: Bearer`, `x-api-key`, `api-key` or `x-goog-api-key`; the first that is there."""
    authorization = headers.get("authorization")
    if authorization:
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() == "bearer" and secret.strip():
            return secret.strip()
    return next((value.strip() for name in KEY_HEADERS if (value := headers.get(name))), None)
