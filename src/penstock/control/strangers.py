"""Strangers on the admin listener: what it costs the database that somebody comes with a token that nobody has.

The first few of a minute are looked up one by one. From then on one look-up a second answers for all of them: it brings
the digests of every token and session there is, and who is not among them is a stranger. Nobody has to wait, and nobody
who has a token is taken for a stranger, but for one that another box has made within the last second.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from sqlalchemy import select, union_all

from penstock.control.door import Door
from penstock.store.tables.access import sessions
from penstock.store.tables.control import admin_tokens

FREE = 20
WINDOW_S = 60.0
KEPT_S = 1.0


class Strangers:
    """`clock`: monotonic seconds."""

    def __init__(self, door: Door, clock: Callable[[], float] = time.monotonic) -> None:
        self._door = door
        self._clock = clock
        self._failures: deque[float] = deque(maxlen=FREE)
        self._known: frozenset[str] = frozenset()
        self._read_at, self._read_at_change = -KEPT_S, -1
        self._reading = asyncio.Lock()

    def failed(self) -> None:
        """Somebody was looked up and is not known."""
        self._failures.append(self._clock())

    async def has(self, digest: str) -> bool:
        """Whether the owner of this digest is a stranger for certain. While few have come, nobody is: look them up."""
        if len(self._failures) < FREE or self._clock() - self._failures[0] > WINDOW_S:
            return False
        async with self._reading:
            if self._clock() - self._read_at >= KEPT_S or self._read_at_change != self._door.seen:
                await self._read()
        if digest in self._known:
            return False
        self.failed()
        return True

    async def _read(self) -> None:
        at, change = self._clock(), self._door.seen
        alive = select(admin_tokens.c.digest).where(admin_tokens.c.revoked_at.is_(None))
        async with self._door.read() as conn:
            rows = await conn.execute(union_all(alive, select(sessions.c.digest)))
            self._known = frozenset(rows.scalars())
        self._read_at, self._read_at_change = at, change
