"""Short-lived tokens: what a virtual key or a workload's identity is exchanged for, for some minutes.

A token is a JWT (RFC 7519) signed with HMAC-SHA-256 under a key that is derived from the root secret. Whoever knows the
pepper of keys can make and check one, which are the gateway's own processes, so a worker needs nobody for it. It costs
a worker about as much as looking up a key; a signature with a public key costs fifty times that.

Its header is always the same, so that no token can choose how it is checked. The token names its key: as long as that
one is not stopped, revoked or expired, and no longer, the token is good.
"""

import base64
import binascii
import hmac
import secrets
from functools import lru_cache

import msgspec
from msgspec import Struct

ISSUER = "penstock"
MAX_LENGTH = 8_192
MAX_TTL_S = 3_600
FINGERPRINT_LENGTH = 16
_PURPOSE = b"penstock/v1/token"


class Grant(Struct, frozen=True, omit_defaults=True):
    """What a token says. `sub`: the id of the key that it stands for, `key`: its name. `iat`, `exp`: Unix seconds.
    `project`, `user`, `tags`, `models` and `surfaces` narrow what the key may do. `made_with`: the beginning of the
    digest of the secret that was exchanged; `act`: the workload that was, as `<issuer>|<subject>`."""

    sub: str
    key: str
    iat: int
    exp: int
    project: str = ""
    user: str = ""
    tags: dict[str, str] = {}
    models: tuple[str, ...] = ()
    surfaces: tuple[str, ...] = ()
    made_with: str = ""
    act: str = ""
    jti: str = ""
    iss: str = ISSUER


def _segment(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


_HEADER = _segment(b'{"alg":"HS256","typ":"at+jwt"}')
_decoder = msgspec.json.Decoder(Grant)


def is_token(secret: str) -> bool:
    """Whether this can be one of the gateway's tokens at all."""
    return secret.startswith(_HEADER) and len(secret) <= MAX_LENGTH


def new_id() -> str:
    """The id of a token, under which the audit log has it."""
    return f"tok_{secrets.token_hex(12)}"


def mint(pepper: bytes, grant: Grant) -> str:
    """The token that says `grant`, with an id of its own where it has none yet."""
    said = msgspec.json.encode(grant if grant.jti else msgspec.structs.replace(grant, jti=new_id()))
    signed = f"{_HEADER}.{_segment(said)}"
    return f"{signed}.{_signature(pepper, signed)}"


def read(pepper: bytes, token: str, now_s: float) -> Grant | None:
    """What the token says, where this gateway made it and it has not expired."""
    signed, _, signature = token.rpartition(".")
    header, _, said = signed.partition(".")
    if header != _HEADER or not signature.isascii():
        return None
    if not hmac.compare_digest(signature, _signature(pepper, signed)):
        return None
    try:
        grant = _decoder.decode(base64.urlsafe_b64decode(said + "=" * (-len(said) % 4)))
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        return None
    return grant if grant.iss == ISSUER and grant.iat <= now_s + 60 and now_s < grant.exp else None


def fingerprint(digest: str) -> str:
    """What a token keeps of the digest of the secret that it was made with."""
    return digest[:FINGERPRINT_LENGTH]


def _signature(pepper: bytes, signed: str) -> str:
    return _segment(hmac.digest(_key(pepper), signed.encode(), "sha256"))


@lru_cache(maxsize=4)
def _key(pepper: bytes) -> bytes:
    return hmac.digest(pepper, _PURPOSE, "sha256")
