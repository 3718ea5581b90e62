"""The root secret and what is derived from it.

One secret of the operator (`PENSTOCK_SECRET`) serves several purposes; each gets a key of its own by HMAC, so that
none of them says anything about another or about the root.
"""

import hmac
from dataclasses import dataclass

from penstock.domain.snapshot import Secret

MIN_ROOT_LENGTH = 16
_PEPPER_PURPOSE = b"penstock/v1/virtual-key-pepper"
_VERIFIER_PURPOSE = b"penstock/v1/verifier"
_VAULT_PURPOSE = b"penstock/v1/vault"


@dataclass(frozen=True)
class Root:
    """The root secret, and the one before while it is being replaced."""

    value: Secret
    previous: Secret | None = None


def pepper(root: str) -> bytes:
    """The 32-byte pepper under which virtual keys are hashed. A root of under 16 characters is a ValueError."""
    if len(root) < MIN_ROOT_LENGTH:
        raise ValueError(f"the root secret needs {MIN_ROOT_LENGTH} characters or more")
    return hmac.digest(root.encode(), _PEPPER_PURPOSE, "sha256")


def vault_key(root: str) -> bytes:
    """The 32-byte key under which the vault's data keys are wrapped, where nobody else keeps them."""
    return hmac.digest(root.encode(), _VAULT_PURPOSE, "sha256")


def verifier(pepper: bytes) -> str:
    """What may stand in the store to tell by whether another box has the same pepper; it says nothing else of it."""
    return hmac.digest(pepper, _VERIFIER_PURPOSE, "sha256").hex()
