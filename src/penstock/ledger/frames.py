"""Frames: the bytes of a journal.

A journal file is a run of frames. A frame is a big-endian u32 length, a big-endian u32 CRC-32 and a msgpack payload of
that length. The first frame is the header; its salt seeds the checksums of the others, so that bytes which a caller
slipped into a record, or which another file left on the disk, never pass for a frame.

A file that ends in the middle of a frame has a torn tail: that record was never written, and reading stops before it.
A bad frame with a good one after it is damage.
"""

import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from penstock.domain.journal import Record
from penstock.errors import JournalDamaged, PenstockError

VERSION = 1
"""Counts the ways in which frames and headers are written. A new kind of record is none: whoever reads it reads the
older journals, and a worker writes it only for limits that its control process knows."""
MAX_PAYLOAD_BYTES = 16 * 1024 * 1024
_READ_BYTES = 256 * 1024
_PREFIX = struct.Struct(">II")
_WHOLE_FRAME_BYTES = MAX_PAYLOAD_BYTES + _PREFIX.size
_PAYLOAD_START = re.compile(rb"[\x92-\x9f]\xa1[hxpvn]")
"""How msgpack begins a record: an array whose first element is the one-letter tag."""

_encoder = msgspec.msgpack.Encoder()
_records = msgspec.msgpack.Decoder[Record](Record)


class Header(Struct, frozen=True, array_like=True, tag="j"):
    """`part` counts the files of one epoch from 0. `salt`: u32."""

    version: int
    epoch: int
    part: int
    salt: int


_headers = msgspec.msgpack.Decoder(Header)


class Frame(NamedTuple):
    """`next_offset`: where the frame after this one begins, in bytes from the start of the file."""

    payload: memoryview
    next_offset: int


def frame_of(record: Record | Header, salt: int) -> bytes:
    """The frame of one record. Raises `PenstockError` for one that no reader would take for a frame."""
    payload = _encoder.encode(record)
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise PenstockError(f"a journal record of {len(payload)} bytes is over the bound")
    return _PREFIX.pack(len(payload), zlib.crc32(payload, salt)) + payload


def header_of(path: Path) -> tuple[Header, int] | None:
    """The header and where the first record begins; None for a file that was not finished.

    Raises `JournalDamaged` when there is something else, and `OSError`.
    """
    with path.open("rb") as file:
        data = file.read(256)
    frame = next(_frames(data, 0, 0), None)
    if frame is None:
        if len(data) >= 64:
            raise JournalDamaged(path.name, 0)
        return None
    try:
        header = _headers.decode(frame.payload)
    except msgspec.DecodeError as error:
        raise JournalDamaged(path.name, 0) from error
    return header, frame.next_offset


def frames(path: Path, offset: int) -> Iterator[Frame]:
    """Every frame from `offset` on (0: from the first record), up to the end or a torn tail.

    Raises `JournalDamaged` at a frame that does not check though a good one comes after it.
    """
    found = header_of(path)
    if found is None:
        return
    header, first = found
    offset = max(offset, first)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        wanted = _READ_BYTES
        while data := os.pread(descriptor, wanted, offset):
            read = 0
            for frame in _frames(data, offset, header.salt):
                read = frame.next_offset - offset
                yield frame
            if read:
                offset, wanted = offset + read, _READ_BYTES
            elif len(data) == wanted < _WHOLE_FRAME_BYTES:
                wanted = _WHOLE_FRAME_BYTES
            else:
                rest = os.pread(descriptor, os.fstat(descriptor).st_size - offset, offset)
                if _good_after(rest, header.salt) is not None:
                    raise JournalDamaged(path.name, offset)
                return
    finally:
        os.close(descriptor)


def scan(path: Path, offset: int = 0) -> Iterator[tuple[Record, int]]:
    """Every record from `offset` on, each with the offset of the next. Errors as `frames`; a payload that checks but
    is no record is damage too."""
    for frame in frames(path, offset):
        try:
            record = _records.decode(frame.payload)
        except msgspec.DecodeError as error:
            raise JournalDamaged(path.name, frame.next_offset - len(frame.payload) - _PREFIX.size) from error
        yield record, frame.next_offset


def after_damage(path: Path, offset: int) -> int:
    """Where the first good frame after the damage at `offset` begins; the file's size when there is none."""
    found = header_of(path)
    data = path.read_bytes()
    if found is None:
        return len(data)
    good = _good_after(memoryview(data)[offset:], found[0].salt)
    return len(data) if good is None else offset + good


def _frames(data: bytes, base: int, salt: int) -> Iterator[Frame]:
    """The whole and good frames that `data`, which lies at `base` in its file, begins with."""
    view, position, size = memoryview(data), 0, len(data)
    while position + _PREFIX.size <= size:
        length, checksum = _PREFIX.unpack_from(data, position)
        end = position + _PREFIX.size + length
        if length > MAX_PAYLOAD_BYTES or not length or end > size:
            return
        payload = view[position + _PREFIX.size : end]
        if zlib.crc32(payload, salt) != checksum:
            return
        yield Frame(payload, base + end)
        position = end


def _good_after(data: bytes | memoryview, salt: int) -> int | None:
    """Where in `data`, past its first byte, the first good frame begins."""
    size = len(data)
    for match in _PAYLOAD_START.finditer(data, _PREFIX.size + 1):
        start = match.start() - _PREFIX.size
        length, checksum = _PREFIX.unpack_from(data, start)
        end = match.start() + length
        if length <= MAX_PAYLOAD_BYTES and end <= size and zlib.crc32(data[match.start() : end], salt) == checksum:
            return start
    return None
