"""A clock that is wrong: all processes of a gateway read the time of day with an offset, which can be changed while
they run, as an administrator or a bad time server would.

Only what Python's `time` tells of the time of day is wrong. Clocks that nobody can set (monotonic ones) stay right.
"""

import time
from pathlib import Path

LOOK_NS = 5_000_000
"""How old a process's knowledge of the offset may be."""


class WrongClock:
    """Lies in a folder of its own; `environment` gives it to the processes that are started with it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._file = folder / "offset_ns"
        self.set(0)
        # Python runs a module of this name at its start, wherever it finds it first.
        call = f"from penstock.testing.clocks import install\n\ninstall({str(self._file)!r})\n"
        (folder / "sitecustomize.py").write_text(call)
        self.environment = {"PYTHONPATH": str(folder)}

    def set(self, offset_s: float) -> None:
        """How far before the right time (or behind it, below 0) the clock is from now on."""
        draft = self._file.with_suffix(".new")
        draft.write_text(str(round(offset_s * 1e9)))
        draft.rename(self._file)


def install(file: str) -> None:
    """Makes this process's time of day wrong by the nanoseconds that `file` says."""
    right_ns, place = time.time_ns, Path(file)
    offset_ns = looked_at_ns = 0

    def wrong_ns() -> int:
        nonlocal offset_ns, looked_at_ns
        now_ns = time.monotonic_ns()
        if now_ns - looked_at_ns > LOOK_NS:
            looked_at_ns, offset_ns = now_ns, int(place.read_text())
        return right_ns() + offset_ns

    time.time_ns = wrong_ns
    time.time = lambda: wrong_ns() / 1e9
