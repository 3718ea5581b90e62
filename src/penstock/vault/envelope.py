"""The envelope: a secret under a data key, and a data key under the root secret (AES-256-GCM, NIST SP 800-38D).

What is sealed is a format byte, a random nonce of 96 bits, and the ciphertext with its tag of 128 bits. The context is
authenticated and not kept: what was sealed for one name, address and version does not open for another, whoever moved
its bytes there. A data key seals the secrets of one tenant, so it stays far below the 2^32 seals that a random nonce is
good for.

The library is loaded with the first secret: a start that has none to open is not kept waiting for it.
"""

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import msgspec

from penstock.errors import SealBroken

KEY_BYTES = 32
_FORMAT = b"\x01"
_NONCE_BYTES = 12


def new_key() -> bytes:
    """A data key: 256 random bits."""
    return os.urandom(KEY_BYTES)


def seal(key: bytes, secret: bytes, context: Sequence[str]) -> bytes:
    """`secret` under `key`, for `context` alone."""
    nonce = os.urandom(_NONCE_BYTES)
    sealed: bytes = _cipher(key).encrypt(nonce, secret, _bound(context))
    return _FORMAT + nonce + sealed


def unseal(key: bytes, sealed: bytes, context: Sequence[str]) -> bytes:
    """What `seal` was given. Raises SealBroken for another key or context, and for bytes that were changed."""
    head, nonce, content = sealed[:1], sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    if head != _FORMAT:
        raise SealBroken("what is sealed is of a format that this release does not know")
    invalid_tag = import_module("cryptography.exceptions").InvalidTag
    try:
        opened: bytes = _cipher(key).decrypt(nonce, content, _bound(context))
    except (invalid_tag, ValueError):
        raise SealBroken("what is sealed does not open: it was changed, or sealed under another key") from None
    return opened


def _cipher(key: bytes) -> Any:
    return import_module("cryptography.hazmat.primitives.ciphers.aead").AESGCM(key)


def _bound(context: Sequence[str]) -> bytes:
    """The context as bytes that no other context has."""
    return msgspec.json.encode(list(context))
