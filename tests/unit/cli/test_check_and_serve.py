"""`check` and `serve` on files with and without faults."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]

GOLDENS = Path(__file__).parents[2] / "goldens" / "config"


def test_check_counts_what_a_good_file_declares(command: Command) -> None:
    told = command("check", "-c", str(GOLDENS / "valid_minimal.yaml"))
    assert (told.code, told.out, told.err) == (
        0,
        "ok: 1 provider, 1 model, 0 organisations, 0 teams, 0 projects, 0 keys, 0 limits\n",
        "",
    )


@pytest.mark.parametrize("verb", ["check", "serve"])
def test_a_faulty_file_exits_2_with_one_line_per_fault(command: Command, verb: str) -> None:
    path = GOLDENS / "not_in_this_release.yaml"
    told = command(verb, "-c", str(path))
    assert told.code == 2
    expected = path.with_suffix(".txt").read_text()
    assert told.err == "".join(f"{path.parent}/{line}\n" for line in expected.splitlines())
    assert told.out == ""


def test_check_answers_in_json(command: Command) -> None:
    told = command("check", "--json", "-c", str(GOLDENS / "same_address.yaml"))
    assert told.code == 2
    assert len(json.loads(told.out)["faults"]) == 1
    assert json.loads(command("check", "--json", "-c", str(GOLDENS / "valid_minimal.yaml")).out) == {
        "faults": [],
        "warnings": [],
    }


def test_what_the_catalogue_knows_of_a_model_is_looked_at_as_well(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "penstock.yaml"
    path.write_text(
        "providers: [{name: openai, kind: openai}]\n"
        "models: [{name: big, targets: [{provider: openai, model: gpt-4.1}]}]\n"
        "limits: [{name: daily, unit: usd, amount: 1, per: day}, {name: monthly, unit: usd, amount: 900, per: month}]\n"
    )
    (warning,) = json.loads(command("check", "--json", "-c", str(path)).out)["warnings"]
    assert warning.startswith("limits.daily: one call without a cap of its own to 'big' holds 0.262144 of 1 USD")


def test_the_file_may_be_named_by_the_environment(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_CONFIG", str(GOLDENS / "valid_minimal.yaml"))
    assert command("check").code == 0


def test_check_warns_where_serve_refuses_a_secret_that_is_not_here(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CI_KEY", raising=False)
    (tmp_path / "p.yaml").write_text("keys: [{name: ci, secret: env:CI_KEY}]\n")
    checked, served = command("check", "-c", "p.yaml"), command("serve", "-c", "p.yaml")
    assert checked.code == 0
    assert "warning: keys.ci: the environment variable CI_KEY is not set" in checked.sentence
    assert served.code == 2
    assert served.sentence == "p.yaml:1:27: keys[0].secret: the environment variable CI_KEY is not set"
