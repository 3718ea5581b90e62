"""Whose word the gateway takes for who a workload or a user is: issuers of signed tokens, and what claims mean."""

from msgspec import Struct

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""The signatures that can be trusted, which are those of JWT-SVIDs (SPIFFE, "JWT-SVID", section 2.2). None of them is
one that whoever can check it could also make."""


class Rule(Struct, frozen=True, omit_defaults=True):
    """A token whose claims are these stands for the key `key`, in the project `project` (empty: the key's own).
    `claims`: claim -> the values that it may have. `user`: the claim that names the user, or empty."""

    claims: dict[str, tuple[str, ...]]
    key: str
    project: str = ""
    user: str = ""


class Issuer(Struct, frozen=True, omit_defaults=True):
    """`issuer` and `audience`: the claims `iss` and `aud` of its tokens. `jwks`: its public keys, as the JSON of a JWK
    Set (RFC 7517); empty while they could not be had. `rules`: the first whose claims are met decides."""

    name: str
    issuer: str
    audience: str
    jwks: str = ""
    algorithms: tuple[str, ...] = ALGORITHMS
    rules: tuple[Rule, ...] = ()


class Front(Struct, frozen=True, omit_defaults=True):
    """An API gateway that stands in front and says in a header, signed, whose call it passes on. `header`: in lower
    case. `user`: the claim that names the user, or empty; `tags`: tag -> claim. `keys`: the keys with which it calls,
    whose calls must have the header."""

    header: str
    issuer: Issuer
    user: str = ""
    tags: dict[str, str] = {}
    keys: tuple[str, ...] = ()


class Exchanged(Struct, frozen=True, omit_defaults=True):
    """That a token was given: for the audit log. `token`: its id. `key`, `team`, `key_project`: of the key that it
    stands for, and whose that is. `project`, `user`, `models`, `surfaces`: what it is good for. `act`: the workload
    whose identity was exchanged, empty where it was the key. `expires_at`: Unix seconds. `address`: the client's."""

    token: str
    key: str
    team: str
    key_project: str
    project: str
    expires_at: int
    user: str = ""
    models: tuple[str, ...] = ()
    surfaces: tuple[str, ...] = ()
    act: str = ""
    address: str = ""
    request_id: str = ""


class Trust(Struct, frozen=True, omit_defaults=True):
    """`token_ttl_s`: how long the tokens are good that the gateway makes. `issuers`: by their claim `iss`."""

    token_ttl_s: int = 600
    issuers: dict[str, Issuer] = {}
    front: Front | None = None

    def every_issuer(self) -> tuple[Issuer, ...]:
        return (*self.issuers.values(), *((self.front.issuer,) if self.front else ()))
