"""Backups of a gateway, made while it runs, and what they are put back from, into a database of either kind.

A backup is the store as of one moment (`store.dump`), the journals as they stood after it, and what the data directory
keeps besides. First every journal is opened, so that one that is finished and deleted meanwhile can still be read. Then
a transaction begins that sees one moment of the store, with how far each journal is in it. Then the journals are
copied, and only then the store's rows, from that same moment, however long it takes. So whatever the store did not have
yet lies in the copied journals, and replay at the next start adds it exactly once, by the offsets in the store. That no
journal came and went unseen is checked against the running store before the rows are copied, and if one did, all is
done again.

The manifest, which is written last, has a digest of every file and one of itself.
"""

import hashlib
import os
import pwd
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from penstock import __version__
from penstock.control import changes
from penstock.errors import PenstockError
from penstock.ledger.faults import Fault
from penstock.ledger.journal import journal_name, named
from penstock.ledger.postings import adopt_all
from penstock.ledger.verify import check
from penstock.records.receipts import rfc3339
from penstock.store.claim import reason, take_alone
from penstock.store.dump import OnRows, dump, fill, table_names, tables_of
from penstock.store.engine import committer_engine, durably, reading
from penstock.store.migrate import is_known, newest_revision, revision_of, upgrade_to

FORMAT = 2
MANIFEST, STORE, JOURNALS = "manifest.json", "store", "journals"
SECRETS = ("secret", "admin_key", "secret_previous")
NAMES = {"export": "backup", "restore": "restore"}
"""What the audit log says was done, and by which command."""
BOX = "box"
"""The file with the id under which a store that boxes share knows this one's journals."""
ATTEMPTS = 5
_ROWS = ".rows"
_CHUNK_BYTES = 1024 * 1024

Cursors = dict[int, tuple[int, int]]
"""Epoch -> part and position up to which its journal is in a store."""


class BackupFailed(PenstockError):
    """A backup that cannot be made or put back. Nothing that was there before is changed."""


class Place(Struct, frozen=True):
    """What a gateway lives in: its data directory, and its database, which is a file in that or a server's."""

    data: Path
    store: URL

    def file(self) -> Path | None:
        """The database's; None where it is a server's."""
        return Path(self.store.database or "") if self.store.get_backend_name() == "sqlite" else None


class Kept(Struct, frozen=True):
    """`sha256`: hexadecimal."""

    size: int
    sha256: str


class Manifest(Struct, frozen=True):
    """`revision`: of the store's schema. `store`: the kind of database that it was in. `rows`: table -> how many there
    are. `files`: path within the backup -> its size and digest. `digest`: hexadecimal SHA-256 of the manifest without
    it."""

    format: int
    release: str
    revision: str
    store: str
    made_at: str
    rows: dict[str, int]
    files: dict[str, Kept]
    digest: str = ""

    def sealed(self) -> "Manifest":
        bare = msgspec.structs.replace(self, digest="")
        encoded = msgspec.json.encode(bare, order="sorted")
        return msgspec.structs.replace(self, digest=hashlib.sha256(encoded).hexdigest())


class _AnyManifest(Struct):
    """What a manifest of every format has."""

    format: int
    release: str


def back_up(place: Place, target: Path, on_rows: OnRows) -> Manifest:
    """Copies the gateway in `place` to `target`, which must be empty or not there. Raises BackupFailed."""
    file = place.file()
    if file is not None and not file.is_file():
        raise BackupFailed(f"there is no store in {place.data}: -c names the configuration file, --data the directory")
    with _failures_named(), _filled_or_empty(target), _engine(place.store) as engine:
        with durably(engine) as connection:
            if revision_of(connection) is not None:
                _record(connection, "export", {"directory": str(target)})
        for _ in range(ATTEMPTS):
            with reading(engine).begin() as snapshot:
                files = _copy_journals(engine, snapshot, place.data, target)
                if files is not None:
                    revision, rows = _dump(snapshot, target, files, on_rows)
                    break
            _empty(target)
        else:
            raise BackupFailed("journals came and went faster than they could be copied; try again")
        for name in (*SECRETS, BOX):
            if (place.data / name).is_file():
                with (place.data / name).open("rb") as kept:
                    files[name] = _copy(kept, target / name)
        kind, made_at = place.store.get_backend_name(), rfc3339(time.time_ns())
        manifest = Manifest(FORMAT, __version__, revision, kind, made_at, rows, files).sealed()
        _write(target / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
    return manifest


def restore(source: Path, place: Place, on_rows: OnRows) -> tuple[Manifest, list[Fault]]:
    """Puts the backup in `source` back as a gateway in `place`, whose data directory must be empty or not there and
    whose database must have nothing of a gateway in it. Raises BackupFailed, with `place` as it was, when a file is not
    the one that was backed up. The faults are those that the ledger had in the backup already."""
    manifest = _read_manifest(source)
    with _failures_named(), _filled_or_empty(place.data), _engine(place.store) as engine:
        for name, kept in manifest.files.items():
            if _kept(source / name) != kept:
                raise BackupFailed(f"{name} in the backup is not the file that was backed up")
        if (file := place.file()) is not None:
            _write(file, b"")
        # The database last: what is committed there stands, and everything before it can be taken away again.
        with durably(engine) as connection:
            _fill(connection, source, manifest, on_rows)
            told = {"made_at": manifest.made_at, "release": manifest.release, "digest": manifest.digest}
            _record(connection, "restore", {"directory": str(source), **told})
            _copy_back(source, place, manifest)
    with _failures_named(), _engine(place.store) as engine:
        return manifest, check(engine, None).faults


def _record(connection: Connection, action: str, after: dict[str, str]) -> None:
    """To the audit log, before anything is handed out. The store may have the schema of an earlier release."""
    changes.take_turn_now(connection)
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    row = {"at": time.time_ns(), "actor": f"penstock {NAMES[action]}", "actor_kind": "system", "action": action}
    row |= {"kind": "backup", "name": user, "before": None, "after": msgspec.json.encode(after).decode()}
    known = {column["name"] for column in inspect(connection).get_columns("audit")}
    row = {name: value for name, value in row.items() if name in known}
    columns, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
    connection.execute(text(f"INSERT INTO audit ({columns}) VALUES ({marks})"), row)  # noqa: S608 - names of columns


# -- making one -------------------------------------------------------------------------------------------------------


def _copy_journals(engine: Engine, snapshot: Connection, data: Path, target: Path) -> dict[str, Kept] | None:
    """The copied journals; None when one was gone before it could be copied. `snapshot` has not been read from yet."""
    (target / JOURNALS).mkdir(mode=0o700)
    box = _box(data)
    with ExitStack() as stack:
        held: dict[str, BinaryIO] = {}
        _hold_journals(data / JOURNALS, held, stack)
        if revision_of(snapshot) is None:
            raise BackupFailed("the store is empty: no gateway has used it yet")
        present = _cursors(snapshot, box)
        _hold_journals(data / JOURNALS, held, stack)
        files = {f"{JOURNALS}/{name}": _copy(file, target / JOURNALS / name) for name, file in held.items()}
    with reading(engine).begin() as connection:
        later = _cursors(connection, box)
    return files if _nothing_missed(present, later, files) else None


def _dump(snapshot: Connection, target: Path, files: dict[str, Kept], on_rows: OnRows) -> tuple[str, dict[str, int]]:
    """The store's revision, and how many rows each table has. Adds to `files`."""
    if snapshot.dialect.name == "sqlite":
        said = snapshot.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if said != "ok":
            raise BackupFailed(f"the store is damaged: {said}")
    (target / STORE).mkdir(mode=0o700)
    rows = {}
    for table in tables_of(snapshot):
        name = f"{STORE}/{table.name}{_ROWS}"
        with _synced(target / name) as file:
            rows[table.name] = dump(snapshot, table, file, on_rows)
        files[name] = _kept(target / name)
    return str(revision_of(snapshot)), rows


def _hold_journals(directory: Path, held: dict[str, BinaryIO], stack: ExitStack) -> None:
    """Opens every journal that is not open yet: what is deleted from now on can still be read."""
    for path in sorted(directory.iterdir()) if directory.is_dir() else []:
        if named(path.name) is not None and path.name not in held:
            try:
                held[path.name] = stack.enter_context(path.open("rb"))
            except FileNotFoundError:
                continue


def _nothing_missed(present: Cursors, later: Cursors, files: dict[str, Kept]) -> bool:
    """Whether the copied journals reach from where the copied store left each of them to where the running store has
    come since. A store never comes further than its journals go, and deletes none before it has come to its end."""
    for epoch, (part, position) in later.items():
        if present.get(epoch, (0, 0)) == (part, position):
            continue
        first = present.get(epoch, (0, 0))[0]
        copied = [files.get(f"{JOURNALS}/{journal_name(epoch, each)}") for each in range(first, part + 1)]
        last = copied[-1] if copied else None
        if None in copied or last is None or last.size < position:
            return False
    return True


def _cursors(store: Connection, box: str) -> Cursors:
    """Of the journals of `box`, and of those from before there were boxes; the others lie on other disks."""
    rows = store.exec_driver_sql("SELECT * FROM journals").mappings()
    return {row["epoch"]: (row["part"], row["position"]) for row in rows if row.get("box", "") in ("", box)}


def _box(data: Path) -> str:
    """The id of the box that the data directory is; empty where the store belongs to it alone."""
    file = data / BOX
    return file.read_text("ascii", errors="replace").strip() if file.is_file() else ""


# -- putting one back -------------------------------------------------------------------------------------------------


def _read_manifest(source: Path) -> Manifest:
    try:
        written = (source / MANIFEST).read_bytes()
        found = msgspec.json.decode(written, type=_AnyManifest)
        if found.format < FORMAT:
            raise BackupFailed(f"the backup was made by release {found.release}: restore it with that one")
        if found.format > FORMAT:
            raise BackupFailed(_later(found.release))
        manifest = msgspec.json.decode(written, type=Manifest)
    except (FileNotFoundError, NotADirectoryError):
        raise BackupFailed(f"{source} holds no complete backup: there is no {MANIFEST}") from None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        raise BackupFailed(f"{source / MANIFEST} cannot be read; the backup is damaged") from None
    if manifest.sealed().digest != manifest.digest:
        raise BackupFailed(f"{source / MANIFEST} was changed after the backup was made")
    if not is_known(manifest.revision):
        raise BackupFailed(_later(manifest.release))
    dumped = {name for name in manifest.files if name.startswith(f"{STORE}/")}
    if dumped != {f"{STORE}/{table}{_ROWS}" for table in manifest.rows}:
        raise BackupFailed(f"{source / MANIFEST} does not say of each table how many rows it has")
    for name in manifest.files:
        if not _is_ours(name):
            raise BackupFailed(f"{source / MANIFEST} names {name!r}, which is no file of a backup")
    return manifest


def _later(release: str) -> str:
    return f"the backup was made by release {release}, which is later than this one: restore it with that one"


def _is_ours(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    if folder == STORE:
        return file.removesuffix(_ROWS) in table_names()
    return name in (*SECRETS, BOX) or (folder == JOURNALS and named(file) is not None)


def _fill(connection: Connection, source: Path, manifest: Manifest, on_rows: OnRows) -> None:
    """At the schema's revision of the backup, as its rows are of that; then the schema is brought to this release's."""
    take_alone(connection)
    if revision_of(connection) is not None or tables_of(connection):
        raise BackupFailed("the store is not empty: a backup is put back into a new database")
    upgrade_to(connection, manifest.revision)
    for table, count in manifest.rows.items():
        with (source / STORE / f"{table}{_ROWS}").open("rb") as file:
            if fill(connection, file, on_rows) != count:
                raise BackupFailed(f"the backup has not as many rows of {table} as its manifest says")
    upgrade_to(connection, newest_revision())
    if connection.dialect.name == "sqlite":
        adopt_all(connection, "")


def _copy_back(source: Path, place: Place, manifest: Manifest) -> None:
    data = place.data
    (data / JOURNALS).mkdir(mode=0o700)
    for name, kept in manifest.files.items():
        # A store that is a file belongs to one box, which has no id.
        if not name.startswith(f"{STORE}/") and not (name == BOX and place.file()):
            with (source / name).open("rb") as file:
                if _copy(file, data / name) != kept:
                    raise BackupFailed(f"{name} in the backup is not the file that was backed up")
    _sync(data / JOURNALS)
    _sync(data)


@contextmanager
def _engine(store: URL) -> Iterator[Engine]:
    engine = committer_engine(store)
    try:
        yield engine
    finally:
        engine.dispose()


# -- files ------------------------------------------------------------------------------------------------------------


@contextmanager
def _failures_named() -> Iterator[None]:
    """What files and databases raise, as a sentence."""
    try:
        yield
    except OSError as error:
        raise BackupFailed(f"{error.filename or 'a file'}: {error.strerror or error}") from error
    except SQLAlchemyError as error:
        raise BackupFailed(f"the store cannot be used: {reason(error)}") from error


@contextmanager
def _filled_or_empty(directory: Path) -> Iterator[None]:
    """`directory`, made for its owner alone where it is missing. Nothing stays in it when the block fails."""
    existed = directory.is_dir()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise BackupFailed(f"{directory} is not empty: name a new directory")
    if not existed:
        directory.chmod(0o700)
    try:
        yield
    except BaseException:
        _empty(directory)
        if not existed:
            directory.rmdir()
        raise
    for folder in (directory, *(path for path in directory.iterdir() if path.is_dir())):
        _sync(folder)


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _copy(source: BinaryIO, target: Path) -> Kept:
    """Copies what `source` holds now to a new file for the owner alone."""
    digest, size = hashlib.sha256(), 0
    with _synced(target) as file:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
            size += len(chunk)
    return Kept(size, digest.hexdigest())


def _kept(path: Path) -> Kept:
    with path.open("rb") as file:
        return Kept(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _write(path: Path, content: bytes) -> None:
    with _synced(path) as file:
        file.write(content)


@contextmanager
def _synced(path: Path) -> Iterator[BinaryIO]:
    """A new file for the owner alone, which is on the disk at the end of the block."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
