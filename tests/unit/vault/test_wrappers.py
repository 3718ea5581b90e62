"""Every wrapper gives back the data key that it was given, by its own protocol, and says what is wrong."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from penstock.config.settings import KmsSettings, TransitSettings, VaultSettings
from penstock.errors import SealBroken, VaultUnavailable
from penstock.testing.ports import free_ports
from penstock.testing.transit import TransitServer
from penstock.testing.wire import eventually
from penstock.vault import envelope
from penstock.vault.kms import KmsWrapper
from penstock.vault.transit import TransitWrapper
from penstock.vault.wrappers import KeyWrapper, RootWrapper, wrappers_of

SCOPE = "organisation:default"
FIRST, SECOND = b"1" * 32, b"2" * 32


@pytest.fixture
def transit(monkeypatch: pytest.MonkeyPatch) -> Iterator[TransitServer]:
    with TransitServer() as server:
        monkeypatch.setenv("VAULT_TOKEN_OF_TEST", server.token)
        yield server


def transit_wrapper(server: TransitServer, key: str = "penstock") -> TransitWrapper:
    return TransitWrapper(TransitSettings(address=server.url, key=key, token="env:VAULT_TOKEN_OF_TEST"))


@pytest.fixture(scope="module")
def kms_url() -> Iterator[str]:
    """AWS KMS as moto serves it, over HTTP."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: _listens(port), 30, "moto listens")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))


def kms_wrapper(url: str) -> tuple[KmsWrapper, str]:
    client = boto3.client("kms", region_name="eu-central-1", endpoint_url=url)
    key = client.create_key()["KeyMetadata"]["Arn"]
    return KmsWrapper(KmsSettings(key=key, region="eu-central-1", endpoint=url)), key


def _holds_what_it_promises(wrapper: KeyWrapper) -> None:
    key = envelope.new_key()
    wrapped = wrapper.wrap(key, SCOPE)
    assert key not in wrapped
    assert wrapper.unwrap(wrapped, SCOPE) == key
    again = wrapper.rewrap(wrapped, SCOPE)
    assert again != wrapped
    assert wrapper.unwrap(again, SCOPE) == key
    with pytest.raises(SealBroken):
        wrapper.unwrap(wrapped[:-4] + b"AAAA", SCOPE)


def test_the_root_secret_wraps_and_unwraps() -> None:
    _holds_what_it_promises(RootWrapper(FIRST, "first"))


def test_transit_wraps_and_unwraps(transit: TransitServer) -> None:
    _holds_what_it_promises(transit_wrapper(transit))


def test_kms_wraps_and_unwraps(kms_url: str, aws: None) -> None:
    _holds_what_it_promises(kms_wrapper(kms_url)[0])


def test_a_data_key_of_one_tenant_is_none_of_another_where_the_wrapper_can_tell(kms_url: str, aws: None) -> None:
    for wrapper in (RootWrapper(FIRST, "first"), kms_wrapper(kms_url)[0]):
        with pytest.raises(SealBroken):
            wrapper.unwrap(wrapper.wrap(envelope.new_key(), SCOPE), "team:growth")


def test_the_root_secret_before_unwraps_and_rewrapping_leaves_it_behind() -> None:
    old, new = RootWrapper(FIRST, "first"), RootWrapper(SECOND, "second", previous=FIRST)
    wrapped = old.wrap(FIRST, SCOPE)
    assert new.unwrap(wrapped, SCOPE) == FIRST
    assert RootWrapper(SECOND, "second").unwrap(new.rewrap(wrapped, SCOPE), SCOPE) == FIRST
    with pytest.raises(SealBroken, match="PENSTOCK_SECRET_PREVIOUS"):
        RootWrapper(SECOND, "second").unwrap(wrapped, SCOPE)


def test_transit_rewraps_under_the_newest_version_of_its_key_without_telling_it(transit: TransitServer) -> None:
    wrapper = transit_wrapper(transit)
    wrapped = wrapper.wrap(FIRST, SCOPE)
    assert wrapped.startswith(b"vault:v1:")
    transit.rotate()
    transit.asked.clear()
    again = wrapper.rewrap(wrapped, SCOPE)
    assert again.startswith(b"vault:v2:")
    assert transit.asked == ["/v1/transit/rewrap/penstock"]
    assert wrapper.unwrap(again, SCOPE) == FIRST


def test_transit_says_what_is_wrong_and_repeats_no_token(
    transit: TransitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = transit_wrapper(transit)
    wrapped = wrapper.wrap(FIRST, SCOPE)
    transit.is_down = True
    with pytest.raises(VaultUnavailable, match=r"cannot be used: it refuses \(VaultDown\)"):
        wrapper.unwrap(wrapped, SCOPE)
    transit.is_down = False
    monkeypatch.setenv("VAULT_TOKEN_OF_TEST", "hvs.another-canary")
    with pytest.raises(VaultUnavailable, match="Forbidden") as refused:
        wrapper.unwrap(wrapped, SCOPE)
    assert "canary" not in str(refused.value)
    monkeypatch.delenv("VAULT_TOKEN_OF_TEST")
    with pytest.raises(VaultUnavailable, match=r"vault\.transit\.token: .* is not set"):
        wrapper.unwrap(wrapped, SCOPE)
    with pytest.raises(SealBroken, match="'nothing' does not open"):
        monkeypatch.setenv("VAULT_TOKEN_OF_TEST", transit.token)
        transit_wrapper(transit, "nothing").unwrap(wrapped, SCOPE)


def test_a_wrapper_that_does_not_answer_is_unavailable(monkeypatch: pytest.MonkeyPatch, aws: None) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("VAULT_TOKEN_OF_TEST", "hvs.x")
    transit = TransitWrapper(TransitSettings(address=url, key="k", token="env:VAULT_TOKEN_OF_TEST"))
    kms = KmsWrapper(KmsSettings(key="alias/k", region="eu-central-1", endpoint=url))
    for wrapper in (transit, kms):
        with pytest.raises(VaultUnavailable, match="cannot be used"):
            wrapper.wrap(FIRST, SCOPE)


def test_kms_says_which_refusal_it_was(kms_url: str, aws: None) -> None:
    wrapper = KmsWrapper(KmsSettings(key="alias/nobody", region="eu-central-1", endpoint=kms_url))
    with pytest.raises(VaultUnavailable, match="NotFoundException"):
        wrapper.wrap(FIRST, SCOPE)


def test_the_root_secret_is_a_wrapper_whatever_else_is_configured() -> None:
    root = RootWrapper(FIRST, "first")
    assert dict(wrappers_of(VaultSettings(), root)) == {"root": root}
    settings = VaultSettings(
        wrapper="transit", transit=TransitSettings(address="https://vault.test:8200", key="penstock", token="env:X")
    )
    found = wrappers_of(settings, root)
    assert set(found) == {"root", "transit"}
    assert found["transit"].wrapping_key == "transit/keys/penstock"
