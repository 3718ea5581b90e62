"""Statements of trusted issuers: what is believed, and everything that must not be."""

import base64
import hmac
import json
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from msgspec import structs

from penstock.domain.tenancy import Principal
from penstock.domain.trust import Front, Issuer, Rule
from penstock.errors import InvalidApiKey, NotPermitted, UnknownSigner
from penstock.identity.assertions import Assertions, usable_keys
from penstock.identity.workloads import rule_for, vouched

NOW = 1_000_000.0
RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})


def _jwks(*keys: Any) -> str:
    return json.dumps({"keys": [key.as_dict(private=False) for key in keys]})


ISSUER = Issuer("lab", "https://issuer.test", "penstock", _jwks(RSA, EC))
CLAIMS = {"iss": "https://issuer.test", "aud": "penstock", "sub": "job", "exp": int(NOW) + 300}


def _token(key: Any = RSA, alg: str = "RS256", kid: str | None = "rsa", **claims: Any) -> str:
    header = {"alg": alg} if kid is None else {"alg": alg, "kid": kid}
    said = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}
    return jwt.encode(header, said, key, algorithms=[alg])


def _read(token: str, issuer: Issuer = ISSUER, now_s: float = NOW) -> Any:
    return Assertions().read(issuer, token, now_s)


@pytest.mark.parametrize(("key", "alg", "kid"), [(RSA, "RS256", "rsa"), (RSA, "PS256", "rsa"), (EC, "ES256", "ec")])
def test_what_a_trusted_issuer_signed_is_believed(key: Any, alg: str, kid: str) -> None:
    assert _read(_token(key, alg, kid))["sub"] == "job"
    assert _read(_token(key, alg, None))["sub"] == "job", "one key fits, so it need not be named"
    assert _read(_token(key, alg, kid, aud=["other", "penstock"]))["sub"] == "job"


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.test"},
        {"iss": None},
        {"aud": "other"},
        {"aud": None},
        {"exp": int(NOW) - 31},
        {"exp": None},
        {"exp": int(NOW) + 10 * 24 * 3600},
        {"exp": "tomorrow"},
        {"nbf": int(NOW) + 60},
    ],
)
def test_a_claim_that_is_not_as_it_must_be_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(InvalidApiKey):
        _read(_token(**claims))


def _forged(header: dict[str, Any], signature: str = "") -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (header, CLAIMS)]
    return ".".join([*parts, signature])


def test_no_token_chooses_how_it_is_checked() -> None:
    public = RSA.as_pem(private=False)
    unsigned = _forged({"alg": "HS256", "kid": "rsa"})[:-1]
    code = base64.urlsafe_b64encode(hmac.digest(public, unsigned.encode(), "sha256")).decode().rstrip("=")
    with_the_public_key_as_secret = f"{unsigned}.{code}"
    for token in (
        _forged({"alg": "none"}),
        _forged({"alg": "None", "kid": "rsa"}),
        _forged({"kid": "rsa"}),
        _forged({"alg": ["RS256"], "kid": "rsa"}),
        with_the_public_key_as_secret,
        _token(EC, "ES256", "ec")[:-8] + "AAAAAAAA",
        _token()[: -len("x")],
        "a.b.c",
        "",
        "." * 10,
        "x" * 20_000,
        _forged({"alg": "RS256", "kid": "rsa"}, "\u00e9"),
    ):
        with pytest.raises(InvalidApiKey):
            _read(token)
    with pytest.raises(InvalidApiKey):
        _read(_token(EC, "ES256", "ec"), structs.replace(ISSUER, algorithms=("RS256",)))


def test_a_key_that_is_not_known_asks_for_another_look() -> None:
    other = RSAKey.generate_key(2048, {"kid": "new"})
    with pytest.raises(UnknownSigner):
        _read(_token(other, kid="new"))
    with pytest.raises(UnknownSigner):
        _read(_token(), structs.replace(ISSUER, jwks=""))
    with pytest.raises(InvalidApiKey):
        _read(_token(other, kid="rsa"))
    assert _read(_token(other, kid="new"), structs.replace(ISSUER, jwks=_jwks(RSA, other)))["sub"] == "job"


def test_what_was_checked_is_remembered_and_still_expires_and_is_forgotten_with_its_key() -> None:
    assertions, token = Assertions(), _token()
    assert assertions.read(ISSUER, token, NOW) is assertions.read(ISSUER, token, NOW + 1)
    with pytest.raises(InvalidApiKey):
        assertions.read(ISSUER, token, NOW + 400)
    with pytest.raises(InvalidApiKey):
        assertions.read(structs.replace(ISSUER, jwks=_jwks(EC)), token, NOW)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"keys": 1}', '{"keys": [1]}', "no", '{"keys": [{"kty": "RSA", "n": 5}]}']
)
def test_what_is_no_key_set_gives_no_key(text: str) -> None:
    try:
        assert usable_keys(text) == 0
    except ValueError as error:
        assert "JWK Set" in str(error)


def test_shared_secrets_and_keys_for_encryption_are_no_keys() -> None:
    odd = [{"kty": "oct", "k": "c2VjcmV0"}, {**RSA.as_dict(private=False), "use": "enc"}, {"kty": "AKP"}]
    assert usable_keys(json.dumps({"keys": [*odd, EC.as_dict(private=False)]})) == 1


def test_the_first_rule_whose_claims_are_met_decides() -> None:
    rules = (
        Rule({"repository": ("acme/search",), "ref": ("refs/heads/main",)}, "release"),
        Rule({"repository": ("acme/*",)}, "any"),
        Rule({"/kubernetes.io/namespace": ("search", "mail")}, "pod"),
        Rule({"groups": ("builders",)}, "builders"),
        Rule({"verified": ("true",)}, "verified"),
    )
    issuer = structs.replace(ISSUER, rules=rules)

    def key_for(**claims: Any) -> str | None:
        rule = rule_for(issuer, claims)
        return None if rule is None else rule.key

    assert key_for(repository="acme/search", ref="refs/heads/main") == "release"
    assert key_for(repository="acme/search", ref="refs/pull/1") == "any"
    assert key_for(repository="acme-evil/search") is None
    assert key_for(**{"kubernetes.io": {"namespace": "mail"}}) == "pod"
    assert key_for(**{"kubernetes.io": {"namespace": "other"}}) is None
    assert key_for(**{"kubernetes.io": "mail"}) is None
    assert key_for(groups=["readers", "builders"]) == "builders"
    assert key_for(groups=[["builders"]]) is None
    assert key_for(verified=True) == "verified"
    assert key_for() is None


def test_a_gateway_in_front_sets_what_its_key_leaves_open() -> None:
    front = Front("x-caller", ISSUER, user="sub", tags={"customer": "tenant"}, keys=("edge",))
    principal = vouched(Principal("k1", "edge"), front, {"sub": "ada", "tenant": "acme"})
    assert principal.user == "ada" and principal.pinned() == {"customer": "acme"}
    assert vouched(Principal("k1", "edge", user="ada"), front, {"sub": "ada"}).pinned() == {}
    with pytest.raises(NotPermitted):
        vouched(Principal("k1", "edge", user="ben"), front, {"sub": "ada"})
    for claims in ({}, {"sub": 5}, {"sub": "a,b"}):
        with pytest.raises(InvalidApiKey):
            vouched(Principal("k1", "edge"), front, claims)
