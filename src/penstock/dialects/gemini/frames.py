"""How a stream of answers is cut into its pieces: server-sent events (`alt=sse`), or the elements of one JSON list as
they become whole. Which of them it is, its first byte says, so that an error that is a bare JSON object under the label
of an event stream is read as well. Sans-I/O: any split of the bytes gives the same pieces.
"""

import re

from penstock.dialects import sse
from penstock.errors import UpstreamMalformed

_OUTSIDE = re.compile(rb'["{}\]]')
_INSIDE = re.compile(rb'["\\]')


class ListSplitter:
    """Cuts a JSON list of objects, or a lone object, into the objects. `closed`: its closing bracket has come."""

    __slots__ = ("_at", "_depth", "_done", "_fed", "_held", "_in_text", "_start", "closed")

    def __init__(self) -> None:
        self.closed = False
        self._held = b""
        self._at = 0
        self._start = 0
        self._depth = 0
        self._in_text = False
        self._fed = 0
        self._done = 0

    @property
    def pending(self) -> int:
        """Bytes since the last object was whole; none behind the closing bracket."""
        return 0 if self.closed else self._fed - self._done

    def feed(self, data: bytes) -> list[bytes]:
        held = self._held = self._held + data if self._held else data
        self._fed += len(data)
        found: list[bytes] = []
        while self._at < len(held):
            match = (_INSIDE if self._in_text else _OUTSIDE).search(held, self._at)
            if match is None:
                self._at = len(held)
                break
            mark, self._at = match[0], match.end()
            if mark == b"\\":
                self._at += 1
            elif mark == b'"':
                self._in_text = not self._in_text
            else:
                self._step(mark, found)
        self._drop_passed()
        return found

    def rest(self) -> bytes:
        """The object that has begun and is not whole."""
        return self._held[self._start :] if self._depth else b""

    def _step(self, mark: bytes, found: list[bytes]) -> None:
        if mark == b"{":
            if self._depth == 0:
                self._start = self._at - 1
            self._depth += 1
        elif mark == b"}":
            self._depth -= 1
            if self._depth < 0:
                raise UpstreamMalformed("The provider's stream is not a list of objects.")
            if self._depth == 0:
                found.append(self._held[self._start : self._at])
                self._done = self._fed - len(self._held) + self._at
        elif self._depth == 0:
            self.closed = True

    def _drop_passed(self) -> None:
        keep = self._start if self._depth else min(self._at, len(self._held))
        self._held = self._held[keep:]
        self._at -= keep
        self._start = 0
        if len(self._held) > sse.MAX_EVENT_BYTES:
            raise UpstreamMalformed("The provider sent an event that is too large.")


class Frames:
    """The JSON of each answer in a stream, whatever its form. `is_list`: None until the first byte has come."""

    __slots__ = ("_events", "_list", "is_list")

    def __init__(self) -> None:
        self.is_list: bool | None = None
        self._events = sse.Splitter()
        self._list = ListSplitter()

    @property
    def closed(self) -> bool:
        """Whether the form itself has an ending, and it has come."""
        return self._list.closed

    @property
    def pending(self) -> int:
        """How many of the last bytes belong to a piece that is not whole yet."""
        return self._list.pending if self.is_list else len(self._events.rest())

    def feed(self, data: bytes) -> list[bytes]:
        if self.is_list is None:
            if not data.strip():
                return []
            self.is_list = data.lstrip()[:1] in (b"[", b"{")
        if self.is_list:
            return self._list.feed(data)
        run = self._events.feed(data)
        return [found for event in sse.events(run) if (found := sse.data_of(event).strip())] if run else []

    def close(self) -> list[bytes]:
        """The last answer, where only its closing empty line is missing."""
        if self.is_list:
            return []
        rest = self._events.rest().strip()
        found = sse.data_of(rest + b"\n\n").strip() if rest else b""
        return [found or rest] if rest and not rest.startswith(b":") else []
