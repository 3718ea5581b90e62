"""Framing of server-sent events (WHATWG HTML, section 9.2): bytes in, complete events out.

Lines end in LF, CRLF or CR; an event ends at an empty line. Vendors send LF, some CRLF; a lone CR is not used by any
and is left inside its line. Sans-I/O: any split of the bytes gives the same events.
"""

from penstock.errors import UpstreamMalformed

_MARK = "\ufeff".encode()
"""The byte order mark, which a stream may begin with."""
MAX_EVENT_BYTES = 16 * 1024 * 1024


class Splitter:
    """Cuts a stream at the ends of its events. `feed` returns all complete events as one run of bytes, as they came."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> bytes:
        data = self._tail + data if self._tail else data
        end = max(data.rfind(b"\n\n") + 2, data.rfind(b"\n\r\n") + 3)
        if end <= 2:
            self._tail = data
            if len(data) > MAX_EVENT_BYTES:
                raise UpstreamMalformed("The provider sent an event that is too large.")
            return b""
        self._tail = data[end:]
        return data[:end] if self._tail else data

    def rest(self) -> bytes:
        """What came after the last complete event."""
        return self._tail


def events(run: bytes) -> list[bytes]:
    """The events of a run that `Splitter` returned, each with its closing empty line."""
    if b"\r" not in run:
        parts = run.split(b"\n\n")
        rest = parts.pop()
        whole = [part + b"\n\n" for part in parts]
    else:
        whole, rest, start = [], b"", 0
        while start < len(run):
            ends = [
                at + size for at, size in ((run.find(b"\n\n", start), 2), (run.find(b"\n\r\n", start), 3)) if at >= 0
            ]
            if not ends:
                rest = run[start:]
                break
            whole.append(run[start : min(ends)])
            start = min(ends)
    return [*whole, rest] if rest else whole


def data_of(event: bytes) -> bytes:
    """The `data` of one event: its data lines joined by LF; empty for comments and other fields."""
    if event.startswith(b"data: ") and event.find(b"\n", 0, -2) < 0:
        return event[6:-2].rstrip(b"\r")
    lines = []
    event = event.removeprefix(_MARK)
    for line in event.splitlines():
        if line.startswith(b"data:"):
            value = line[5:]
            lines.append(value[1:] if value.startswith(b" ") else value)
    return b"\n".join(lines)
