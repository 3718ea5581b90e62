"""The section `identity`: whose signed word is taken for who a workload or a user is."""

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from penstock.config.values import OWN_HEADERS, DurationMs, Name, base_url, one_of, shown, unique
from penstock.domain.trust import ALGORITHMS, Front, Issuer, Rule, Trust

MAX_TTL_MS = 3_600_000
MAX_TEXT = 1_000
_HEADER = re.compile(r"[a-z][a-z0-9-]{0,127}")
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, defer_build=True)


def _text(value: object) -> object:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or not value.isprintable():
        raise ValueError(f"must be 1 to {MAX_TEXT} printable characters; put it in quotes")
    return value


def _values(value: object) -> object:
    """One value of a claim, or a list of those that it may have."""
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError("lists no value")
    return [_text(each) for each in values]


def _key_source(value: object) -> str:
    """`https://...`, or `http://` on this machine, or `file:PATH`."""
    text = str(_text(value))
    if text.startswith("file:") and len(text) > len("file:"):
        return text
    url = base_url(text)
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise ValueError("must be https://..., or file:PATH: whoever can change the keys on the way can be anybody")
    return url


Text = Annotated[str, BeforeValidator(_text)]
ClaimName = Text
"""A claim, or a JSON pointer (RFC 6901) to one within others: `/kubernetes.io/namespace`."""


Algorithms = Annotated[list[Annotated[str, one_of(*ALGORITHMS)]], Field(min_length=1), unique("the algorithm")]


class TrustRule(_Section):
    """A token whose claims are these is exchanged for one of the key `key`, in `project`. `user`: the claim that names
    the user. A value that ends in `*` stands for all that begin so."""

    claims: Annotated[dict[ClaimName, Annotated[list[str], BeforeValidator(_values)]], Field(min_length=1)]
    key: Name
    project: Name = ""
    user: ClaimName | None = None

    def rule(self) -> Rule:
        claims = {name: tuple(values) for name, values in self.claims.items()}
        return Rule(claims, self.key, self.project, self.user or "")


class Signer(_Section):
    """Who signs. `issuer`, `audience`: the claims `iss` and `aud`; `jwks`: where its public keys are."""

    issuer: Text
    audience: Text
    jwks: Annotated[str, BeforeValidator(_key_source)]
    algorithms: Algorithms = list(ALGORITHMS)


class TrustedIssuer(Signer):
    name: Name
    rules: Annotated[list[TrustRule], Field(min_length=1)]

    def issuer_with(self, jwks: str) -> Issuer:
        rules = tuple([rule.rule() for rule in self.rules])
        return Issuer(self.name, self.issuer, self.audience, jwks, tuple(self.algorithms), rules)


class TrustedGateway(Signer):
    """An API gateway in front of this one. `header`: where it writes its signed word; `keys`: those with which it
    calls. `user`: the claim that names the user, `tags`: tag -> claim."""

    header: Text
    keys: Annotated[list[Name], Field(min_length=1), unique("the key")]
    user: ClaimName | None = None
    tags: dict[Name, ClaimName] = {}

    @field_validator("header")
    @classmethod
    def _free(cls, value: str) -> str:
        name = value.lower()
        if not _HEADER.fullmatch(name) or name in OWN_HEADERS or name.startswith(("x-penstock-", "x-forwarded-")):
            raise ValueError(f"{shown(value)} is no header that can be told apart: write one such as x-caller-identity")
        return name

    def front_with(self, jwks: str) -> Front:
        issuer = Issuer("gateway", self.issuer, self.audience, jwks, tuple(self.algorithms))
        return Front(self.header, issuer, self.user or "", self.tags, tuple(self.keys))


class Identity(_Section):
    """`token_ttl_ms`: how long a token that the gateway makes is good."""

    token_ttl_ms: DurationMs = Field(default=600_000, alias="token_ttl", le=MAX_TTL_MS)
    issuers: list[TrustedIssuer] = []
    gateway: TrustedGateway | None = None

    @field_validator("issuers")
    @classmethod
    def _different(cls, value: list[TrustedIssuer]) -> list[TrustedIssuer]:
        for field in ("name", "issuer"):
            said = [getattr(each, field) for each in value]
            for index, one in enumerate(said):
                if one in said[:index]:
                    raise ValueError(f"names the {field} {shown(one)} twice")
        return value

    def names_users(self) -> bool:
        """Whether somebody's signed word says who the user of a call is."""
        told = [rule.user for issuer in self.issuers for rule in issuer.rules]
        return any(told) or (self.gateway is not None and self.gateway.user is not None)

    def sources(self) -> list[str]:
        """Where keys are looked for, each once."""
        signers: list[Any] = [*self.issuers, *([self.gateway] if self.gateway else [])]
        return list(dict.fromkeys(signer.jwks for signer in signers))

    def trust(self, keys: dict[str, str]) -> Trust:
        """`keys`: source -> the JWK Set that was found there."""
        issuers = {it.issuer: it.issuer_with(keys.get(it.jwks, "")) for it in self.issuers}
        front = self.gateway.front_with(keys.get(self.gateway.jwks, "")) if self.gateway else None
        return Trust(self.token_ttl_ms // 1000, issuers, front)
