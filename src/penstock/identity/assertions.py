"""Signed statements of others about who somebody is: JWTs of trusted issuers, checked with their public keys.

Sources: RFC 7519 (JWT), RFC 7517 (JWK Set), RFC 8725 (what to check of a JWT, and why). joserfc checks signatures and
claims; here is decided which key and which algorithms may be used, before a byte of the token is believed.

A worker imports this module only where there is an issuer to trust: it takes 20 MB.
"""

import base64
import binascii
from collections import OrderedDict
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey

from penstock.domain.trust import Issuer
from penstock.errors import InvalidApiKey, UnknownSigner

MAX_LENGTH = 16_384
MAX_KEYS = 100
LEEWAY_S = 30
"""How far clocks may be apart."""
MAX_LIFE_S = 24 * 3600
"""Of a statement that is believed; nobody states for longer who calls now."""
REMEMBERED = 10_000

Claims = Mapping[str, Any]


class Assertions:
    """Checks statements and remembers those that it has checked, as long as they are good and their issuer is as it
    was. For one process."""

    def __init__(self) -> None:
        self._keys: dict[str, list[RSAKey | ECKey]] = {}
        self._checked: OrderedDict[bytes, tuple[Issuer, Claims]] = OrderedDict()

    def read(self, issuer: Issuer, token: str, now_s: float) -> Claims:
        """The claims of a statement of this issuer. Raises `InvalidApiKey`, and `UnknownSigner` where its keys may have
        to be looked at again."""
        mark = sha256(token.encode("utf-8", "surrogatepass")).digest()
        checked, claims = self._checked.get(mark, (None, {}))
        if checked != issuer:
            claims = self._verified(issuer, token)
        _check(issuer, claims, now_s)
        self._checked[mark] = issuer, claims
        if len(self._checked) > REMEMBERED:
            self._checked.popitem(last=False)
        return claims

    def issuer_of(self, token: str) -> str:
        """What the token says of who made it, before anything of it is believed; empty for what is no JWT."""
        try:
            said = msgspec.json.decode(_decoded(token.split(".")[1]), type=dict[str, Any])
        except (IndexError, InvalidApiKey, msgspec.MsgspecError, RecursionError):
            return ""
        name = said.get("iss")
        return name if isinstance(name, str) else ""

    def _verified(self, issuer: Issuer, token: str) -> Claims:
        header = _header(token)
        algorithm = header.get("alg")
        if algorithm not in issuer.algorithms:
            raise InvalidApiKey("The token is signed in a way that is not allowed.")
        key = self._key(issuer, header.get("kid"), str(algorithm))
        try:
            return jwt.decode(token, key, algorithms=[str(algorithm)]).claims
        except (JoseError, ValueError, TypeError, RecursionError):
            raise InvalidApiKey("The token's signature is not its issuer's.") from None

    def _key(self, issuer: Issuer, kid: object, algorithm: str) -> RSAKey | ECKey:
        if issuer.jwks not in self._keys:
            self._keys = {issuer.jwks: _public_keys(issuer.jwks), **dict(list(self._keys.items())[-MAX_KEYS:])}
        fitting = [key for key in self._keys[issuer.jwks] if _fits(key, algorithm)]
        if kid is not None:
            fitting = [key for key in fitting if key.kid == kid]
        if len(fitting) != 1:
            raise UnknownSigner("The token is signed with a key that its issuer is not known to have.")
        return fitting[0]


def usable_keys(jwks: str) -> int:
    """How many keys of a JWK Set can be trusted. Raises `ValueError` for what is none, or has too many."""
    keys = _public_keys(jwks)
    if len(keys) > MAX_KEYS:
        raise ValueError(f"it has more than {MAX_KEYS} keys")
    return len(keys)


def _public_keys(jwks: str) -> list[RSAKey | ECKey]:
    """Those for signatures. A shared secret is nobody's proof, so none is among them."""
    try:
        given = msgspec.json.decode(jwks, type=dict[str, Any]) if jwks else {"keys": []}
        public = [it for it in given["keys"] if it.get("kty") in {"RSA", "EC"} and it.get("use") != "enc"]
        found = KeySet.import_key_set({"keys": public}).keys if public else []
    except (JoseError, msgspec.MsgspecError, KeyError, AttributeError, TypeError, ValueError):
        raise ValueError("it is no JWK Set") from None
    return [key for key in found if isinstance(key, RSAKey | ECKey)]


def _fits(key: RSAKey | ECKey, algorithm: str) -> bool:
    return isinstance(key, ECKey if algorithm.startswith("ES") else RSAKey) and key.get("alg", algorithm) == algorithm


def _check(issuer: Issuer, claims: Claims, now_s: float) -> None:
    now = int(now_s)
    registry = jwt.JWTClaimsRegistry(
        now=now,
        leeway=LEEWAY_S,
        iss={"essential": True, "value": issuer.issuer},
        aud={"essential": True, "value": issuer.audience},
        exp={"essential": True},
    )
    try:
        registry.validate(dict(claims))
    except JoseError:
        raise InvalidApiKey("The token is expired, not valid yet, or meant for somebody else.") from None
    if claims["exp"] > now + MAX_LIFE_S:
        raise InvalidApiKey("The token is good for longer than a day, which nobody's word is.")


def _header(token: str) -> dict[str, Any]:
    if len(token) > MAX_LENGTH or token.count(".") != 2:
        raise InvalidApiKey("The token is no signed JWT.")
    try:
        return msgspec.json.decode(_decoded(token.partition(".")[0]), type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        raise InvalidApiKey("The token is no signed JWT.") from None


def _decoded(segment: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except (binascii.Error, ValueError):
        raise InvalidApiKey("The token is no signed JWT.") from None
