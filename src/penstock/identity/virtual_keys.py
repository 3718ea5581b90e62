"""Virtual keys: how a caller's secret is made, recognised and looked up.

A minted secret is `pk-`, 256 random bits as 43 base62 characters, and a CRC-32 of both as 6 more, so that a typing
error or a truncated paste is told apart from a stranger's key without a look-up. A declared key brings its own secret:
`pk-` and 32 or more characters of `A-Z a-z 0-9 _ -`. The gateway keeps only `digest`; no clock or store is
known here.
"""

import hmac
import re
import secrets
import zlib
from functools import lru_cache

PREFIX = "pk-"
MAX_LENGTH = 256
"""Longer secrets are not well formed, so that no caller makes us hash a megabyte."""

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_LENGTH = 43
_CHECKSUM_LENGTH = 6
_SHOWN_LENGTH = 7
_WELL_FORMED = re.compile(r"pk-[A-Za-z0-9_-]{32,}", re.ASCII)


def mint() -> str:
    """A new secret of 52 characters. It exists once: show it to its owner and keep only its digest."""
    body = PREFIX + _base62(secrets.randbits(256), _RANDOM_LENGTH)
    return body + _checksum(body)


def well_formed(secret: str) -> bool:
    """Whether `secret` can be a virtual key at all, minted or declared."""
    return len(secret) <= MAX_LENGTH and _WELL_FORMED.fullmatch(secret) is not None


def has_valid_checksum(secret: str) -> bool:
    """Whether `secret` has the shape and checksum of a minted key. A declared key has none, so False proves nothing."""
    if len(secret) != len(PREFIX) + _RANDOM_LENGTH + _CHECKSUM_LENGTH or not secret.startswith(PREFIX):
        return False
    return _checksum(secret[:-_CHECKSUM_LENGTH]) == secret[-_CHECKSUM_LENGTH:]


def digest(pepper: bytes, secret: str) -> str:
    """Hex HMAC-SHA-256 of `secret` under the gateway's pepper: what the store keeps and callers are known by."""
    keyed = _keyed(pepper).copy()
    keyed.update(secret.encode())
    return keyed.hexdigest()


@lru_cache(maxsize=4)
def _keyed(pepper: bytes) -> hmac.HMAC:
    """The HMAC with its key already taken in: copying it costs less than half of making it."""
    return hmac.new(pepper, digestmod="sha256")


def prefix(secret: str) -> str:
    """The first 7 characters: enough for a person to tell keys apart, useless to anybody else."""
    return secret[:_SHOWN_LENGTH]


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    """`number` in base 62, most significant digit first, padded with zeros to `length`."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
