"""The environment, and the references that point into it."""

from pathlib import Path

import pytest

from penstock.config.environment import Environment, resolve_secret
from penstock.config.loading import load
from penstock.errors import ConfigError, ConfigFaults

SECRET = "pk-" + "x" * 40


def test_unset_and_empty_variables_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "ADMIN_KEY", "SECRET", "DATA", "ADMIN_URL"):
        monkeypatch.setenv(f"PENSTOCK_{name}", "")
    assert Environment.read() == Environment()


def test_secrets_of_the_environment_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_ADMIN_KEY", "hunter2")
    monkeypatch.setenv("PENSTOCK_SECRET", "hunter2")
    monkeypatch.setenv("PENSTOCK_DATA", "/var/lib/penstock")
    environment = Environment.read()
    assert "hunter2" not in repr(environment)
    assert environment.admin_key is not None
    assert environment.admin_key.reveal() == "hunter2"
    assert environment.data == Path("/var/lib/penstock")


def test_a_reference_resolves_to_a_variable_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAB_KEY", "sk-1")
    (tmp_path / "key").write_text("sk-2\n")
    assert resolve_secret("env:LAB_KEY").reveal() == "sk-1"
    assert resolve_secret(f"file:{tmp_path / 'key'}").reveal() == "sk-2"


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("sk-hunter2", "must be env:NAME or file:PATH"),
        ("env:", "must be env:NAME or file:PATH"),
        ("ENV:A", "must be env:NAME or file:PATH"),
        ("vault:a", "must be env:NAME or file:PATH"),
        ("env:PENSTOCK_SECRET", "never refers to PENSTOCK_"),
        ("env:penstock_admin_key", "never refers to PENSTOCK_"),
        ("env:A B", "takes the name of a variable"),
        ("env:NOT_SET_ANYWHERE", "the environment variable NOT_SET_ANYWHERE is not set"),
        ("file:/nonexistent/key", "cannot be read: No such file or directory"),
    ],
)
def test_a_bad_reference_is_refused_without_repeating_it(reference: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as raised:
        resolve_secret(reference)
    assert sentence in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb", b"a\x00b", "schlüssel".encode(), b"x" * 20_000])
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigError):
        resolve_secret(f"file:{tmp_path / 'key'}")


def _write(tmp_path: Path, first: str = "env:A_KEY", second: str = "env:B_KEY") -> Path:
    path = tmp_path / "penstock.yaml"
    path.write_text(f"keys:\n  - {{name: a, secret: '{first}'}}\n  - {{name: b, secret: '{second}'}}\n")
    return path


def test_secrets_must_resolve_only_where_they_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A_KEY", raising=False)
    monkeypatch.setenv("B_KEY", SECRET)
    path = _write(tmp_path)
    assert len(load(path).keys) == 2
    with pytest.raises(ConfigFaults) as raised:
        load(path, require_secrets=True)
    assert raised.value.faults == (f"{path}:2:23: keys[0].secret: the environment variable A_KEY is not set",)


@pytest.mark.parametrize("secret", ["hunter2", "pk-short", "pk-" + "x" * 31, "pk-" + "x" * 31 + "!", "pk-" + "x" * 254])
def test_a_declared_key_needs_a_secret_of_its_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("A_KEY", secret)
    monkeypatch.setenv("B_KEY", SECRET)
    with pytest.raises(ConfigFaults) as raised:
        load(_write(tmp_path), require_secrets=True)
    (fault,) = raised.value.faults
    assert "the secret must be pk- and 32 to 253 characters" in fault
    assert secret not in fault


def test_two_keys_never_share_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", SECRET)
    monkeypatch.setenv("B_KEY", SECRET)
    with pytest.raises(ConfigFaults) as raised:
        load(_write(tmp_path), require_secrets=True)
    assert "keys[1].secret: the secret is also that of the key 'a'" in raised.value.faults[0]


def test_a_file_that_cannot_be_read_is_one_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigFaults) as raised:
        load(tmp_path)
    assert raised.value.faults == (f"{tmp_path}: the file cannot be read: Is a directory",)


def test_a_provider_credential_that_does_not_resolve_is_a_fault_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAB_KEY", raising=False)
    path = tmp_path / "penstock.yaml"
    path.write_text("providers:\n- name: o\n  kind: openai\n  credentials: [{name: main, value: env:LAB_KEY}]\n")
    with pytest.raises(ConfigFaults) as raised:
        load(path, require_secrets=True)
    place = f"{path}:4:37: providers[0].credentials[0].value"
    assert raised.value.faults == (f"{place}: the environment variable LAB_KEY is not set",)


def test_faults_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "penstock.yaml"
    path.write_text("".join(f"unknown{number}: 1\n" for number in range(1_000)))
    with pytest.raises(ConfigFaults) as raised:
        load(path)
    assert len(raised.value.faults) == 201
    assert raised.value.faults[-1] == f"{path}: there are 800 more faults"
