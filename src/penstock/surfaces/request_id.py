"""The id of one request: on every answer, in its receipt, and in the log."""

import os


def new_request_id(now_ns: int) -> str:
    """`req_` + milliseconds since 1970 + 64 random bits, both hex: sorts by time, cannot be guessed."""
    return f"req_{now_ns // 1_000_000:011x}{_random.take().hex()}"


class _Random:
    """Random bytes, asked of the system 4 KiB at a time: a system call for each id would cost more than the id."""

    def __init__(self) -> None:
        self._pool, self._next = b"", 0

    def take(self) -> bytes:
        if self._next >= len(self._pool):
            self._pool, self._next = os.urandom(4096), 0
        self._next += 8
        return self._pool[self._next - 8 : self._next]


_random = _Random()
