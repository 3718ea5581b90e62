"""One change under way: its connection, who makes it, and when."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.control.actor import Actor

Origin = Literal["api", "file"]


@dataclass(frozen=True)
class Write:
    """`at`: Unix nanoseconds. `origin`: whose objects it may touch: the API's or the configuration file's. What it
    writes, it records in the audit log, which is where the publisher learns what to look at again."""

    conn: AsyncConnection
    by: Actor
    at: int
    origin: Origin = "api"

    @property
    def actor(self) -> str:
        """The name of whoever makes the change."""
        return self.by.name
