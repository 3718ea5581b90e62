"""Virtual keys: their shape, their checksum, their digest."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.identity.authenticate import presented_secret
from penstock.identity.secret import pepper
from penstock.identity.virtual_keys import MAX_LENGTH, digest, has_valid_checksum, mint, prefix, well_formed

PEPPER = pepper("a root secret for tests")


def test_a_minted_secret_is_well_formed_checked_and_never_the_same() -> None:
    secrets = [mint() for _ in range(200)]
    assert len(set(secrets)) == 200
    for secret in secrets:
        assert len(secret) == 52 and secret.startswith("pk-") and secret[3:].isalnum()
        assert well_formed(secret) and has_valid_checksum(secret)


@given(st.integers(0, 51), st.sampled_from("0123456789ABCXYZabcxyz-_ \n\u00e9"))
def test_any_typing_error_is_seen_without_a_look_up(place: int, character: str) -> None:
    secret = mint()
    mistyped = secret[:place] + character + secret[place + 1 :]
    assert has_valid_checksum(mistyped) == (mistyped == secret)


@pytest.mark.parametrize("secret", ["", "pk-", "pk-" + "a" * 49, "sk-" + "a" * 49])
def test_what_was_not_minted_has_no_valid_checksum(secret: str) -> None:
    assert not has_valid_checksum(secret)


@pytest.mark.parametrize("secret", ["pk-" + "a" * 32, "pk-" + "A_-9" * 20, "pk-" + "a" * (MAX_LENGTH - 3)])
def test_a_declared_secret_needs_32_characters_and_no_checksum(secret: str) -> None:
    assert well_formed(secret)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "pk-" + "a" * 31,
        "PK-" + "a" * 40,
        "pk-" + "a" * 31 + ".",
        "pk-" + "a" * 40 + "\n",
        "pk-" + "\u0661" * 40,
        "pk-" + "a" * MAX_LENGTH,
    ],
)
def test_anything_else_is_not_well_formed(secret: str) -> None:
    assert not well_formed(secret)


def test_the_digest_is_the_hmac_of_the_secret_under_the_pepper() -> None:
    secret = mint()
    assert digest(PEPPER, secret) == hmac.new(PEPPER, secret.encode(), hashlib.sha256).hexdigest()
    assert digest(pepper("another root secret..."), secret) != digest(PEPPER, secret)


def test_the_prefix_shows_four_characters_of_the_secret() -> None:
    assert prefix("pk-abcdefgh") == "pk-abcd"


def test_the_pepper_is_not_the_root_and_a_short_root_is_refused() -> None:
    assert len(PEPPER) == 32 and PEPPER != b"a root secret for tests"
    with pytest.raises(ValueError, match="16 characters"):
        pepper("short")


def test_a_minted_secret_that_lost_or_gained_a_character_has_no_valid_checksum() -> None:
    secret = mint()
    assert has_valid_checksum(secret)
    assert not has_valid_checksum(secret[:-1])
    assert not has_valid_checksum(secret + "0")


def test_a_request_that_an_aws_sdk_signed_presents_the_id_of_its_access_key() -> None:
    secret = mint()
    proof = "20261126/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature=00"
    assert presented_secret({"authorization": f"AWS4-HMAC-SHA256 Credential={secret}/{proof}"}) == secret
    assert presented_secret({"authorization": f"AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/{proof}"}) is None
    both = {"authorization": f"AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/{proof}", "x-api-key": secret}
    assert presented_secret(both) == secret
