"""The follower, on a real PostgreSQL: what others change comes by push, by look, and after an outage."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from penstock.app.control import follower as subject
from penstock.app.control.follower import Follower
from penstock.control import changes, teams
from penstock.control.changes import News
from penstock.control.door import Door
from penstock.control.publisher import Publisher, Sources
from penstock.domain.lease import Place
from penstock.domain.snapshot import Deployment
from penstock.store.engine import control_engine

LONG_S = 30.0


class World:
    """Two boxes' doors on one database; `here` is followed."""

    def __init__(self, here: Door, there: Door) -> None:
        self.here, self.there = here, there
        self.news: list[News] = []
        self.recalls: list[Mapping[int, tuple[Place, ...]]] = []
        self.follower = Follower(here, here.engine, self._on_news, self.recalls.append)

    async def _on_news(self, news: News) -> None:
        self.news.append(news)

    async def listeners(self) -> list[int]:
        async with self.there.engine.connect() as conn:
            found = await conn.execute(text("SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"))
            return [row.pid for row in found]


@pytest.fixture
async def world(emptied_postgres: URL) -> AsyncIterator[World]:
    engines = [control_engine(emptied_postgres) for _ in range(2)]
    doors = [Door(engine, Publisher(Sources(lambda *_: Deployment("", ""), lambda *_: ()))) for engine in engines]
    for door in doors:
        await door.load()
    yield World(*doors)
    for engine in engines:
        await engine.dispose()


@asynccontextmanager
async def following(world: World) -> AsyncIterator[list[int]]:
    """Follows for the block, from when it listens: the backends that do. The connection is gone when the block is."""
    task = asyncio.ensure_future(world.follower.keep())
    try:
        async with asyncio.timeout(LONG_S):
            while not (pids := await world.listeners()):
                await asyncio.sleep(0.01)
        yield pids
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(LONG_S):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_change_is_pushed_long_before_the_next_look(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "LOOK_S", 10 * LONG_S)
    async with following(world):
        await world.there.change("t", teams.create, {"name": "growth"})
        await until(lambda: world.news)
        assert world.news[0].names == {"team": {"growth"}}


async def test_a_change_is_seen_without_the_push(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "LOOK_S", 0.05)
    monkeypatch.setattr(subject, "LISTEN_AGAIN_S", 10 * LONG_S)
    async with following(world) as pids:
        async with world.there.engine.begin() as conn:
            for pid in pids:
                await conn.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        await world.there.change("t", teams.create, {"name": "growth"})
        await until(lambda: world.news)


async def test_only_a_look_of_the_last_two_seconds_vouches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = time.monotonic()
    monkeypatch.setattr(subject.time, "monotonic", lambda: now_s + 1.9)
    assert world.follower.is_fresh()
    monkeypatch.setattr(subject.time, "monotonic", lambda: now_s + 2.1)
    assert not world.follower.is_fresh()


async def test_what_others_lack_is_heard_and_what_cannot_be_read_is_no_harm(world: World) -> None:
    async with following(world):
        places = (Place("lim_1", 3_600, "ada", "hour"), Place("lim_2", 0, "", "sliding-minute"))
        async with world.there.engine.begin() as conn:
            await conn.execute(text(f"NOTIFY {changes.RECALLS}, 'of a later release'"))
            await changes.recall(conn, {7: places, 9: [Place("lim_1", 0, "x" * 9_000, "total")]})
        await until(lambda: len(world.recalls) == 2)
        assert world.recalls == [{7: places[:1]}, {7: places[1:]}]
