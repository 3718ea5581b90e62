"""The transit wrapper against HashiCorp Vault or OpenBao itself, in development mode, where the machine has one: what
the server of the tests plays is what a real one says."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hvac
import pytest

from penstock.config.settings import TransitSettings
from penstock.errors import SealBroken, VaultUnavailable
from penstock.testing.ports import free_ports
from penstock.testing.wire import eventually
from penstock.vault import envelope
from penstock.vault.transit import TransitWrapper

PROGRAM = shutil.which("vault") or shutil.which("bao")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="neither `vault` nor `bao` is installed here")

TOKEN = "root-of-the-development-server"
SCOPE = "organisation:default"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of a server that keeps the key `penstock`, under the root token."""
    (port,) = free_ports(1)
    words = [
        "server",
        "-dev",
        "-dev-no-store-token",
        f"-dev-root-token-id={TOKEN}",
        f"-dev-listen-address=127.0.0.1:{port}",
    ]
    home = tmp_path_factory.mktemp("vault")
    with (home / "output").open("wb") as output:
        process = subprocess.Popen(
            [str(PROGRAM), *words], env={**os.environ, "HOME": str(home)}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        client = hvac.Client(url=f"http://127.0.0.1:{port}", token=TOKEN)
        eventually(lambda: _is_open(client), 15, "the server is unsealed")
        client.sys.enable_secrets_engine("transit")
        client.secrets.transit.create_key("penstock")
        yield client
    finally:
        process.kill()
        process.wait()


def _is_open(client: Any) -> bool:
    try:
        return not client.seal_status["sealed"]
    except (OSError, hvac.exceptions.VaultError):
        return False


@pytest.fixture
def wrapper(server: Any, monkeypatch: pytest.MonkeyPatch) -> TransitWrapper:
    monkeypatch.setenv("TRANSIT_TOKEN", TOKEN)
    return TransitWrapper(TransitSettings(address=server.url, key="penstock", token="env:TRANSIT_TOKEN"))


def test_it_wraps_and_unwraps_and_opens_nothing_that_was_changed(wrapper: TransitWrapper) -> None:
    key = envelope.new_key()
    wrapped = wrapper.wrap(key, SCOPE)
    assert key not in wrapped
    assert wrapper.unwrap(wrapped, SCOPE) == key
    with pytest.raises(SealBroken):
        wrapper.unwrap(wrapped[:-4] + b"AAAA", SCOPE)


def test_what_was_wrapped_is_wrapped_again_under_the_newest_version(server: Any, wrapper: TransitWrapper) -> None:
    key = envelope.new_key()
    wrapped = wrapper.wrap(key, SCOPE)
    server.secrets.transit.rotate_key("penstock")
    newest = server.secrets.transit.read_key("penstock")["data"]["latest_version"]
    again = wrapper.rewrap(wrapped, SCOPE)
    assert again.startswith(f"vault:v{newest}:".encode())
    assert wrapper.unwrap(again, SCOPE) == wrapper.unwrap(wrapped, SCOPE) == key


def test_a_token_that_may_do_these_three_things_and_no_more_suffices(
    server: Any, wrapper: TransitWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = "".join(
        f'path "transit/{verb}/penstock" {{ capabilities = ["update"] }}\n' for verb in ("encrypt", "decrypt", "rewrap")
    )
    server.sys.create_or_update_policy("penstock", rules)
    token = server.auth.token.create(policies=["penstock"])["auth"]["client_token"]
    monkeypatch.setenv("TRANSIT_TOKEN", token)
    wrapped = wrapper.rewrap(wrapper.wrap(b"1" * 32, SCOPE), SCOPE)
    assert wrapper.unwrap(wrapped, SCOPE) == b"1" * 32
    server.auth.token.revoke(token)
    with pytest.raises(VaultUnavailable, match="Forbidden") as refused:
        wrapper.unwrap(wrapped, SCOPE)
    assert token not in str(refused.value)


def test_a_sealed_server_is_unavailable_and_a_key_that_is_not_there_opens_nothing(
    server: Any, wrapper: TransitWrapper, tmp_path: Path
) -> None:
    wrapped = wrapper.wrap(b"1" * 32, SCOPE)
    other = TransitWrapper(TransitSettings(address=server.url, key="nothing", token="env:TRANSIT_TOKEN"))
    with pytest.raises(SealBroken, match="'nothing' does not open"):
        other.unwrap(wrapped, SCOPE)
    server.sys.seal()  # the last test of the file: a development server is not opened again
    with pytest.raises(VaultUnavailable, match=r"it refuses \(VaultDown\)"):
        wrapper.unwrap(wrapped, SCOPE)
