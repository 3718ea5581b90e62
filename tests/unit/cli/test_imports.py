"""`penstock import litellm`: what it writes and says is what stands beside each golden file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
GOLDENS = Path(__file__).parents[2] / "goldens" / "litellm"
FILES = sorted(GOLDENS.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_proxys_configuration_becomes_this_file(command: Command, path: Path) -> None:
    keys = path.with_suffix(".json")
    told = command("import", "litellm", str(path), *(["--keys", str(keys)] if keys.exists() else []))
    assert told.code == 0
    assert told.out == path.with_suffix(".txt").read_text()
    *notes, summary = told.err.splitlines()
    assert summary.startswith("carried: ")
    assert [f"#   {note}" for note in notes] == [line for line in told.out.splitlines() if line.startswith("#   ")]


def test_the_file_is_written_once_and_can_be_checked(command: Command, tmp_path: Path) -> None:
    whole = str(GOLDENS / "whole.yaml")
    assert command("import", "litellm", whole, "--output", "penstock.yaml").out == ""
    assert command("check", "-c", "penstock.yaml").code == 0
    (tmp_path / "penstock.yaml").write_text("mine")
    told = command("import", "litellm", whole, "-o", "penstock.yaml")
    assert (told.code, told.err) == (
        1,
        "penstock: penstock.yaml exists already: name another, or move it away\n",
    )
    assert (tmp_path / "penstock.yaml").read_text() == "mine"


def test_what_cannot_be_imported_is_refused_in_a_sentence(command: Command, tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("text")
    (tmp_path / "empty.yaml").write_text("general_settings: {}")
    for arguments, code, sentence in (
        (["missing.yaml"], 2, "missing.yaml cannot be read: No such file or directory"),
        (["list.yaml"], 2, "list.yaml: this is not a LiteLLM configuration: it must be a mapping with model_list"),
        (["empty.yaml"], 1, "empty.yaml has nothing that could be carried: is it a proxy's config.yaml?"),
        ([str(GOLDENS / "whole.yaml"), "-o", "no/such/place.yaml"], 1, "cannot be written: No such file or directory"),
    ):
        told = command("import", "litellm", *arguments)
        assert told.code == code
        assert sentence in told.sentence
