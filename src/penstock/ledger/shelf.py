"""The shelf: the directory that the journals of one box lie in, as the control process sees it."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.ledger.journal import create, journal_name, lock, named


class Shelf:
    """Files are `<epoch>-<part>.journal`. Everything raises `OSError` where the directory fails."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __str__(self) -> str:
        return str(self._directory)

    def parts(self) -> dict[int, list[int]]:
        """Epoch -> its files' parts, ascending. All but the last are complete: nothing will be added to them."""
        found: dict[int, list[int]] = {}
        for entry in os.scandir(self._directory):
            name = named(entry.name)
            if name is not None:
                found.setdefault(name[0], []).append(name[1])
        for parts in found.values():
            parts.sort()
        return found

    def path(self, epoch: int, part: int) -> Path:
        return self._directory / journal_name(epoch, part)

    def size(self, epoch: int, part: int) -> int:
        """In bytes; 0 for a file that was discarded meanwhile."""
        try:
            return self.path(epoch, part).stat().st_size
        except FileNotFoundError:
            return 0

    def add(self, epoch: int) -> Path:
        return create(self._directory, epoch)

    def is_live(self, epoch: int) -> bool:
        with self.locked_if_dead(epoch) as dead:
            return not dead

    @contextmanager
    def locked_if_dead(self, epoch: int) -> Iterator[bool]:
        """Whether no living process holds this epoch's journal; if so, none can take it up inside the block.

        The newest file is the one that counts, and a live process may have begun another since the list was made: what
        is still the newest after it was locked is the one.
        """
        while parts := self.parts().get(epoch):
            try:
                descriptor = lock(self.path(epoch, parts[-1]))
            except FileNotFoundError:
                continue
            if descriptor is None:
                yield False
                return
            try:
                if self.parts().get(epoch) == parts:
                    yield True
                    return
            finally:
                os.close(descriptor)
        yield True

    def discard(self, epoch: int, parts: Iterable[int], *, damaged: bool) -> None:
        """Removes files that are in the ledger to the last byte. What was damaged is put aside to be looked at."""
        for part in parts:
            path = self.path(epoch, part)
            self.path(epoch, part + 1).with_suffix(".new").unlink(missing_ok=True)
            if damaged:
                path.rename(path.with_suffix(".damaged"))
            else:
                path.unlink()
