"""The follower: brings to this box what the other boxes on its database change.

It listens for their call, which comes within milliseconds, and looks once a second in any case. A pulse to the workers
may vouch for the snapshot only while a look has begun within the last two seconds. On the same connection it hears what
other boxes lack of what workers here have leased, and which credentials their providers have rejected.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.control.changes import ASIDES, CHANNEL, RECALLS, Aside, News, read_aside, read_recall
from penstock.control.door import Door
from penstock.domain.lease import Place
from penstock.errors import StoreDown
from penstock.store.claim import FRESH_FOR_S, reason

LOOK_S = 1.0
LISTEN_AGAIN_S = 1.0
_BETWEEN_LOOKS_S = 0.02

log = structlog.get_logger()


class Follower:
    """`engine`: one whose connections may be kept, to listen on. `on_news(news)` is awaited after each look that found
    something. `on_recall(recalls)`: epochs and the places that others lack of theirs. `on_aside(aside)`: what a box has
    heard of a credential, this one included."""

    def __init__(
        self,
        door: Door,
        engine: AsyncEngine,
        on_news: Callable[[News], Awaitable[None]],
        on_recall: Callable[[Mapping[int, tuple[Place, ...]]], object],
        on_aside: Callable[[Aside], None] = lambda _: None,
    ) -> None:
        self._door = door
        self._engine = engine
        self._on_news = on_news
        self._on_recall = on_recall
        self._on_aside = on_aside
        self._called = asyncio.Event()
        self._looked_at_s = time.monotonic()
        self._is_failing = False

    def is_fresh(self) -> bool:
        """Whether what others changed until two seconds ago is published here."""
        return time.monotonic() - self._looked_at_s < FRESH_FOR_S

    async def keep(self) -> None:
        """Follows for as long as the process runs."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._look())

    async def _look(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._called.wait(), LOOK_S)
            self._called.clear()
            began_s = time.monotonic()
            try:
                news = await self._door.follow()
                self._looked_at_s, self._is_failing = began_s, False
                if news.names:
                    await self._on_news(news)
            except (SQLAlchemyError, StoreDown) as error:
                if not self._is_failing:
                    log.warning("what other boxes change cannot be seen", reason=reason(error))
                self._is_failing = True
            # Whatever else is called out in this moment is seen by the same look.
            await asyncio.sleep(_BETWEEN_LOOKS_S)

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(SQLAlchemyError, StoreDown, self._engine.dialect.loaded_dbapi.Error):
                await self._hear_calls()
            await asyncio.sleep(LISTEN_AGAIN_S)

    async def _hear_calls(self) -> None:
        """Returns or raises when the connection is gone; the looks go on without it."""
        async with self._engine.execution_options(isolation_level="AUTOCOMMIT").connect() as conn:
            for channel in (CHANNEL, RECALLS, ASIDES):
                await conn.execute(text(f"LISTEN {channel}"))
            driver: Any = (await conn.get_raw_connection()).driver_connection
            self._called.set()
            try:
                async for heard in driver.notifies():
                    self._hear(heard.channel, heard.payload)
            finally:
                # One that listens must not go back to those who do not, and a broken one cannot be tidied up.
                await conn.invalidate()

    def _hear(self, channel: str, payload: str) -> None:
        if channel == CHANNEL:
            self._called.set()
            return
        try:
            if channel == ASIDES:
                self._on_aside(read_aside(payload))
            else:
                self._on_recall(read_recall(payload))
        except msgspec.MsgspecError:
            log.warning("what another box calls out cannot be read; it may be of a later release", channel=channel)
