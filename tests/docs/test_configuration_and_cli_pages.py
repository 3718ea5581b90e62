"""The pages on the configuration file and the command line name what there is, and their examples work."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from penstock.cli.commands import COMMANDS, app
from penstock.config.loading import load
from penstock.config.settings import SHAPES

DOCS = Path(__file__).parents[2] / "docs"
CONFIGURATION = (DOCS / "configuration.md").read_text()
CLI = (DOCS / "cli.md").read_text()
SETTINGS = sorted({field.alias or name for shape in SHAPES.values() for name, field in shape.model_fields.items()})


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_is_on_the_page(setting: str) -> None:
    assert re.search(rf"[`{{ ]{setting}[`:]", CONFIGURATION), f"docs/configuration.md does not name {setting}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_on_the_page(command: str) -> None:
    assert f"penstock {command}" in CLI
    group = get_command(app).get_command(None, command)  # type: ignore[attr-defined, arg-type]
    for inner in getattr(group, "commands", {}):
        assert re.search(rf"penstock {command} [^`]*\b{inner}\b", CLI), f"docs/cli.md lacks penstock {command} {inner}"


def test_the_example_file_has_no_fault(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", CONFIGURATION, re.DOTALL)
    path = tmp_path / "penstock.yaml"
    path.write_text(example)
    assert load(path).models
