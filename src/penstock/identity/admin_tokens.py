"""The secrets of administrators: how a token of the admin API is made and recognised.

`ak-` and 256 random bits for administrators and machines, `sk-` for an identity provider's provisioning client. As with
virtual keys the gateway keeps the digest alone.
"""

import re
import secrets

ADMIN, PROVISIONING = "ak-", "sk-"
_SHOWN_LENGTH = 7
_WELL_FORMED = re.compile(r"(?:ak|sk)-[A-Za-z0-9_-]{43}", re.ASCII)


def mint(prefix: str) -> str:
    """A new secret. It exists once: show it to its owner and keep only its digest."""
    return prefix + secrets.token_urlsafe(32)


def well_formed(secret: str) -> bool:
    """Whether `secret` can be such a token at all."""
    return _WELL_FORMED.fullmatch(secret) is not None


def shown(secret: str) -> str:
    """The first characters: enough for a person to tell tokens apart, useless to anybody else."""
    return secret[:_SHOWN_LENGTH]
