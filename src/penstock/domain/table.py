"""A mapping that never changes, and of which a copy with a few changes costs little, however large it is.

The entries lie in shards, by the hash of their name. A changed copy has new shards for what was changed and shares all
others with the one that it was made from: of a hundred thousand entries, one change copies some two hundred.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

V = TypeVar("V")
D = TypeVar("D")
SHARDS = 512
"""A power of two: the lowest bits of the hash say where an entry lies."""
_MASK = SHARDS - 1


class Table(Mapping[str, V]):
    """Entries by name. Equal to any mapping with the same entries."""

    __slots__ = ("_shards",)
    _shards: tuple[dict[str, V], ...]

    def __init__(self, entries: Mapping[str, V] | None = None) -> None:
        gathering = Gathering[V]()
        gathering.add(entries or {})
        self._shards = gathering.shards()

    def __getitem__(self, name: str) -> V:
        return self._shards[hash(name) & _MASK][name]

    def get(self, name: str, default: D = None) -> V | D:  # type: ignore[assignment]
        return self._shards[hash(name) & _MASK].get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._shards[hash(name) & _MASK]

    def __iter__(self) -> Iterator[str]:
        for shard in self._shards:
            yield from shard

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def __repr__(self) -> str:
        return f"Table({dict(self)!r})"

    def changed(self, put: Mapping[str, V], drop: Iterable[str] = ()) -> "Table[V]":
        """A copy without the names in `drop`, and then with the entries in `put`. A name in `drop` may be unknown."""
        fresh: dict[int, dict[str, V]] = {}
        for name in drop:
            number = hash(name) & _MASK
            if name in (fresh.get(number) or self._shards[number]):
                fresh.setdefault(number, dict(self._shards[number])).pop(name, None)
        for name, value in put.items():
            number = hash(name) & _MASK
            fresh.setdefault(number, dict(self._shards[number]))[name] = value
        shards = list(self._shards)
        for number, shard in fresh.items():
            shards[number] = shard
        return _made_of(tuple(shards))


class Gathering(Generic[V]):
    """A table in the making, of which the entries come in several portions."""

    def __init__(self) -> None:
        self._shards: dict[int, dict[str, V]] = {}

    def add(self, entries: Mapping[str, V]) -> None:
        for name, value in entries.items():
            self._shards.setdefault(hash(name) & _MASK, {})[name] = value

    def table(self) -> Table[V]:
        """The table. Nothing is added afterwards."""
        return _made_of(self.shards())

    def shards(self) -> tuple[dict[str, V], ...]:
        nothing: dict[str, V] = {}
        return tuple([self._shards.get(number, nothing) for number in range(SHARDS)])


def _made_of(shards: tuple[dict[str, V], ...]) -> Table[V]:
    table = Table.__new__(Table)
    table._shards = shards
    return table


def table_of(entries: Mapping[str, V]) -> Table[V]:
    """The mapping itself where it is a table."""
    return entries if isinstance(entries, Table) else Table(entries)
