"""The vault on a running gateway: a value goes in by the command line, serves, is rotated under load, and survives."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from penstock.testing.gateway import Gateway, command, new_secret
from penstock.testing.lab import PRICE, chat
from penstock.testing.scripted import ScriptedProvider
from penstock.testing.wire import eventually

FIRST, SECOND = "sk-vault-canary-first-61c2", "sk-vault-canary-second-9e0d"


def config(provider: ScriptedProvider) -> dict[str, Any]:
    credentials = [{"name": "main", "value": "vault:lab-key"}]
    lab = {"name": "lab", "kind": "compatible", "base_url": provider.base_url, "credentials": credentials}
    targets = [{"provider": "lab", "model": "lab-upstream"}]
    return {
        "providers": [lab],
        "models": [{"name": "lab-model", "targets": targets, "price": PRICE, "max_output": 100}],
        "keys": [{"name": "ci", "secret": "env:CI_KEY"}],
    }


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as provider:
        yield provider


@pytest.fixture
def gateway(tmp_path: Path, provider: ScriptedProvider) -> Iterator[Gateway]:
    with Gateway(tmp_path, config(provider), {"CI_KEY": new_secret()}) as gateway:
        yield gateway


def give(gateway: Gateway, *arguments: str, value: str) -> subprocess.CompletedProcess[str]:
    """A command that is given a value on its standard input."""
    done = subprocess.run(
        [*command(), "credential", *arguments],
        input=value + "\n",
        cwd=gateway.directory,
        env=gateway.environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert value not in done.stdout + done.stderr
    return done


def call(gateway: Gateway) -> int:
    return gateway.caller(gateway.environment["CI_KEY"]).post("/v1/chat/completions", chat()).status


def sent(provider: ScriptedProvider) -> str | None:
    """The credential of the newest request."""
    return dict(provider.received[-1].headers).get("authorization")


def test_a_credential_of_the_vault_serves_is_rotated_under_load_and_survives_a_restart(
    gateway: Gateway, provider: ScriptedProvider
) -> None:
    assert call(gateway) == 502
    assert provider.received == []
    give(gateway, "create", "lab-key", "--kind", "compatible", "--base-url", provider.base_url, value=FIRST)
    eventually(lambda: call(gateway) == 200, 5, "the credential serves")
    assert sent(provider) == f"Bearer {FIRST}"

    statuses: list[int] = []
    over = Event()
    callers = [Thread(target=_keep_calling, args=(gateway, statuses, over)) for _ in range(4)]
    for caller in callers:
        caller.start()
    eventually(lambda: len(statuses) > 20, 20, "calls run")
    give(gateway, "rotate", "lab-key", value=SECOND)
    eventually(lambda: sent(provider) == f"Bearer {SECOND}", 5, "the new value is sent")
    count = len(statuses)
    eventually(lambda: len(statuses) > count + 20, 20, "calls run on")
    over.set()
    for caller in callers:
        caller.join()
    assert set(statuses) == {200}

    gateway.stop()
    gateway.start()
    assert call(gateway) == 200
    assert sent(provider) == f"Bearer {SECOND}"
    audit = gateway.admin("GET", "/admin/v1/audit?kind=credential").json()["items"]
    assert [item["action"] for item in reversed(audit)] == ["create", "rotate", "open"]
    backup = gateway.directory / "backup"
    assert gateway.run("backup", str(backup), "-c", str(gateway.file)).returncode == 0
    gateway.stop()
    shutil.rmtree(gateway.data)
    restored = gateway.run("restore", str(backup), "-c", str(gateway.file))
    assert restored.returncode == 0, restored.stderr
    gateway.start()
    assert call(gateway) == 200, "the entry opens under the same root secret"
    assert sent(provider) == f"Bearer {SECOND}"
    gateway.stop()
    for path in gateway.directory.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert FIRST.encode() not in content, path
            assert SECOND.encode() not in content, path


def _keep_calling(gateway: Gateway, statuses: list[int], over: Event) -> None:
    while not over.is_set():
        statuses.append(call(gateway))


def test_a_file_that_is_applied_may_refer_to_the_vault_and_only_for_what_an_entry_is_meant(
    gateway: Gateway, provider: ScriptedProvider
) -> None:
    other = gateway.directory / "other.yaml"
    text = gateway.file.read_text()
    other.write_text(text.replace("max_output: 100", "max_output: 90"))
    refused = gateway.run("apply", "-c", str(other))
    assert refused.returncode == 2
    assert "there is no credential 'lab-key' in the vault" in refused.stderr
    give(gateway, "create", "lab-key", "--kind", "compatible", "--base-url", provider.base_url, value=FIRST)
    assert gateway.run("apply", "-c", str(other)).returncode == 0
    other.write_text(text.replace(provider.base_url, "http://203.0.113.9/v1"))
    refused = gateway.run("apply", "-c", str(other))
    assert refused.returncode == 2
    assert "vault:lab-key is for kind compatible at" in refused.stderr
    assert call(gateway) == 200
    assert gateway.run("credential", "delete", "lab-key").returncode == 1


def test_the_root_secret_is_replaced_and_neither_callers_nor_providers_notice(
    gateway: Gateway, provider: ScriptedProvider
) -> None:
    give(gateway, "create", "lab-key", "--kind", "compatible", "--base-url", provider.base_url, value=FIRST)
    made = gateway.admin("POST", "/admin/v1/keys", {"name": "made"}).json()["secret"]
    old, new = gateway.root_secret, "the-next-root-secret-8f1d0c"
    gateway.stop()
    gateway.environment |= {"PENSTOCK_SECRET": new, "PENSTOCK_SECRET_PREVIOUS": old}
    gateway.start()
    assert gateway.admin("GET", "/admin/v1/vault").json()["root"] == "previous"
    assert "the root secret before still" in gateway.run("doctor", "-c", str(gateway.file)).stdout
    done = gateway.run("vault", "rewrap")
    assert (done.returncode, done.stdout[:4]) == (0, "ok: ")
    assert gateway.admin("GET", "/admin/v1/vault").json()["root"] == "current"
    gateway.stop()
    del gateway.environment["PENSTOCK_SECRET_PREVIOUS"]
    gateway.start()
    answer = gateway.caller(made).post("/v1/chat/completions", chat())
    assert answer.status == 200
    assert call(gateway) == 200
    assert sent(provider) == f"Bearer {FIRST}"
    actions = [item["action"] for item in gateway.admin("GET", "/admin/v1/audit?kind=data_key").json()["items"]]
    assert actions == ["rewrap", "create"]
    gateway.stop()
    gateway.environment["PENSTOCK_SECRET"] = old
    with pytest.raises(RuntimeError, match="the root secret is not the one"):
        gateway.start()
