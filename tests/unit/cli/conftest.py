"""Commands as a terminal runs them, in this process; and a real gateway for those that ask one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from penstock.cli.commands import run
from penstock.testing.gateway import Gateway, new_secret

CONFIG = {
    "providers": [{"name": "sim", "kind": "simulated"}],
    "models": [
        {
            "name": "hello",
            "targets": [{"provider": "sim", "model": "hello"}],
            "price": {"input": 1, "output": 2},
            "max_output": 100,
        }
    ],
    "teams": [{"name": "growth"}],
    "projects": [{"name": "search", "team": "growth", "environment": "production"}],
    "keys": [{"name": "ci", "project": "search", "secret": "env:CI_KEY"}],
    "limits": [
        {"match": {"team": "growth"}, "unit": "usd", "amount": 5, "per": "day"},
        {"match": {"key": "ci"}, "unit": "concurrent", "amount": 5},
    ],
}


@dataclass
class Told:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one line on stderr."""
        (line,) = self.err.splitlines()
        return line


Command = Callable[..., Told]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs one command, in an empty directory and without a word about Penstock in the environment."""
    for name in ("CONFIG", "ADMIN_KEY", "ADMIN_URL", "DATA", "SECRET"):
        monkeypatch.delenv(f"PENSTOCK_{name}", raising=False)
    monkeypatch.chdir(tmp_path)

    def started(*arguments: str) -> Told:
        capsys.readouterr()
        code = run(list(arguments))
        captured = capsys.readouterr()
        return Told(code, captured.out, captured.err)

    return started


@pytest.fixture(scope="package")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    secret = new_secret()
    with Gateway(tmp_path_factory.mktemp("gateway"), CONFIG, {"CI_KEY": secret}) as running:
        yield running


@pytest.fixture
def asked(command: Command, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`command`, in the environment of the running gateway."""
    for name, value in gateway.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(gateway.directory)
    return command
