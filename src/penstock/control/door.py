"""The door: how a change of the control plane happens.

    door = Door(engine, publisher)
    team = await door.change("admin", teams.create, {"name": "growth"})
    async with door.read() as conn:
        listing = await teams.list_page(conn, Page())

A change is one transaction: the rights of whoever asks are those of this moment, the verb checks and writes, the audit
log is written, the difference to the published snapshot is worked out (so that a change which cannot be published is
not made), then all is committed and delivered. Changes run one after another, over all boxes of the database. A change
once begun runs to its end, even when whoever asked for it hangs up: what is durable is also published. `follow`
publishes what other boxes changed.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from penstock.control import changes, kills, organisations
from penstock.control.actor import Actor
from penstock.control.changes import News
from penstock.control.publisher import EVERYTHING, OUTSIDE, TRUST, Publisher, Touched
from penstock.control.write import Write
from penstock.domain.snapshot import Change, Snapshot
from penstock.store.engine import reading

P = ParamSpec("P")
T = TypeVar("T")


class Door:
    """`clock`: Unix nanoseconds. `require_store` raises StoreDown while the store is away, so that nobody waits for
    one that hangs."""

    def __init__(
        self,
        engine: AsyncEngine,
        publisher: Publisher,
        clock: Callable[[], int] = time.time_ns,
        require_store: Callable[[], None] = lambda: None,
    ) -> None:
        self.engine = engine
        self._require_store = require_store
        self.publisher = publisher
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._seen = 0

    async def load(self) -> Snapshot:
        """The whole store as the first snapshot. Once, before anything is changed or served."""
        async with self._one_at_a_time:
            async with self.engine.begin() as conn:
                await organisations.keep_default(conn, self._clock())
            async with self.read() as conn:
                seen = await changes.newest(conn)
                change = await self.publisher.prepare(conn, EVERYTHING)
            self._deliver(change, seen)
        return self.publisher.snapshot

    async def change(
        self, actor: Actor | str, verb: Callable[Concatenate[Write, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What `verb(write, ...)` returns, after its effect is durable and published. Raises ControlError and leaves
        everything as it was when the verb refuses. `actor`: who asks; a word is a part of the gateway itself."""

        self._require_store()

        async def run() -> T:
            async with self._one_at_a_time:
                async with self.engine.begin() as conn:
                    await changes.take_turn(conn)
                    result = await verb(await self._write(conn, actor), *args, **kwargs)
                    # What other boxes changed since the last look is published with it: the snapshot is one picture.
                    news = await changes.after(conn, self._seen)
                    change = await self.publisher.prepare(conn, Touched(news.names))
                self._deliver(change, news.newest)
                return result

        return await asyncio.shield(asyncio.ensure_future(run()))

    async def rehearse(
        self, actor: Actor | str, verb: Callable[Concatenate[Write, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What `change` would answer, or the ControlError that it would raise. Everything stays as it was."""
        self._require_store()
        async with self._one_at_a_time, self.engine.connect() as conn:
            transaction = await conn.begin()
            try:
                await changes.take_turn(conn)
                result = await verb(await self._write(conn, actor), *args, **kwargs)
                news = await changes.after(conn, self._seen)
                await self.publisher.prepare(conn, Touched(news.names))
            finally:
                await transaction.rollback()
        return result

    async def follow(self) -> News:
        """Publishes what was changed since this door's last look, which is what other boxes changed."""
        async with self._one_at_a_time:
            async with self.read() as conn:
                news = await changes.after(conn, self._seen)
                names = dict(news.names)
                if await kills.newest_generation(conn) != self.publisher.snapshot.generation:
                    names.setdefault("kill", set())
                change = await self.publisher.prepare(conn, Touched(names)) if names else None
            self._deliver(change, news.newest)
        return news

    async def refresh(self) -> None:
        """Publishes what changed outside the store: a price that flipped, a credential that was rotated."""
        await self._publish(OUTSIDE)

    async def renew_trust(self) -> None:
        """Publishes whose word is taken, when their keys are others."""
        await self._publish(TRUST)

    async def end_raises(self) -> None:
        """Publishes the limits whose temporary increase has ended."""
        if over := self.publisher.raises_over():
            await self._publish(Touched({"limit": over}))

    async def begin_prices(self) -> None:
        """Publishes the prices whose entry in the price book has begun."""
        if begun := self.publisher.prices_begun():
            await self._publish(Touched({"price": begun}))

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for the verbs that only look: one consistent picture, and no waiting for writers."""
        self._require_store()
        async with reading(self.engine).connect() as conn:
            yield conn

    @property
    def seen(self) -> int:
        """The number of the newest change that is published here."""
        return self._seen

    async def _write(self, conn: AsyncConnection, actor: Actor | str) -> Write:
        """Rights that were taken away since `actor` was recognised are gone: no change but this one is under way."""
        by = Actor.system(actor) if isinstance(actor, str) else actor
        if by.again is not None and await changes.moved_rights(conn, by.seen):
            by = await by.at_present(conn)
        return Write(conn, by, self._clock())

    def _deliver(self, change: Change | None, seen: int) -> None:
        self.publisher.deliver(change)
        self._seen = max(seen, self._seen)

    async def _publish(self, touched: Touched) -> None:
        async with self._one_at_a_time:
            async with self.read() as conn:
                change = await self.publisher.prepare(conn, touched)
            self.publisher.deliver(change)
