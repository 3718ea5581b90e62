"""What a look at the ledger can find, and how it names what it is about."""

from collections.abc import Mapping
from time import gmtime, strftime

from msgspec import Struct
from sqlalchemy import Connection

from penstock.ledger.postings import run

_NAMES = "SELECT id, name FROM limits"


class Fault(Struct, frozen=True):
    """`kind` is a word for programs, `detail` a sentence for a person."""

    kind: str
    detail: str


class Names:
    """What the limits are called whose ids the ledger has; those that were deleted have no name any more."""

    def __init__(self, connection: Connection) -> None:
        self._names: Mapping[str, str] = {row[0]: row[1] for row in run(connection, _NAMES)}

    def of(self, limit: str, start: int, value: str) -> str:
        """`limit growth-daily (lim_...) value 'acme' window 2026-11-26T00:00:00Z`."""
        known = self._names.get(limit)
        told = [f"limit {limit}" if known is None else f"limit {known} ({limit})"]
        told += [f"value {value!r}"] if value else []
        told += [f"window {strftime('%Y-%m-%dT%H:%M:%SZ', gmtime(start))}"] if 0 < start < 2**36 else []
        return " ".join(told)
