"""Each golden file of configuration has the faults that stand beside it, or none."""

from pathlib import Path

import pytest

from penstock.config.loading import load
from penstock.errors import ConfigFaults

GOLDENS = Path(__file__).parents[2] / "goldens" / "config"
FILES = sorted(GOLDENS.glob("*.yaml"))


def _told(path: Path) -> str:
    try:
        load(path)
    except ConfigFaults as error:
        return "".join(f"{fault.removeprefix(f'{path.parent}/')}\n" for fault in error.faults)
    return "ok\n"


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_file_has_these_faults(path: Path) -> None:
    assert _told(path) == path.with_suffix(".txt").read_text()


def test_there_are_golden_files() -> None:
    assert len(FILES) > 10


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_no_fault_repeats_what_may_be_a_secret(path: Path) -> None:
    assert "hunter2" not in path.with_suffix(".txt").read_text()
