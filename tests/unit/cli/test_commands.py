"""What every command has: help with an example, one sentence for what goes wrong, the right exit code."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from typer.main import get_command

from penstock.cli.commands import COMMANDS, app
from penstock.testing.gateway import command as console_script

Command = Callable[..., Any]

TREE = {name: get_command(app).get_command(None, name) for name in COMMANDS}
PATHS = [(name,) for name in COMMANDS] + [
    (name, inner) for name, group in TREE.items() for inner in getattr(group, "commands", {})
]


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_command_has_help_with_an_example(command: Command, path: tuple[str, ...]) -> None:
    told = command(*path, "--help")
    assert told.code == 0
    assert "Usage: penstock" in told.out
    is_group = path[:1] == path and getattr(TREE[path[0]], "commands", {}) and path[0] != "kill"
    assert is_group or "Example: penstock" in " ".join(told.out.split())


@pytest.mark.parametrize("arguments", [[], ["key"], ["ledger"]])
def test_a_group_alone_shows_its_help_and_fails_as_asked_wrongly(command: Command, arguments: list[str]) -> None:
    told = command(*arguments)
    assert told.code == 2
    assert "Usage: penstock" in told.out + told.err


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("keys", "penstock: No such command 'keys'. Did you mean 'key'?"),
        ("key lst", "penstock: No such command 'lst'. Did you mean 'list'?"),
        ("key list --jso", "penstock: No such option: --jso"),
        ("key create", "penstock: Missing argument 'NAME'"),
        ("limit create --unit usd", "penstock: Missing option '--amount'"),
        ("limit create --unit usd --amount 1 --match team", "penstock: --match takes NAME=VALUE, not 'team'"),
        ("limit create --unit usd --amount 1 --alert-at x", "penstock: Invalid value for '--alert-at'"),
        ("key create a --tag a=1 --tag a=2", "penstock: --tag names 'a' twice"),
        ("key create a --expires soon", "penstock: --expires takes 2026-12-31, 2026-12-31T10:00:00Z or 24h"),
        ("model create m --target lab", "penstock: --target takes PROVIDER:MODEL, not 'lab'"),
        ("provider create p --kind simulated --option latency_ms=x", "penstock: --option takes NAME=NUMBER"),
        ("usage --format xml", "penstock: --format takes table, csv, json, not 'xml'"),
        ("usage --by ,", "penstock: --by takes at least one dimension"),
        ("usage --since yesterday", "penstock: --since takes 2026-12-31"),
        ("kill", "penstock: name what to stop, once: --key, --team, --project, ... or --all"),
        ("kill --reason x", "penstock: name what to stop, once"),
        ("kill --team a --key b --reason x", "penstock: name what to stop, once"),
        ("kill --team a", "penstock: say why: --reason 'key leaked'"),
        ("kill --team a list", "penstock: `kill list` takes its options after its name"),
        ("kill lift x --reason y", "penstock: Invalid value for 'generation'"),
        ("serve", "penstock: name the configuration file: -c FILE, or set PENSTOCK_CONFIG"),
        ("check", "penstock: name the configuration file: -c FILE, or set PENSTOCK_CONFIG"),
        ("serve -c f --workers 65", "penstock: Invalid value for '--workers'"),
        ("serve -c f --workers 0", "penstock: Invalid value for '--workers'"),
    ],
)
def test_what_is_asked_wrongly_is_said_in_one_sentence(command: Command, line: str, sentence: str) -> None:
    told = command(*line.split())
    assert told.code == 2
    assert told.sentence.startswith(sentence)
    assert told.out == ""


@pytest.mark.parametrize(
    "line", ["key list", "ledger verify", "usage", "receipt x", "kill --all --reason x", "kill list"]
)
def test_without_an_administrators_key_a_command_says_where_it_looked(command: Command, line: str) -> None:
    told = command(*line.split())
    assert told.code == 1
    assert "PENSTOCK_ADMIN_KEY is not set and data/admin_key cannot be read" in told.sentence


def test_where_nothing_listens_a_command_says_what_it_tried(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_ADMIN_KEY", "hunter2")
    monkeypatch.setenv("PENSTOCK_ADMIN_URL", "http://127.0.0.1:1")
    told = command("key", "list")
    assert told.code == 1
    assert told.sentence == (
        "penstock: no admin API answers at http://127.0.0.1:1 (connection refused); is `penstock serve` running? "
        "PENSTOCK_ADMIN_URL sets another address"
    )


@pytest.mark.parametrize("url", ["localhost:8081", "ftp://x", "http://", "http://u:p@host", "http://host:port"])
def test_an_admin_address_that_is_none_is_refused(command: Command, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("PENSTOCK_ADMIN_KEY", "hunter2")
    monkeypatch.setenv("PENSTOCK_ADMIN_URL", url)
    told = command("key", "list")
    assert told.code == 2
    assert "PENSTOCK_ADMIN_URL must look like" in told.sentence


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """A test's server says nothing."""


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "500 Oops"])
def test_a_stranger_at_the_address_is_told_apart(
    command: Command, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    def stranger(_: object, start: object) -> list[bytes]:
        start(status, [("content-type", "text/html")])  # type: ignore[operator]
        return [b"<html>"]

    with make_server("127.0.0.1", 0, stranger, handler_class=_Quiet) as server:  # type: ignore[arg-type]
        thread = Thread(target=server.handle_request)
        thread.start()
        monkeypatch.setenv("PENSTOCK_ADMIN_KEY", "hunter2")
        monkeypatch.setenv("PENSTOCK_ADMIN_URL", f"http://127.0.0.1:{server.server_port}")
        told = command("key", "list")
        thread.join(5)
    assert told.code == 1
    assert "is not a Penstock admin API" in told.sentence


def test_the_key_is_read_from_the_data_directory(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "admin_key").write_text("hunter2\n")
    monkeypatch.setenv("PENSTOCK_DATA", "elsewhere")
    monkeypatch.setenv("PENSTOCK_ADMIN_URL", "http://127.0.0.1:1")
    told = command("key", "list")
    assert "no admin API answers" in told.sentence
    assert "hunter2" not in told.err


def test_the_version_is_printed(command: Command) -> None:
    assert command("--version").out.startswith("penstock ")


def test_a_short_command_starts_quickly_and_loads_no_heavy_library() -> None:
    heavy = "{'pydantic', 'yaml', 'fastapi', 'sqlalchemy', 'genai_prices', 'granian'}"
    loaded = "penstock.cli.main, penstock.cli.commands, penstock.cli.keys, penstock.cli.kill"
    script = f"import sys, {loaded}; print({heavy} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"


def test_a_reader_that_leaves_early_causes_no_traceback(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        [*console_script(), "key", "--help"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert "Traceback" not in process.stderr


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Where the tests themselves were started in the background, what they start would ignore an interrupt."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_a_command_without_a_traceback(tmp_path: Path) -> None:
    with make_server("127.0.0.1", 0, lambda *_: [], handler_class=_Quiet) as server:  # type: ignore[arg-type,return-value]
        environment = {
            "PATH": "",
            "PENSTOCK_ADMIN_KEY": "k",
            "PENSTOCK_ADMIN_URL": f"http://127.0.0.1:{server.server_port}",
        }
        process = subprocess.Popen(
            [*console_script(), "key", "list"], env=environment, stderr=subprocess.PIPE, text=True
        )
        connection, _ = server.socket.accept()
        assert connection.recv(1), "it has asked, and waits for the answer"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=10)
        connection.close()
    assert process.returncode == 130
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("kill --break-glass", "the break-glass file stops everything: --break-glass --all"),
        ("kill --break-glass --team growth", "the break-glass file stops everything: --break-glass --all"),
        ("kill --all --reason x --data .", "--data belongs to --break-glass"),
        ("kill lift --reason x", "name what to lift, once"),
        ("kill lift 7 --break-glass --reason x", "name what to lift, once"),
        ("kill lift 7 --data . --reason x", "--data belongs to --break-glass"),
        ("kill --break-glass lift 7 --reason x", "takes its options after its name"),
    ],
)
def test_the_break_glass_file_is_asked_for_clearly(command: Command, line: str, sentence: str) -> None:
    told = command(*line.split())
    assert told.code == 2
    assert sentence in told.sentence


def test_a_directory_without_a_gateway_is_not_stopped(command: Command, tmp_path: Path) -> None:
    told = command("kill", "--break-glass", "--all", "--data", str(tmp_path / "typo"))
    assert told.code == 1
    assert "no gateway has run on" in told.sentence
