"""Backups of an embedded gateway's data directory, made while it runs, and what they are put back from.

A backup is the store as of one moment, the journals as they stood after it, and the two secrets. The journals come
second, so that whatever the store did not have yet lies in them, and replay at the next start adds it exactly once, by
the offsets in the store. A journal that is finished and deleted meanwhile is held open from before that moment; that
nothing was missed all the same is checked against the running store at the end, and if it was, all is done again.

The manifest, which is written last, has a digest of every file and one of itself.
"""

import hashlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

from penstock import __version__
from penstock.errors import PenstockError
from penstock.ledger.faults import Fault
from penstock.ledger.journal import journal_name, named
from penstock.ledger.verify import check
from penstock.records.receipts import rfc3339
from penstock.store.engine import committer_engine, database_url
from penstock.store.migrate import newest_revision

FORMAT = 1
MANIFEST, STORE, JOURNALS = "manifest.json", "penstock.db", "journals"
SECRETS = ("secret", "admin_key")
ATTEMPTS = 5
_CHUNK_BYTES = 1024 * 1024
_BUSY_S = 30.0

Cursors = dict[int, tuple[int, int]]
"""Epoch -> part and position up to which its journal is in a store."""


class BackupFailed(PenstockError):
    """A backup that cannot be made or put back. Nothing that was there before is changed."""


class Kept(Struct, frozen=True):
    """`sha256`: hexadecimal."""

    size: int
    sha256: str


class Manifest(Struct, frozen=True):
    """`revision`: of the store's schema. `files`: path within the backup -> its size and digest. `digest`: hexadecimal
    SHA-256 of the manifest without it."""

    format: int
    release: str
    revision: str
    made_at: str
    files: dict[str, Kept]
    digest: str = ""

    def sealed(self) -> "Manifest":
        bare = msgspec.structs.replace(self, digest="")
        encoded = msgspec.json.encode(bare, order="sorted")
        return msgspec.structs.replace(self, digest=hashlib.sha256(encoded).hexdigest())


def back_up(data: Path, target: Path) -> Manifest:
    """Copies the data directory `data` to `target`, which must be empty or not there. Raises BackupFailed."""
    if not (data / STORE).is_file():
        raise BackupFailed(f"there is no store in {data}; --data names the data directory")
    with _failures_named(), _filled_or_empty(target):
        for _ in range(ATTEMPTS):
            files = _copy_store_and_journals(data, target)
            if files is not None:
                break
            _empty(target)
        else:
            raise BackupFailed("journals came and went faster than they could be copied; try again")
        for name in SECRETS:
            if (data / name).is_file():
                with (data / name).open("rb") as secret:
                    files[name] = _copy(secret, target / name)
        with closing(_opened(target / STORE)) as store:
            revision = _sound_revision(store)
        files[STORE] = _kept(target / STORE)
        manifest = Manifest(FORMAT, __version__, revision, rfc3339(time.time_ns()), files).sealed()
        _write(target / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
    return manifest


def restore(source: Path, data: Path) -> tuple[Manifest, list[Fault]]:
    """Puts the backup in `source` back as the data directory `data`, which must be empty or not there. Raises
    BackupFailed, with `data` as it was, when a file is not the one that was backed up. The faults are those that the
    ledger had in the backup already."""
    manifest = _read_manifest(source)
    with _failures_named(), _filled_or_empty(data):
        for name, kept in manifest.files.items():
            (data / name).parent.mkdir(mode=0o700, exist_ok=True)
            with (source / name).open("rb") as file:
                copied = _copy(file, data / name)
            if copied != kept:
                raise BackupFailed(f"{name} in the backup is not the file that was backed up")
        (data / JOURNALS).mkdir(mode=0o700, exist_ok=True)
        with closing(_opened(data / STORE)) as store:
            revision = _sound_revision(store)
        if revision != manifest.revision:
            raise BackupFailed("the store in the backup is of another schema than its manifest says")
        faults = _ledger_faults(data) if revision == newest_revision() else []
    return manifest, faults


# -- making one -------------------------------------------------------------------------------------------------------


def _copy_store_and_journals(data: Path, target: Path) -> dict[str, Kept] | None:
    """The copied journals; None when one was gone before it could be copied."""
    (target / JOURNALS).mkdir(mode=0o700)
    with ExitStack() as stack:
        held: dict[str, BinaryIO] = {}
        _hold_journals(data / JOURNALS, held, stack)
        _write(target / STORE, b"")
        with closing(_opened(data / STORE)) as live, closing(_opened(target / STORE)) as copy:
            live.backup(copy)
            present = _cursors(copy)
        _sync(target / STORE)
        _hold_journals(data / JOURNALS, held, stack)
        files = {f"{JOURNALS}/{name}": _copy(file, target / JOURNALS / name) for name, file in held.items()}
    with closing(_opened(data / STORE)) as live:
        later = _cursors(live)
    return files if _nothing_missed(present, later, files) else None


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
        if present.get(epoch) == (part, position):
            continue
        first = present.get(epoch, (0, 0))[0]
        copied = [files.get(f"{JOURNALS}/{journal_name(epoch, each)}") for each in range(first, part + 1)]
        last = copied[-1] if copied else None
        if None in copied or last is None or last.size < position:
            return False
    return True


def _cursors(store: sqlite3.Connection) -> Cursors:
    return {row[0]: (row[1], row[2]) for row in store.execute("SELECT epoch, part, position FROM journals")}


# -- putting one back -------------------------------------------------------------------------------------------------


def _read_manifest(source: Path) -> Manifest:
    try:
        manifest = msgspec.json.decode((source / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise BackupFailed(f"{source} holds no complete backup: there is no {MANIFEST}") from None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        raise BackupFailed(f"{source / MANIFEST} cannot be read; the backup is damaged") from None
    if manifest.sealed().digest != manifest.digest or STORE not in manifest.files:
        raise BackupFailed(f"{source / MANIFEST} was changed after the backup was made")
    if manifest.format != FORMAT or manifest.revision > newest_revision():
        raise BackupFailed(f"the backup was made by release {manifest.release}, which is later than this one")
    for name in manifest.files:
        if not _is_ours(name):
            raise BackupFailed(f"{source / MANIFEST} names {name!r}, which is no file of a backup")
    return manifest


def _is_ours(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    return name in (STORE, *SECRETS) or (folder == JOURNALS and named(file) is not None)


def _ledger_faults(data: Path) -> list[Fault]:
    engine = committer_engine(database_url("sqlite", data))
    try:
        return check(engine, None).faults
    finally:
        engine.dispose()


# -- files ------------------------------------------------------------------------------------------------------------


@contextmanager
def _failures_named() -> Iterator[None]:
    """What files and SQLite raise, as a sentence."""
    try:
        yield
    except OSError as error:
        raise BackupFailed(f"{error.filename or 'a file'}: {error.strerror or error}") from error
    except sqlite3.Error as error:
        raise BackupFailed(f"the store cannot be read: {error}") from error


@contextmanager
def _filled_or_empty(directory: Path) -> Iterator[None]:
    """`directory`, made for its owner alone where it is missing. Nothing stays in it when the block fails."""
    existed = directory.is_dir()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise BackupFailed(f"{directory} is not empty")
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


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_BUSY_S)


def _sound_revision(store: sqlite3.Connection) -> str:
    """The schema's revision of a store without damage. It is left without files beside it."""
    (said,) = store.execute("PRAGMA quick_check(1)").fetchone()
    if said != "ok":
        raise BackupFailed(f"the store is damaged: {said}")
    (revision,) = store.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(revision)


def _copy(source: BinaryIO, target: Path) -> Kept:
    """Copies what `source` holds now to a new file for the owner alone."""
    digest, size = hashlib.sha256(), 0
    with _new(target) as file:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
            size += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    return Kept(size, digest.hexdigest())


def _kept(path: Path) -> Kept:
    with path.open("rb") as file:
        return Kept(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _write(path: Path, content: bytes) -> None:
    with _new(path) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _new(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
