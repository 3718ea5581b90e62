"""A snapshot that is on its way to a worker: first all but the keys, then the keys in parts that hold nobody up."""

from collections.abc import Iterator
from itertools import islice

from msgspec import Struct, structs

from penstock.domain.snapshot import Change, Snapshot, applied, names_by_digest
from penstock.domain.table import Gathering
from penstock.domain.tenancy import Key, Sharing

KEYS_IN_A_PART = 100
"""Some 2 ms of work for whoever takes them in."""


class Keys(Struct, frozen=True, tag="keys"):
    """The next keys of the snapshot that is under way; `last`: there are no more."""

    keys: tuple[Key, ...]
    last: bool


def without_keys(snapshot: Snapshot) -> Snapshot:
    """What goes first."""
    return structs.replace(snapshot, keys={}, digests={})


def parts(snapshot: Snapshot) -> Iterator[Keys]:
    """What goes afterwards, one after another; one at least."""
    left = iter(snapshot.keys.values())
    taken = tuple(islice(left, KEYS_IN_A_PART))
    while True:
        following = tuple(islice(left, KEYS_IN_A_PART))
        yield Keys(taken, not following)
        if not following:
            return
        taken = following


class Arrival:
    """The receiving end. `rest` is what came first."""

    def __init__(self, rest: Snapshot) -> None:
        self._rest = rest
        self._keys = Gathering[Key]()
        self._digests = Gathering[str]()
        self._sharing = Sharing()
        self._later: list[Change] = []

    def follow(self, change: Change) -> None:
        """A change that was published meanwhile."""
        self._later.append(change)

    def add(self, part: Keys) -> Snapshot | None:
        """The whole snapshot, with what was published meanwhile, once this was the last part."""
        keys = [self._sharing.shared(key) for key in part.keys]
        self._keys.add({key.name: key for key in keys})
        self._digests.add(names_by_digest(keys))
        if not part.last:
            return None
        whole = structs.replace(self._rest, keys=self._keys.table(), digests=self._digests.table())
        for change in self._later:
            if change.version == whole.version + 1:
                whole = applied(whole, change)
        return whole
