"""Short-lived tokens: only this gateway's are read, and only while they are good."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.snapshot import Snapshot, with_keys
from penstock.domain.tenancy import Key, Project, Rights, Team
from penstock.errors import InvalidApiKey
from penstock.identity import tokens
from penstock.identity.authenticate import authenticate
from penstock.identity.tokens import Grant
from penstock.identity.virtual_keys import digest

PEPPER, NOW = b"pepper" * 6, 1_000.0
GRANT = Grant(sub="k1", key="ci", iat=1_000, exp=1_600, project="search")
SECRET = "pk-" + "s" * 40


def test_what_was_minted_is_read_again_until_it_expires() -> None:
    token = tokens.mint(PEPPER, GRANT)
    said = tokens.read(PEPPER, token, NOW)
    assert said is not None and (said.key, said.project, said.exp) == ("ci", "search", 1_600)
    assert said.jti.startswith("tok_") and tokens.mint(PEPPER, GRANT) != token
    assert tokens.read(PEPPER, token, 1_599.9) is not None
    assert tokens.read(PEPPER, token, 1_600.0) is None
    assert tokens.read(b"another" * 6, token, NOW) is None
    assert tokens.read(PEPPER, token, 900.0) is None, "a token of the future is none"


@given(st.data())
def test_no_changed_token_is_read(data: Any) -> None:
    token = tokens.mint(PEPPER, GRANT)
    place = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from("ABab01-_.=\u00e9"))
    changed = token[:place] + letter + token[place + 1 :]
    said = tokens.read(PEPPER, changed, NOW)
    assert said is None or changed == token


@pytest.mark.parametrize("algorithm", ["none", "HS384", "RS256", "hs256"])
def test_no_other_algorithm_is_taken_from_a_header(algorithm: str) -> None:
    _, said, signature = tokens.mint(PEPPER, GRANT).split(".")
    header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "typ": "at+jwt"}).encode()).decode().rstrip("=")
    for forged in (f"{header}.{said}.{signature}", f"{header}.{said}."):
        assert tokens.read(PEPPER, forged, NOW) is None


def _world(**key: Any) -> Snapshot:
    whole = Key("k1", "ci", digest(PEPPER, SECRET), "growth", **{"rights": Rights(models=("small",)), **key})
    snapshot = Snapshot(teams={"growth": Team("growth")}, projects={"search": Project("search", "test", "growth")})
    return with_keys(snapshot, whole)


def _principal(snapshot: Snapshot, **grant: Any) -> Any:
    token = tokens.mint(
        PEPPER, Grant(**{"sub": "k1", "key": "ci", "iat": 1_000, "exp": 1_600, "project": "search"} | grant)
    )
    return authenticate(snapshot, {"x-api-key": token}, PEPPER, NOW)


def test_a_token_is_its_key_within_its_project() -> None:
    principal = _principal(_world(), models=("tiny",), user="ada")
    assert (principal.key, principal.project, principal.environment, principal.user) == ("ci", "search", "test", "ada")
    assert [rights.models for rights in principal.rights] == [("tiny",), ("small",)]


@pytest.mark.parametrize(
    ("key", "grant"),
    [
        ({"revoked_at": 999.0}, {}),
        ({"expires_at": 999.0}, {}),
        ({"parent": "gone"}, {}),
        ({"project": "mail"}, {}),
        ({"user": "ben"}, {"user": "ada"}),
        ({}, {"sub": "k2"}),
        ({}, {"key": "other"}),
        ({}, {"project": "nothing"}),
        ({}, {"made_with": "0" * 16}),
        ({}, {"iss": "somebody"}),
    ],
)
def test_a_token_ends_with_what_it_stands_for(key: dict[str, Any], grant: dict[str, Any]) -> None:
    with pytest.raises(InvalidApiKey):
        _principal(_world(**key), **grant)


def test_a_token_of_an_old_secret_ends_with_its_grace() -> None:
    made_with = tokens.fingerprint(digest(PEPPER, SECRET))
    old = {"old_digest": digest(PEPPER, SECRET), "old_until": 1_500.0}
    rotated = Key("k1", "ci", "f" * 64, "growth", **old)
    snapshot = _world()
    assert _principal(snapshot, made_with=made_with).key == "ci"
    assert _principal(with_keys(snapshot, rotated), made_with=made_with).key == "ci"
    at_once = Key("k1", "ci", "f" * 64, "growth")
    with pytest.raises(InvalidApiKey):
        _principal(with_keys(snapshot, at_once), made_with=made_with)
