"""Idempotency-Keys between a worker and its control process: durable, in order, and released in the end."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.app import key_uses as worker
from penstock.app.control import key_uses as control
from penstock.domain.idempotency import KeyUse
from penstock.errors import StoreDown, StoreUnavailable
from penstock.store.claim import Claim


class Presence(Claim):
    """Whether the store is there, as the test says."""

    def __init__(self) -> None:
        self.is_there = True

    def require(self) -> None:
        if not self.is_there:
            raise StoreDown("the store does not answer: try again")


class Link:
    """Both ends, without the socket between them. `cut`: nothing is asked any more; `deaf`: no answer arrives."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.presence = Presence()
        self.failures: list[str] = []
        self.cut = self.deaf = False
        self.control = control.KeyUses(engine, self.presence, self.failures.append)
        self.worker = worker.KeyUses(self._ask, epoch=1)

    async def _ask(self, kind: str, *arguments: str) -> bytes | None:
        if self.cut:
            raise StoreUnavailable("away")
        value = await {"take_key": self.control.take, "release_key": self.control.release}[kind](*arguments)
        if self.deaf:
            raise StoreUnavailable("slow")
        return value


@pytest.fixture
async def link(whole_store: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Link]:
    monkeypatch.setattr(worker, "AGAIN_S", 0.01)
    link = Link(whole_store)
    keeping = asyncio.ensure_future(link.worker.keep_releasing())
    yield link
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


def _use(number: int, name: str = "n") -> KeyUse:
    return KeyUse("key_1", name, "body", f"req_{number}")


def _row(request_id: str) -> dict[str, object]:
    """The use of the same key by another request."""
    return {"key_id": "key_1", "name": "n", "content": "body", "request_id": request_id, "epoch": 1}


async def _until_free(link: Link, use: KeyUse) -> None:
    async with asyncio.timeout(10):
        while await link.worker.take(use) != use:
            await asyncio.sleep(0.01)


async def test_many_questions_at_once_share_transactions_and_each_has_its_own_answer(link: Link) -> None:
    uses = [_use(number, f"n-{number % 5}") for number in range(50)]
    answers = await asyncio.gather(*(link.worker.take(use) for use in uses))
    assert answers == [uses[number % 5] for number in range(50)]


async def test_nobody_waits_for_a_store_that_hangs_and_what_was_asked_meanwhile_does_not_count(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "ANSWERED_WITHIN_S", 0.1)
    async with link.engine.connect() as other:
        await other.execute(control.key_uses._TAKE, {**_row("other"), "taken_at": 1})
        for number in (1, 2):
            with pytest.raises(StoreUnavailable):
                await link.worker.take(_use(number))
        await other.rollback()
    monkeypatch.undo()
    await _until_free(link, _use(3))
    assert link.failures[:2] == ["idempotency"] * 2


async def test_a_release_that_comes_with_what_it_releases_does_not_overtake_it(link: Link) -> None:
    busy = asyncio.ensure_future(link.worker.take(_use(0, "busy")))
    await asyncio.sleep(0)
    first, released = await asyncio.gather(link.worker.take(_use(1)), link.worker.release(_use(1)))
    assert first == _use(1) and released is None
    await busy
    assert await link.worker.take(_use(2)) == _use(2)


async def test_a_store_that_is_away_is_told_at_once_and_later_everything_works(link: Link) -> None:
    link.presence.is_there = False
    with pytest.raises(StoreUnavailable):
        await link.worker.take(_use(1))
    link.presence.is_there = True
    assert await link.worker.take(_use(2)) == _use(2)


async def test_a_store_that_fails_is_told_counted_and_later_everything_works(link: Link) -> None:
    async with link.engine.begin() as conn:
        await conn.execute(text("ALTER TABLE idempotency_keys RENAME TO hidden"))
    with pytest.raises(StoreUnavailable):
        await link.worker.take(_use(1))
    assert link.failures == ["idempotency"]
    async with link.engine.begin() as conn:
        await conn.execute(text("ALTER TABLE hidden RENAME TO idempotency_keys"))
    assert await link.worker.take(_use(2)) == _use(2)


@pytest.mark.parametrize("fault", ["cut", "away"])
async def test_a_release_that_cannot_be_said_is_said_again(link: Link, fault: str) -> None:
    assert await link.worker.take(_use(1)) == _use(1)
    link.cut, link.presence.is_there = fault == "cut", fault != "away"
    await link.worker.release(_use(1))
    link.cut, link.presence.is_there = False, True
    await _until_free(link, _use(2))


async def test_a_use_whose_answer_was_lost_is_released_all_the_same(link: Link) -> None:
    link.deaf = True
    with pytest.raises(StoreUnavailable):
        await link.worker.take(_use(1))
    link.deaf = False
    await _until_free(link, _use(2))


async def test_a_use_that_is_cut_short_while_it_is_taken_is_released(link: Link) -> None:
    cut = asyncio.ensure_future(link.worker.take(_use(1)))
    await asyncio.sleep(0)
    cut.cancel()
    await asyncio.gather(cut, return_exceptions=True)
    await _until_free(link, _use(2))


async def test_a_release_that_is_cut_short_is_done_all_the_same(link: Link) -> None:
    assert await link.worker.take(_use(1)) == _use(1)
    cut = asyncio.ensure_future(link.worker.release(_use(1)))
    await asyncio.sleep(0)
    cut.cancel()
    await asyncio.gather(cut, return_exceptions=True)
    await _until_free(link, _use(2))


async def test_releases_that_wait_are_bounded(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MAX_OWED", 2)
    uses = [_use(number, f"n-{number}") for number in range(3)]
    for use in uses:
        assert await link.worker.take(use) == use
    link.cut = True
    for use in uses:
        await link.worker.release(use)
    link.cut = False
    for number in (1, 2):
        await _until_free(link, _use(number + 10, f"n-{number}"))
    assert await link.worker.take(_use(10, "n-0")) == uses[0]
