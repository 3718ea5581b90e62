"""`penstock secret rotate`: a new root secret beside the old one, made once, and only where the box keeps its own."""

import subprocess
from pathlib import Path

import pytest

from penstock.testing.gateway import command

OLD = "the-root-secret-before-0123456789abcdef"


def rotate(data: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    arguments = [*command(), "secret", "rotate", "--data", str(data)]
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text(OLD)
    return tmp_path


def test_the_new_one_takes_the_place_of_the_old_one_which_stays_beside_it(data: Path) -> None:
    done = rotate(data)
    assert (done.returncode, done.stderr) == (0, "")
    made = (data / "secret").read_text().strip()
    assert made != OLD and len(made) >= 43
    assert (data / "secret_previous").read_text().strip() == OLD
    for path in data.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    assert made not in done.stdout and OLD not in done.stdout
    again = rotate(data)
    assert again.returncode == 1 and "has to end the rotation before" in again.stderr
    assert (data / "secret").read_text().strip() == made, "a second one would lose the first"


def test_a_secret_that_is_kept_elsewhere_is_replaced_there(data: Path) -> None:
    refused = rotate(data, PENSTOCK_SECRET="x" * 40)
    assert refused.returncode == 2 and "PENSTOCK_SECRET_PREVIOUS" in refused.stderr
    assert (data / "secret").read_text() == OLD
    nowhere = rotate(data / "nowhere")
    assert nowhere.returncode == 1 and "cannot be read" in nowhere.stderr
