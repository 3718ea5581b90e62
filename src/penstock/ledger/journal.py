"""The journal: a worker's own append-only record of what it dispatched and settled.

`create` makes an epoch's first file; a `Journal` opens it once, locks it for the life of the process (the kernel frees
the lock however that ends, which is how the control process knows), and appends one frame per record with one write.
What was written survives kill -9; `sync`, once a second, bounds what a power cut can take.

At `PART_BYTES` the journal goes on in another file of the same epoch. The new file is locked before it has its name and
the old one is let go after, so that at every moment the newest file of a live epoch is locked.
"""

import asyncio
import fcntl
import os
import re
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path

from penstock.domain.journal import Note, Post, Record, Void
from penstock.errors import JournalDamaged, StoreUnavailable
from penstock.ledger.frames import VERSION, Header, frame_of, header_of

PART_BYTES = 64 * 1024 * 1024
ROOM_BYTES = 1024 * 1024
"""What must be free on a disk that was full before its journal counts as one that can be written again."""
_NAME = re.compile(r"(\d+)-(\d+)\.journal")


def journal_name(epoch: int, part: int) -> str:
    return f"{epoch}-{part}.journal"


def named(name: str) -> tuple[int, int] | None:
    """`7-0.journal` -> `(7, 0)`: epoch and part; None for a file that is no journal."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def create(directory: Path, epoch: int) -> Path:
    """Makes the first file of an epoch and returns its path. Raises `OSError`."""
    path, descriptor = _make(directory, epoch, 0)
    os.close(descriptor)
    return path


class Journal:
    """Opens the journal that `create` made. One process at a time, once.

    Raises `StoreUnavailable` when the journal is gone, locked, or not of this version: another has taken it over, and
    this process must ask for an epoch of its own.
    """

    def __init__(self, path: Path) -> None:
        self._directory = path.parent
        self._descriptor = _open_locked(path)
        try:
            self._header = _own_header(path)
        except StoreUnavailable:
            os.close(self._descriptor)
            raise
        self._size = os.fstat(self._descriptor).st_size
        self._torn = False
        self._kept: list[Post | Void | Note] = []
        self._dirty = True
        self._directory_dirty = True
        self._failing_sync = False
        self._refused = False
        self._retired: list[int] = []
        self._syncing = threading.Lock()

    @property
    def epoch(self) -> int:
        return self._header.epoch

    @property
    def is_failing(self) -> bool:
        """Whether the disk did not take what was last written or synced, and nothing speaks for it since."""
        return self._failing_sync or self._refused or bool(self._kept)

    def append(self, record: Record) -> None:
        """Writes one record. Raises `StoreUnavailable`, with nothing written, when the disk does not take it; records
        that were kept back go first."""
        if self._failing_sync:
            raise StoreUnavailable("The journal cannot be brought to the disk. Try again.", retry_after_s=1)
        if self._kept:
            self.retry_kept()
        self._write([record])

    def append_or_keep(self, record: Post | Void | Note) -> bool:
        """As `append`, for what must not be lost: a record that cannot be written is kept in memory and goes out before
        anything else does. Returns whether it is written."""
        try:
            self.append(record)
        except StoreUnavailable:
            self._kept.append(record)
            return False
        return True

    def retry_kept(self) -> None:
        """Writes what was kept back. Raises `StoreUnavailable` when that still does not work."""
        if self._kept:
            self._write(self._kept)
            self._kept.clear()

    def sync(self) -> None:
        """Brings what was written to the disk. Blocks; call it from a thread. Raises `StoreUnavailable`, and so does
        `append` from then on, until a later call succeeds."""
        with self._syncing:
            retired, self._retired = self._retired, []
            self._dirty = False
            try:
                for descriptor in retired:
                    os.fdatasync(descriptor)
                os.fdatasync(self._descriptor)
                if self._directory_dirty:
                    _sync_directory(self._directory)
                    self._directory_dirty = False
            except OSError as error:
                self._retired[:0] = retired
                self._dirty = self._failing_sync = True
                raise StoreUnavailable("The journal cannot be brought to the disk. Try again.") from error
            self._failing_sync = False
            for descriptor in retired:
                os.close(descriptor)

    def _look_for_room(self) -> None:
        """Nobody may be sending calls to a box that refuses them, so the disk is looked at without one."""
        found = os.statvfs(self._directory)
        if found.f_bavail * found.f_frsize >= ROOM_BYTES and not found.f_flag & os.ST_RDONLY:
            self._refused = False

    async def keep_synced(self, interval_s: float = 1.0) -> None:
        """Syncs once per interval, in a thread, whenever something was written. Runs until it is cancelled; a disk that
        fails is tried again in the next interval, and the calls it concerns have been refused by then."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(interval_s)
            try:
                self.retry_kept()
                if self._refused:
                    self._look_for_room()
                if self._dirty:
                    await loop.run_in_executor(None, self.sync)
            except (StoreUnavailable, OSError):
                continue

    def close(self) -> None:
        """Writes what was kept back, syncs, and gives the lock up. The descriptors are closed even where that fails."""
        try:
            self.retry_kept()
            self.sync()
        finally:
            for descriptor in (*self._retired, self._descriptor):
                os.close(descriptor)
            self._retired = []
            self._descriptor = -1  # the number may be another file's soon: a late record must not go there

    def _write(self, records: Sequence[Record]) -> None:
        """In one write, so that all of them are written or none."""
        self._refused = True
        try:
            if self._torn:
                self._mend()
            if self._size >= PART_BYTES:
                self._rotate()
            salt = self._header.salt
            frame = frame_of(records[0], salt) if len(records) == 1 else b"".join(frame_of(r, salt) for r in records)
            written = os.write(self._descriptor, frame)
        except OSError as error:
            raise StoreUnavailable("The journal cannot be written. Try again.", retry_after_s=1) from error
        if written != len(frame):
            self._torn = True
            try:
                self._mend()
            except OSError as error:
                raise StoreUnavailable("The journal cannot be written. Try again.", retry_after_s=1) from error
            raise StoreUnavailable("The journal's disk is full. Try again.", retry_after_s=1)
        self._size += written
        self._dirty = True
        self._refused = False

    def _mend(self) -> None:
        """Cuts off the piece of a frame that a failed write left."""
        os.ftruncate(self._descriptor, self._size)
        self._torn = False

    def _rotate(self) -> None:
        path, descriptor = _make(self._directory, self._header.epoch, self._header.part + 1)
        self._directory_dirty = True
        self._retired.append(self._descriptor)
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._header = _own_header(path)


def lock(path: Path) -> int | None:
    """A descriptor that locks this journal until it is closed; None when a living process has it. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _open_locked(path: Path) -> int:
    """Opens and locks an existing file, and makes sure that it is still the one of that name."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    except OSError as error:
        raise StoreUnavailable("The journal cannot be opened.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), path.stat()):
            raise FileNotFoundError(path.name)
    except OSError as error:
        os.close(descriptor)
        raise StoreUnavailable("The journal is in other hands.") from error
    return descriptor


def _own_header(path: Path) -> Header:
    try:
        found = header_of(path)
    except (JournalDamaged, OSError) as error:
        raise StoreUnavailable("The journal cannot be read.") from error
    if found is None or found[0].version != VERSION:
        raise StoreUnavailable("The journal is not of this version.")
    return found[0]


def _make(directory: Path, epoch: int, part: int) -> tuple[Path, int]:
    """A new journal file with its header in it, locked; it has its name only when it is complete."""
    path = directory / journal_name(epoch, part)
    draft = path.with_suffix(".new")
    descriptor = os.open(draft, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        header = frame_of(Header(VERSION, epoch, part, secrets.randbits(32)), 0)
        if os.write(descriptor, header) != len(header):
            raise OSError("no room for the journal's header")
        draft.rename(path)
    except OSError:
        os.close(descriptor)
        draft.unlink(missing_ok=True)
        raise
    return path, descriptor


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
