"""Backups: which journals they must have, what they are put back into, and what is refused with nothing changed."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL

from penstock.control import backup as backups
from penstock.control.backup import BackupFailed, Kept, Manifest, Place, _nothing_missed, back_up, restore
from penstock.errors import PenstockError, StoreTooNew
from penstock.ledger.journal import create
from penstock.store.engine import committer_engine, database_url
from penstock.store.migrate import newest_revision, upgrade_to
from penstock.testing.postgres import Postgres

OWN, OTHER = "0123456789abcdef", "fedcba9876543210"
_USER = "INSERT INTO users (name, origin, created_at, created_by, updated_at) VALUES ('ada', 'api', 1, 't', 1)"
_JOURNAL = """
    INSERT INTO journals (epoch, part, position, state, damages, opened_at, box)
    VALUES (:epoch, 0, :position, :state, 0, 1, :box)"""


def no_matter(_table: str, _count: int) -> None:
    """For a test that does not look at the progress."""


def changed(url: URL, change: Callable[[Connection], object]) -> None:
    engine = committer_engine(url)
    with engine.begin() as connection:
        change(connection)
    engine.dispose()


def asked(url: URL, question: str) -> list[tuple[object, ...]]:
    engine = committer_engine(url)
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(text(question))]
    engine.dispose()
    return rows


def add_journal(url: URL, epoch: int, state: str, box: str, position: int = 0) -> None:
    values = {"epoch": epoch, "state": state, "box": box, "position": position}
    changed(url, lambda connection: connection.execute(text(_JOURNAL), values))


@pytest.fixture
def place(whole_store_url: URL, tmp_path: Path) -> Place:
    """A gateway with a user, a secret and an empty journal."""
    (tmp_path / "journals").mkdir()
    create(tmp_path / "journals", 1)
    (tmp_path / "secret").write_text("a root secret for tests\n")
    changed(whole_store_url, lambda connection: connection.execute(text(_USER)))
    return Place(tmp_path, whole_store_url)


@pytest.fixture
def backup(place: Place, tmp_path: Path) -> Path:
    back_up(place, tmp_path / "backup", no_matter)
    return tmp_path / "backup"


def new(tmp_path: Path) -> Place:
    return Place(tmp_path / "new", database_url("sqlite", tmp_path / "new"))


def test_a_journal_that_is_deleted_after_the_store_was_copied_must_be_among_the_copies() -> None:
    kept = {"journals/1-0.journal": Kept(900, ""), "journals/1-1.journal": Kept(500, "")}
    assert _nothing_missed({1: (0, 700)}, {1: (0, 700), 2: (0, 0)}, {"journals/2-0.journal": Kept(30, "")})
    assert _nothing_missed({1: (0, 700)}, {1: (0, 700), 2: (0, 0)}, {}), "nothing was read of it yet"
    assert _nothing_missed({1: (0, 700)}, {1: (1, 400)}, kept)
    assert not _nothing_missed({1: (0, 700)}, {1: (1, 600)}, kept), "it grew after it was copied"
    assert not _nothing_missed({1: (0, 700)}, {1: (2, 10)}, kept), "a later part is missing"
    assert not _nothing_missed({1: (0, 700)}, {1: (0, 700), 2: (0, 80)}, kept), "a whole epoch is missing"


def test_a_journal_that_was_read_on_after_its_copy_makes_the_copies_be_made_again(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (place.data / "journals" / "1-0.journal").stat().st_size
    add_journal(place.store, 1, "open", "", size)
    copy, copies = backups._copy, 0

    def copy_and_go_on(*files: object) -> Kept:
        nonlocal copies
        copies += 1
        copied = copy(*files)  # type: ignore[arg-type]
        if copies == 1:
            with (place.data / "journals" / "1-0.journal").open("ab") as journal:
                journal.write(bytes(10))
            read_on = text("UPDATE journals SET position = position + 10")
            changed(place.store, lambda connection: connection.execute(read_on))
        return copied

    monkeypatch.setattr(backups, "_copy", copy_and_go_on)
    made = back_up(place, tmp_path / "backup", no_matter)
    assert made.files["journals/1-0.journal"].size == size + 10
    restore(tmp_path / "backup", new(tmp_path), no_matter)
    assert asked(new(tmp_path).store, "SELECT position FROM journals") == [(size + 10,)]


def test_the_journals_of_other_boxes_are_not_missed(place: Place, tmp_path: Path) -> None:
    (place.data / "box").write_text(f"{OWN}\n")
    add_journal(place.store, 1, "open", OWN)
    cursors = {"own": OWN, "other": OTHER, "none": ""}
    for epoch, box in enumerate(cursors.values(), 5):
        add_journal(place.store, epoch, "finished", box, 100)
    engine = committer_engine(place.store)
    with engine.connect() as connection:
        assert set(backups._cursors(connection, OWN)) == {1, 5, 7}
    engine.dispose()
    assert "box" in back_up(place, tmp_path / "backup", no_matter).files


def test_a_store_that_boxes_shared_is_one_boxs_once_it_is_a_file(place: Place, tmp_path: Path) -> None:
    (place.data / "box").write_text(f"{OWN}\n")
    for epoch, (state, box) in enumerate((("open", OWN), ("finished", OTHER), ("lost", OTHER), ("open", "")), 1):
        add_journal(place.store, epoch, state, box)
    back_up(place, tmp_path / "backup", no_matter)
    restore(tmp_path / "backup", new(tmp_path), no_matter)
    assert not (tmp_path / "new" / "box").exists()
    assert asked(new(tmp_path).store, "SELECT box FROM journals ORDER BY epoch") == [("",), ("",), (OTHER,), ("",)]


def test_a_box_that_is_put_back_on_postgresql_is_the_box_that_it_was(
    place: Place, postgres: Postgres, tmp_path: Path
) -> None:
    (place.data / "box").write_text(f"{OWN}\n")
    add_journal(place.store, 1, "open", OWN)
    back_up(place, tmp_path / "backup", no_matter)
    with postgres.database() as name:
        url = database_url(postgres.url(name), tmp_path)
        restore(tmp_path / "backup", Place(tmp_path / "new", url), no_matter)
        assert asked(url, "SELECT box FROM journals") == [(OWN,)]
    assert (tmp_path / "new" / "box").read_text() == f"{OWN}\n"


def test_a_backup_of_an_earlier_schema_is_put_back_at_this_releases(
    store_url: URL, postgres: Postgres, tmp_path: Path
) -> None:
    share = "INSERT INTO shares (limit_id, value, per, window_start, settled) VALUES ('l', '', 'minute', 60, 7)"
    changed(store_url, lambda connection: upgrade_to(connection, "0001"))
    changed(store_url, lambda connection: connection.execute(text(share)))
    made = back_up(Place(tmp_path, store_url), tmp_path / "backup", no_matter)
    assert made.revision == "0001" and "leases" not in made.rows
    with postgres.database() as name:
        remote = Place(tmp_path / "remote", database_url(postgres.url(name), tmp_path))
        for target in (new(tmp_path), remote):
            assert restore(tmp_path / "backup", target, no_matter)[1] == []
            assert asked(target.store, "SELECT version_num FROM alembic_version") == [(newest_revision(),)]
            assert asked(target.store, "SELECT settled FROM shares") == [(7,)]
            assert asked(target.store, "SELECT box FROM journals") == []


def test_a_store_that_no_gateway_has_used_or_a_later_one_has_is_not_backed_up(store_url: URL, tmp_path: Path) -> None:
    place = Place(tmp_path, store_url)
    changed(store_url, lambda connection: connection.execute(text("SELECT 1")))
    with pytest.raises(BackupFailed, match="no gateway has used it yet"):
        back_up(place, tmp_path / "backup", no_matter)
    changed(store_url, lambda connection: upgrade_to(connection, newest_revision()))
    later = text("UPDATE alembic_version SET version_num = '9999'")
    changed(store_url, lambda connection: connection.execute(later))
    with pytest.raises(StoreTooNew, match="9999"):
        back_up(place, tmp_path / "backup", no_matter)
    assert not (tmp_path / "backup").exists()


def test_a_damaged_store_is_not_backed_up(tmp_path: Path) -> None:
    url = database_url("sqlite", tmp_path)
    changed(url, lambda connection: upgrade_to(connection, newest_revision()))
    changed(url, lambda connection: connection.execute(text(_USER)))
    store = tmp_path / "penstock.db"
    ((root,),) = asked(url, "SELECT rootpage FROM sqlite_master WHERE name = 'users'")
    ((size,),) = asked(url, "PRAGMA page_size")
    assert isinstance(root, int) and isinstance(size, int)
    with store.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(bytes(size))
    with pytest.raises(BackupFailed, match="the store is damaged"):
        back_up(Place(tmp_path, url), tmp_path / "backup", no_matter)
    assert not (tmp_path / "backup").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": 1}, "made by release 0.1.0: restore it with that one"),
        ({"format": 3}, "later than this one"),
        ({"format": "two"}, "is damaged"),
        ({"revision": "9999"}, "later than this one"),
        ({"rows": {}}, "does not say of each table"),
        ({"files": {"../secret": {"size": 1, "sha256": ""}}, "rows": {}}, "'../secret', which is no file of a backup"),
        ({"files": {"store/pg_class.rows": {"size": 1, "sha256": ""}}, "rows": {"pg_class": 1}}, "no file of a backup"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_manifest_that_asks_for_what_no_backup_has_is_refused(
    change: dict[str, object], sentence: str, tmp_path: Path
) -> None:
    url = database_url("sqlite", tmp_path)
    changed(url, lambda connection: upgrade_to(connection, newest_revision()))
    back_up(Place(tmp_path, url), tmp_path / "backup", no_matter)
    path = tmp_path / "backup" / "manifest.json"
    manifest = json.loads(path.read_bytes()) | change | {"release": "0.1.0"}
    if isinstance(manifest["format"], int):
        manifest = msgspec.to_builtins(msgspec.convert(manifest, Manifest).sealed())
    path.write_text(json.dumps(manifest))
    with pytest.raises(BackupFailed, match=sentence):
        restore(tmp_path / "backup", new(tmp_path), no_matter)
    assert not (tmp_path / "new").exists()


def test_a_backup_that_is_not_whole_is_refused_and_leaves_nothing_behind(backup: Path, tmp_path: Path) -> None:
    path, journal = backup / "manifest.json", next((backup / "journals").iterdir())
    manifest, content = path.read_text(), journal.read_bytes()
    for damage, sentence in (
        (lambda: journal.write_bytes(content[:-1] + bytes([content[-1] ^ 1])), "is not the file that was backed up"),
        (lambda: journal.write_bytes(content[:-1]), "is not the file that was backed up"),
        (journal.unlink, "No such file"),
        (lambda: path.write_text(manifest.replace('"size": ', '"size": 1')), "was changed"),
        (lambda: path.write_text(manifest[:-9]), "is damaged"),
        (path.unlink, "no complete backup"),
    ):
        damage()
        with pytest.raises(BackupFailed, match=sentence):
            restore(backup, new(tmp_path), no_matter)
        assert not (tmp_path / "new").exists()
        journal.write_bytes(content)
        path.write_text(manifest)
    restore(backup, new(tmp_path), no_matter)


def test_rows_that_are_not_all_there_are_noticed_though_every_digest_is_right(backup: Path, tmp_path: Path) -> None:
    users = backup / "store" / "users.rows"
    users.write_bytes(users.read_bytes()[: 4 + int.from_bytes(users.read_bytes()[:4], "big")])
    manifest = msgspec.json.decode((backup / "manifest.json").read_bytes(), type=Manifest)
    kept = Kept(users.stat().st_size, hashlib.sha256(users.read_bytes()).hexdigest())
    files = {**manifest.files, "store/users.rows": kept}
    (backup / "manifest.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, files=files).sealed()))
    with pytest.raises(BackupFailed, match="not as many rows of users"):
        restore(backup, new(tmp_path), no_matter)
    assert not (tmp_path / "new").exists()


def test_a_database_stays_empty_when_the_backup_cannot_be_put_back_to_its_end(
    backup: Path, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "journals")

    with postgres.database() as name:
        url = database_url(postgres.url(name), tmp_path)
        with monkeypatch.context() as patched, pytest.raises(BackupFailed, match="No space left"):
            patched.setattr(backups, "_copy_back", full)
            restore(backup, Place(tmp_path / "new", url), no_matter)
        assert asked(url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
        assert not (tmp_path / "new").exists()
        restore(backup, Place(tmp_path / "new", url), no_matter)
        assert asked(url, "SELECT name FROM users") == [("ada",)]
        with pytest.raises(PenstockError, match="is not empty"):
            restore(backup, Place(tmp_path / "again", url), no_matter)
