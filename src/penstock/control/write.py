"""One change under way: its connection, who makes it, when, and what it has touched."""

from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncConnection

Origin = Literal["api", "file"]


@dataclass(frozen=True)
class Write:
    """`at`: Unix nanoseconds. `origin`: whose objects it may touch: the API's or the configuration file's.
    `touched`: `(kind, name)` of every object written, which is what the publisher has to look at again."""

    conn: AsyncConnection
    actor: str
    at: int
    origin: Origin = "api"
    touched: set[tuple[str, str]] = field(default_factory=set)

    def touched_names(self) -> dict[str, set[str]]:
        """Kind -> the names of what was written."""
        names: dict[str, set[str]] = {}
        for kind, name in self.touched:
            names.setdefault(kind, set()).add(name)
        return names
