"""What of a stream has passed: kept, up to a bound, so that a stream that is cut can still be counted.

Nobody pays for counting a stream that ends well and says itself what it used.
"""

from abc import ABC, abstractmethod


def whole(held: bytes, data: bytes, pending: int) -> bytes:
    """What was held back with what has come, but for its last bytes, which are no whole event yet: where a stream is
    cut inside of one, the error that ends it must stand by itself."""
    run = held + data if held else data
    return run[: len(run) - pending] if pending else run


KEPT_BYTES = 64 * 1024
"""More than this is counted at once, and let go."""


class Passed(ABC):
    """Each dialect says how its pieces are counted."""

    __slots__ = ("_kept_bytes", "_pieces", "_tokens")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._kept_bytes = 0
        self._tokens = 0

    def keep(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._kept_bytes += len(piece)
        if self._kept_bytes > KEPT_BYTES:
            self.tokens()

    def tokens(self) -> int:
        """An estimate of all that has passed."""
        for piece in self._pieces:
            self._tokens += self.count(piece)
        self._pieces.clear()
        self._kept_bytes = 0
        return self._tokens

    @abstractmethod
    def count(self, piece: bytes) -> int:
        """The tokens of one piece. What cannot be read is counted whole: an estimate must not lose spend."""
