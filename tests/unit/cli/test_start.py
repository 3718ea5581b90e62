"""`penstock serve` as service managers write it, and what it makes of a file with faults."""

import os
import subprocess
from pathlib import Path

import pytest

from penstock.cli.start import Start, plain_start
from penstock.config.place import Place
from penstock.testing.gateway import command
from penstock.testing.ports import free_ports

PLAIN = "server: {listen: '127.0.0.1:9000', data: here}\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("PENSTOCK_CONFIG", raising=False)
    path = tmp_path / "p.yaml"
    path.write_text(PLAIN)
    return path


def test_plain_words_need_no_parser(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, four = (Start(file, Place("127.0.0.1:9000", "here", workers)) for workers in (1, 4))
    assert plain_start(["-c", str(file)]) == plain_start(["--config", str(file)]) == one
    assert plain_start(["--workers", "4", "-c", str(file)]) == four
    monkeypatch.setenv("PENSTOCK_CONFIG", str(file))
    assert plain_start([]) == one


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--help"],
        ["-c"],
        ["-c", "FILE", "--help"],
        ["-c", "FILE", "--workers", "0"],
        ["-c", "FILE", "--workers", "65"],
        ["-c", "FILE", "--workers", "many"],
        ["-c", "FILE", "--colour", "red"],
        ["-c", "FILE.not-there"],
    ],
)
def test_any_other_words_are_for_the_parser(file: Path, words: list[str]) -> None:
    assert plain_start([word.replace("FILE", str(file)) for word in words]) is None


@pytest.mark.parametrize("kind", ["with faults", "not to be read"])
def test_a_file_with_faults_ends_a_start_with_all_of_them_and_leaves_nothing_behind(tmp_path: Path, kind: str) -> None:
    listen, admin = free_ports(2)
    lines = [
        f"server: {{listen: '127.0.0.1:{listen}', admin: '127.0.0.1:{admin}', data: here}}",
        "teams: [{name: growth, colour: red}]",
        "limits: [{match: {team: nobody}, unit: usd, amount: 1, per: day}]",
    ]
    if kind == "not to be read":
        lines[0] = lines[0].replace(f":{listen}", "")
    (tmp_path / "p.yaml").write_text("\n".join(lines))
    told = subprocess.run(
        [*command(), "serve", "-c", "p.yaml"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 2
    places = [line.split(": ")[1] for line in told.stderr.splitlines()]
    assert places[-2:] == ["teams[0].colour", "limits[0].match.team"]
    assert len(places) == (2 if kind == "with faults" else 3)
    assert [path.name for path in tmp_path.iterdir()] == ["p.yaml"]
