"""Amazon's binary event stream (`application/vnd.amazon.eventstream`): bytes in, checked frames out, and back.

Source: Smithy, "Amazon Event Stream Specification". A frame is: total length and length of the headers (4 bytes each,
big-endian), a CRC-32 of these 8 bytes, the headers, the payload, and a CRC-32 of all before it. Sans-I/O: any split of
the bytes gives the same frames.
"""

import struct
from zlib import crc32

from msgspec import Struct

from penstock.errors import UpstreamMalformed

CONTENT_TYPE = "application/vnd.amazon.eventstream"

MAX_FRAME_BYTES = 24 * 1024 * 1024
_PRELUDE = struct.Struct(">III")
_LEAST = _PRELUDE.size + 4
_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Sizes of the values of a header, by type; 6 (bytes) and 7 (text) bring their own."""
_TEXT = 7


class Frame(Struct, frozen=True):
    """`kind`: what `:event-type` or `:exception-type` says; `is_exception`: it ends the stream with a fault."""

    kind: str
    payload: bytes
    is_exception: bool = False


class Splitter:
    """Cuts a stream into its frames. `UpstreamMalformed` for a checksum that does not hold."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> list[Frame]:
        data = self._tail + data if self._tail else data
        frames, at = [], 0
        while len(data) - at >= _PRELUDE.size:
            total, headers, checksum = _PRELUDE.unpack_from(data, at)
            if checksum != crc32(data[at : at + 8]) or not _LEAST + headers <= total <= MAX_FRAME_BYTES:
                raise UpstreamMalformed("The provider's event stream is damaged.")
            if len(data) - at < total:
                break
            frames.append(_frame(data[at : at + total], headers))
            at += total
        self._tail = data[at:]
        return frames

    def rest(self) -> bytes:
        """What came after the last whole frame."""
        return self._tail

    def is_between(self) -> bool:
        """Whether no frame has begun and not ended."""
        return not self._tail


def _frame(data: bytes, headers_size: int) -> Frame:
    if crc32(data[:-4]) != int.from_bytes(data[-4:], "big"):
        raise UpstreamMalformed("The provider's event stream is damaged.")
    start = _PRELUDE.size + headers_size
    headers = _headers(data[_PRELUDE.size : start])
    message = headers.get(":message-type", "event")
    kind = headers.get(":exception-type") or headers.get(":event-type") or headers.get(":error-code") or ""
    payload = data[start:-4]
    if message == "error":  # a fault without a payload: its words are in a header
        return Frame(kind, payload or headers.get(":error-message", "").encode(), is_exception=True)
    return Frame(kind, payload, message == "exception")


def _headers(data: bytes) -> dict[str, str]:
    """The headers that are text."""
    found, at = {}, 0
    try:
        while at < len(data):
            end = at + 1 + data[at]
            name, kind = data[at + 1 : end].decode(), data[end]
            at = end + 1
            if kind in _FIXED:
                at += _FIXED[kind]
                continue
            (size,) = struct.unpack_from(">H", data, at)
            if kind == _TEXT:
                found[name] = data[at + 2 : at + 2 + size].decode()
            at += 2 + size
    except (IndexError, struct.error, UnicodeDecodeError):
        raise UpstreamMalformed("The provider's event stream is damaged.") from None
    return found


def encode(frame: Frame) -> bytes:
    """The bytes of a frame whose payload is JSON."""
    name = ":exception-type" if frame.is_exception else ":event-type"
    message = "exception" if frame.is_exception else "event"
    told = ((name, frame.kind), (":content-type", "application/json"), (":message-type", message))
    headers = b"".join(
        [
            struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", _TEXT, len(value)) + value.encode()
            for name, value in told
        ]
    )
    lengths = struct.pack(">II", _LEAST + len(headers) + len(frame.payload), len(headers))
    data = lengths + struct.pack(">I", crc32(lengths)) + headers + frame.payload
    return data + struct.pack(">I", crc32(data))
