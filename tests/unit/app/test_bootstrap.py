"""Before anything runs: data directory, lock, secrets."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.app.control.bootstrap import DataInUse, box_of, kept_secret, lock_directory, prepare_directory
from penstock.domain.snapshot import Secret
from penstock.errors import ConfigError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_data_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    data = tmp_path / "deep" / "data"
    prepare_directory(data)
    assert mode(data) == 0o700
    data.chmod(0o755)
    prepare_directory(data)
    assert mode(data) == 0o700


def test_a_data_directory_that_cannot_be_made_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"):
        prepare_directory(tmp_path / "file" / "data")


def test_a_secret_is_made_once_announced_once_and_kept_for_its_owner_alone(tmp_path: Path) -> None:
    said: list[str] = []
    path = tmp_path / "admin_key"
    first = kept_secret(None, path, said.append)
    second = kept_secret(None, path, said.append)
    assert first.reveal() == second.reveal() == said[0]
    assert len(said) == 1
    assert len(said[0]) >= 40
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_the_environment_goes_before_the_file_and_leaves_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    assert kept_secret(Secret("from the environment"), path, pytest.fail).reveal() == "from the environment"
    assert not path.exists()


def test_a_secret_file_that_is_empty_or_unreadable_is_a_fault_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("\n")
    with pytest.raises(ConfigError, match="empty"):
        kept_secret(None, path, pytest.fail)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        kept_secret(None, path, pytest.fail)


def test_a_leftover_of_a_crashed_start_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "secret.new").write_text("half")
    said: list[str] = []
    assert kept_secret(None, tmp_path / "secret", said.append).reveal() == said[0] != "half"


def test_a_data_directory_has_one_control_process_at_a_time(tmp_path: Path) -> None:
    descriptor = lock_directory(tmp_path)
    with pytest.raises(DataInUse, match="another gateway"):
        lock_directory(tmp_path, wait_s=0.05)
    os.close(descriptor)
    os.close(lock_directory(tmp_path, wait_s=0.05))


def test_a_predecessor_that_is_about_to_stop_is_waited_for(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom penstock.app.control.bootstrap import lock_directory\n"
        "lock_directory(Path(sys.argv[1]))\nprint('locked', flush=True)\ntime.sleep(0.3)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as predecessor:
        assert predecessor.stdout is not None
        assert predecessor.stdout.readline() == "locked\n"
        os.close(lock_directory(tmp_path, wait_s=10))


def test_a_box_is_made_once_and_its_workers_are_called_after_it(tmp_path: Path) -> None:
    box = box_of(tmp_path, shares_store=True)
    assert box == box_of(tmp_path, shares_store=True)
    assert mode(tmp_path / "box") == 0o600 and (tmp_path / "box").read_text() == f"{box.id}\n"
    assert box.node == f"{socket.gethostname()}-{box.id[:6]}"
    assert box.worker("host/worker-3") == box.worker(box.worker("host/worker-3")) == f"{box.node}/worker-3"
    (tmp_path / "other").mkdir()
    assert box_of(tmp_path / "other", shares_store=True).id != box.id


def test_the_only_box_of_a_database_needs_no_id(tmp_path: Path) -> None:
    box = box_of(tmp_path, shares_store=False)
    assert (box.id, box.node, box.worker("host/worker-0")) == ("", socket.gethostname(), "host/worker-0")
    assert not (tmp_path / "box").exists()


def test_a_box_file_that_holds_no_id_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "box").write_text("one\n")
    with pytest.raises(ConfigError, match="16 hexadecimal digits"):
        box_of(tmp_path, shares_store=True)
