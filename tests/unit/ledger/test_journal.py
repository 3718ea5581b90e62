"""The journal: what was written is read back, what was not is never made up, and one process owns it."""

import asyncio
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.domain.events import UsageEvent
from penstock.domain.journal import Hold, Note, Post, Record, Void
from penstock.domain.policy import Charge, Charges
from penstock.errors import JournalDamaged, StoreUnavailable
from penstock.ledger import journal as journals
from penstock.ledger.frames import after_damage, frame_of, header_of, scan
from penstock.ledger.journal import Journal, create, lock
from penstock.testing.wire import eventually

MakeEvent = Callable[..., UsageEvent]
CHARGES = Charges.of([Charge("l", 0, "", 5)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return create(tmp_path, 7)


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    journal = Journal(path)
    yield journal
    journal.close()


def read(path: Path, offset: int = 0) -> list[Record]:
    return [record for record, _ in scan(path, offset)]


def records(event: MakeEvent, count: int = 4) -> list[Record]:
    return [Note(n, event(str(n))) for n in range(count)]


@contextmanager
def room_for(file_bytes: int) -> Iterator[None]:
    """A disk on which files end at this size: the write that crosses it is cut short, the next ones fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_every_kind_of_record_comes_back_as_it_was_written(journal: Journal, path: Path, event: MakeEvent) -> None:
    written: list[Record] = [
        Hold("a:1", 1, CHARGES, event("a")),
        Post("a:1", 2, CHARGES, "computed"),
        Hold("a:2", 3, CHARGES, event("a")),
        Void("a:2", 4, "retried", event("a")),
        Note(5, event("b")),
    ]
    for record in written:
        journal.append(record)
    assert read(path) == written
    assert header_of(path)[0].epoch == journal.epoch == 7  # type: ignore[index]


def test_reading_goes_on_from_any_offset_it_stopped_at(journal: Journal, path: Path, event: MakeEvent) -> None:
    written = records(event)
    for record in written:
        journal.append(record)
    for n, (_, offset) in enumerate(list(scan(path))):
        assert read(path, offset) == written[n + 1 :]


def test_a_tail_torn_at_any_byte_ends_the_reading_before_it(tmp_path: Path, event: MakeEvent) -> None:
    path = create(tmp_path, 1)
    journal, written = Journal(path), records(event, 3)
    for record in written:
        journal.append(record)
    journal.close()
    ends = [offset for _, offset in scan(path)]
    whole = path.read_bytes()
    for size in range(ends[1], ends[2]):
        path.write_bytes(whole[:size])
        assert read(path) == written[:2]


def test_damage_in_the_middle_is_told_with_its_place_and_can_be_passed(tmp_path: Path, event: MakeEvent) -> None:
    path = create(tmp_path, 1)
    journal, written = Journal(path), records(event)
    for record in written:
        journal.append(record)
    journal.close()
    offsets = [offset for _, offset in scan(path)]
    damaged = bytearray(path.read_bytes())
    damaged[offsets[0] + 20] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(JournalDamaged) as found:
        read(path)
    assert found.value.offset == offsets[0]
    assert after_damage(path, offsets[0]) == offsets[1]
    assert read(path, offsets[1]) == written[2:]


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_change_to_the_bytes_makes_up_a_record(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = create(tmp_path_factory.mktemp("journal"), 1)
    journal = Journal(path)
    written = [Void(f"a:{n}", n, "why" * n) for n in range(5)]
    for record in written:
        journal.append(record)
    journal.close()
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    found: list[Record] = []
    try:
        for record, _ in scan(path):
            found.append(record)
    except JournalDamaged as damage:
        assert damage.offset < len(content)
    assert found == written[: len(found)]


def test_a_hostile_length_is_not_believed(journal: Journal, path: Path, event: MakeEvent) -> None:
    journal.append(Note(1, event("a")))
    with path.open("ab") as file:
        file.write(b"\xff\xff\xff\xff" + bytes(100))
    assert len(read(path)) == 1


def test_a_frame_that_a_caller_hid_in_a_record_is_no_frame(tmp_path: Path, event: MakeEvent) -> None:
    forged = frame_of(Post("victim:1", 1, Charges.of(()), "computed"), 0).decode("latin-1")
    path = create(tmp_path, 1)
    journal = Journal(path)
    journal.append(Note(1, event("a", customer=forged)))
    journal.append(Note(2, event("b")))
    journal.close()
    first = header_of(path)[1]  # type: ignore[index]
    damaged = bytearray(path.read_bytes())
    damaged[first + 12] ^= 1
    path.write_bytes(damaged)
    assert [record.at for record in read(path, after_damage(path, first))] == [2]


def test_a_journal_is_open_in_one_place_at_a_time(journal: Journal, path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        Journal(path)
    assert lock(path) is None


def test_a_journal_that_was_taken_over_cannot_be_opened(path: Path) -> None:
    path.unlink()
    with pytest.raises(StoreUnavailable):
        Journal(path)


def test_a_file_that_is_no_journal_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "1-0.journal"
    path.write_bytes(b"something else" * 100)
    with pytest.raises(StoreUnavailable):
        Journal(path)


def test_the_lock_ends_with_the_process_and_not_with_its_children(path: Path) -> None:
    program = (
        "import os, sys, subprocess, pathlib; from penstock.ledger.journal import Journal;"
        "journal = Journal(pathlib.Path(sys.argv[1]));"
        "child = subprocess.Popen(['sleep', '30'], close_fds=False);"
        "print(child.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        child = int(owner.stdout.readline())
        try:
            assert lock(path) is None
            owner.kill()
            owner.wait()
            descriptor = lock(path)
            assert descriptor is not None
            journals.os.close(descriptor)
        finally:
            journals.os.kill(child, 9)


def test_a_full_disk_refuses_leaves_no_trace_and_recovers(journal: Journal, path: Path, event: MakeEvent) -> None:
    journal.append(Note(1, event("a")))
    size = path.stat().st_size
    assert not journal.is_failing
    with room_for(size + 40):
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                journal.append(Note(2, event("b")))
            assert path.stat().st_size == size
            assert journal.is_failing
    journal.append(Note(3, event("c")))
    assert not journal.is_failing
    assert [record.at for record in read(path)] == [1, 3]


def test_a_resolution_that_cannot_be_written_goes_out_before_anything_else(
    journal: Journal, path: Path, event: MakeEvent
) -> None:
    journal.append(Hold("a:1", 1, CHARGES, event("a")))
    with room_for(path.stat().st_size):
        assert not journal.append_or_keep(Post("a:1", 2, CHARGES, "computed"))
        assert not journal.append_or_keep(Void("b:1", 3, "cut"))
        with pytest.raises(StoreUnavailable):
            journal.append(Hold("c:1", 4, CHARGES, event("c")))
    journal.append(Hold("c:1", 4, CHARGES, event("c")))
    assert [record.at for record in read(path)] == [1, 2, 3, 4]


def test_a_large_journal_goes_on_in_another_file_that_is_locked_too(
    path: Path, event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "PART_BYTES", 1_000)
    journal, written = Journal(path), records(event, 20)
    for record in written:
        journal.append(record)
    parts = sorted(path.parent.glob("7-*.journal"), key=lambda part: int(part.stem.split("-")[1]))
    assert len(parts) > 2
    assert [record for part in parts for record in read(part)] == written
    assert [header_of(part)[0].part for part in parts] == list(range(len(parts)))  # type: ignore[index]
    assert lock(parts[-1]) is None
    journal.sync()
    assert lock(parts[-1]) is None
    journal.close()


def test_a_file_that_cannot_be_begun_refuses_and_is_tried_again(
    path: Path, event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "PART_BYTES", 100)
    journal = Journal(path)
    journal.append(Note(1, event("a")))
    with room_for(0), pytest.raises(StoreUnavailable):
        journal.append(Note(2, event("b")))
    assert [part.name for part in path.parent.iterdir()] == [path.name]
    journal.append(Note(3, event("c")))
    journal.close()
    assert [record.at for record in read(path.with_name("7-1.journal"))] == [3]


async def test_what_was_written_is_brought_to_the_disk_in_the_background(
    journal: Journal, path: Path, event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = journals.os.fdatasync
    monkeypatch.setattr(journals.os, "fdatasync", lambda descriptor: (synced.append(descriptor), real(descriptor)))
    keeper = asyncio.create_task(journal.keep_synced(0.01))
    journal.append(Note(1, event("a")))
    await asyncio.sleep(0.1)
    assert len(synced) == 1
    await asyncio.sleep(0.05)
    assert len(synced) == 1
    journal.append(Note(2, event("b")))
    await asyncio.sleep(0.1)
    assert len(synced) == 2
    keeper.cancel()


async def test_a_disk_that_has_room_again_is_found_without_a_call(
    journal: Journal, path: Path, event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(journals, "ROOM_BYTES", 2**80)
        with room_for(path.stat().st_size), pytest.raises(StoreUnavailable):
            journal.append(Note(1, event("a")))
        keeper = asyncio.create_task(journal.keep_synced(0.01))
        await asyncio.sleep(0.1)
        assert journal.is_failing
    await asyncio.to_thread(eventually, lambda: not journal.is_failing, 5)
    keeper.cancel()


async def test_a_disk_that_does_not_sync_refuses_calls_until_it_does(
    journal: Journal, path: Path, event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    keeper = asyncio.create_task(journal.keep_synced(0.01))
    with monkeypatch.context() as broken:
        broken.setattr(journals.os, "fdatasync", fail)
        journal.append(Note(1, event("a")))
        await asyncio.sleep(0.1)
        with pytest.raises(StoreUnavailable):
            journal.append(Note(2, event("b")))
    await asyncio.sleep(0.1)
    journal.append(Note(3, event("c")))
    assert [record.at for record in read(path)] == [1, 3]
    keeper.cancel()
