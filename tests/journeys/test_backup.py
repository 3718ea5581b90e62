"""A backup made under load is one consistent state, and a gateway that is put back from it goes on with equal books."""

import json
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from penstock.control.backup import Kept, _nothing_missed
from penstock.testing.lab import Lab
from penstock.testing.wire import eventually

COUNTED: list[dict[str, Any]] = [
    {"name": "calls", "match": {"key": "ci"}, "unit": "requests", "amount": 1_000_000, "per": "total"},
    {"name": "money", "match": {"key": "ci"}, "unit": "usd", "amount": 1_000, "per": "month"},
]
WORST_NANOUSD = 1_000_000
"""More than one call holds."""

KEYS: dict[str, dict[str, Any]] = {"ci": {"team": "growth"}}


class Load:
    """Calls, one after the other, until the block ends. `answered` counts those that were answered with 200."""

    def __init__(self, lab: Lab) -> None:
        self.answered = 0
        self._lab = lab
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.answered += self._lab.chat("ci").status == 200

    def __enter__(self) -> "Load":
        self._thread.start()
        eventually(lambda: self.answered >= 5, 20, "calls are answered")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def put_back(lab: Lab, backup: Path) -> None:
    """The gateway stops, loses its data directory, and starts on the backup."""
    gateway = lab.gateway
    gateway.stop()
    gateway.data.rename(gateway.directory / "lost")
    restored = gateway.run("restore", str(backup))
    assert restored.returncode == 0, restored.stderr
    gateway.start()


def test_a_backup_under_load_is_put_back_with_every_call_that_was_answered_before_it(
    own_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    lab = own_lab(KEYS, COUNTED)
    with Load(lab) as load:
        before = load.answered
        made = lab.gateway.run("backup", str(tmp_path / "backup"))
        after = load.answered + 1
    assert made.returncode == 0, made.stderr
    assert any((tmp_path / "backup" / "journals").iterdir())
    (money,) = [row for row in lab.gateway.limits() if row["limit"] == "money"]
    price = money["settled"] // load.answered
    put_back(lab, tmp_path / "backup")
    calls = lab.gateway.settled("calls")
    assert before <= calls <= after
    # The call that was under way is an estimate.
    assert (calls - 1) * price <= lab.gateway.settled("money") <= calls * price + WORST_NANOUSD
    eventually(lambda: lab.gateway.held() == 0, 5, "nothing is held")
    assert lab.gateway.verify().returncode == 0
    assert lab.chat("ci").status == 200
    eventually(lambda: lab.gateway.settled("calls") == calls + 1, 5, "the next call is counted")


def test_what_a_killed_gateway_left_is_backed_up_while_it_is_down_and_nothing_is_lost(
    own_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    lab = own_lab(KEYS, COUNTED)
    answered = sum(lab.chat("ci").status == 200 for _ in range(20))
    lab.gateway.kill_tree()
    made = lab.gateway.run("backup", str(tmp_path / "backup"), "--json")
    assert made.returncode == 0, made.stderr
    assert "penstock.db" in json.loads(made.stdout)["files"]
    put_back(lab, tmp_path / "backup")
    assert (lab.gateway.settled("calls"), lab.gateway.held()) == (answered, 0)
    assert lab.gateway.verify().returncode == 0


def test_a_backup_is_its_owners_alone_and_holds_the_secrets_that_the_data_directory_holds(
    own_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    lab = own_lab(KEYS, COUNTED)
    (lab.gateway.data / "secret").write_text("a root secret of the directory's own\n")
    assert lab.gateway.run("backup", str(tmp_path / "backup")).returncode == 0
    for path in [tmp_path / "backup", *(tmp_path / "backup").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert (tmp_path / "backup" / "secret").read_text() == "a root secret of the directory's own\n"
    again = lab.gateway.run("backup", str(tmp_path / "backup"))
    assert (again.returncode, "is not empty" in again.stderr) == (1, True)


def test_a_journal_that_is_deleted_after_the_store_was_copied_must_be_among_the_copies() -> None:
    kept = {"journals/1-0.journal": Kept(900, ""), "journals/1-1.journal": Kept(500, "")}
    assert _nothing_missed({1: (0, 700)}, {1: (0, 700), 2: (0, 0)}, {"journals/2-0.journal": Kept(30, "")})
    assert _nothing_missed({1: (0, 700)}, {1: (1, 400)}, kept)
    assert not _nothing_missed({1: (0, 700)}, {1: (1, 600)}, kept), "it grew after it was copied"
    assert not _nothing_missed({1: (0, 700)}, {1: (2, 10)}, kept), "a later part is missing"
    assert not _nothing_missed({1: (0, 700)}, {1: (0, 700), 2: (0, 80)}, kept), "a whole epoch is missing"


def test_a_backup_that_is_not_whole_is_refused_and_leaves_nothing_behind(
    own_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    lab = own_lab(KEYS, COUNTED)
    backup, target = tmp_path / "backup", tmp_path / "restored"
    assert lab.chat("ci").status == 200
    assert lab.gateway.run("backup", str(backup)).returncode == 0
    occupied = lab.gateway.run("restore", str(backup))
    assert (occupied.returncode, occupied.stderr) == (1, "penstock: data is not empty\n")
    manifest = (backup / "manifest.json").read_text()
    journal = next((backup / "journals").iterdir())
    content = journal.read_bytes()
    for damage, sentence in (
        (lambda: journal.write_bytes(content[:-1] + bytes([content[-1] ^ 1])), "is not the file that was backed up"),
        (lambda: journal.write_bytes(content[:-1]), "is not the file that was backed up"),
        (journal.unlink, "No such file"),
        (lambda: (backup / "manifest.json").write_text(manifest.replace('"size": ', '"size": 1')), "was changed"),
        (lambda: (backup / "manifest.json").write_text(manifest[:-9]), "is damaged"),
        ((backup / "manifest.json").unlink, "no complete backup"),
    ):
        damage()
        refused = lab.gateway.run("restore", str(backup), "--data", str(target))
        assert refused.returncode == 1, sentence
        assert sentence in refused.stderr
        assert not target.exists()
        journal.write_bytes(content)
        (backup / "manifest.json").write_text(manifest)
    assert lab.gateway.run("restore", str(backup), "--data", str(target)).returncode == 0
    assert sorted(path.name for path in target.iterdir()) == ["journals", "penstock.db"]


def test_a_directory_without_a_store_is_not_backed_up(own_lab: Callable[..., Lab], tmp_path: Path) -> None:
    refused = own_lab(KEYS, COUNTED).gateway.run("backup", str(tmp_path / "backup"), "--data", str(tmp_path))
    assert refused.returncode == 1
    assert "there is no store in" in refused.stderr
