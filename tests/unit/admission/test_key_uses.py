"""Which Idempotency-Keys are in use, on both databases."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.admission import key_uses
from penstock.domain.idempotency import KeyUse
from penstock.store import chunks
from penstock.store.tables.ledger import entries, journals

NOW = 1_790_000_000_000_000_000
DAY_NS = 24 * 3600 * 1_000_000_000
FIRST, AGAIN = KeyUse("key_1", "n", "body", "req_1"), KeyUse("key_1", "n", "body", "req_2")


@pytest.fixture
def engine(whole_store: AsyncEngine) -> AsyncEngine:
    return whole_store


async def _take(engine: AsyncEngine, use: KeyUse, now_ns: int = NOW, epoch: int = 1) -> KeyUse:
    async with engine.begin() as conn:
        return await key_uses.take(conn, use, epoch, now_ns)


async def _release(engine: AsyncEngine, use: KeyUse) -> None:
    async with engine.begin() as conn:
        await key_uses.release(conn, use)


async def _journal(engine: AsyncEngine, **columns: Any) -> None:
    row = {"epoch": 1, "part": 0, "position": 0, "state": "finished", "damages": 0, "opened_at": NOW}
    async with engine.begin() as conn:
        await conn.execute(insert(journals).values({**row, **columns}))


async def _hold(engine: AsyncEngine, attempt_id: str) -> None:
    row = {"step": 0, "kind": "hold", "at": NOW, "epoch": 1, "charges": b"\x90"}
    async with engine.begin() as conn:
        await conn.execute(insert(entries).values(attempt_id=attempt_id, **row))


async def test_the_first_use_counts_and_the_second_learns_of_it(engine: AsyncEngine) -> None:
    assert await _take(engine, FIRST) == FIRST
    assert await _take(engine, AGAIN) == FIRST
    assert await _take(engine, KeyUse("key_1", "n", "another", "req_3")) == FIRST


async def test_a_question_that_is_asked_again_has_the_same_answer(engine: AsyncEngine) -> None:
    assert await _take(engine, FIRST) == FIRST
    assert await _take(engine, FIRST) == FIRST


@pytest.mark.parametrize("other", [KeyUse("key_2", "n", "body", "req_2"), KeyUse("key_1", "m", "body", "req_2")])
async def test_another_virtual_key_and_another_name_are_free(engine: AsyncEngine, other: KeyUse) -> None:
    assert await _take(engine, FIRST) == FIRST
    assert await _take(engine, other) == other


async def test_what_is_released_is_free_and_only_its_user_can_release_it(engine: AsyncEngine) -> None:
    assert await _take(engine, FIRST) == FIRST
    await _release(engine, AGAIN)
    assert await _take(engine, AGAIN) == FIRST
    await _release(engine, FIRST)
    assert await _take(engine, AGAIN) == AGAIN
    await _release(engine, FIRST)
    assert await _take(engine, FIRST) == AGAIN


async def test_a_use_counts_for_a_day(engine: AsyncEngine) -> None:
    assert await _take(engine, FIRST) == FIRST
    assert await _take(engine, AGAIN, NOW + DAY_NS - 1) == FIRST
    assert await _take(engine, AGAIN, NOW + DAY_NS) == AGAIN
    assert await _take(engine, FIRST, NOW + 2 * DAY_NS - 1) == AGAIN


async def test_of_many_that_come_together_one_is_first(engine: AsyncEngine) -> None:
    uses = [KeyUse("key_1", "n", "body", f"req_{number}") for number in range(8)]
    answers = await asyncio.gather(*(_take(engine, use) for use in uses))
    assert len(set(answers)) == 1 and answers[0] in uses


async def test_a_use_of_a_dead_worker_that_had_sent_nothing_counts_no_more(engine: AsyncEngine) -> None:
    assert await _take(engine, FIRST) == FIRST
    await _journal(engine)
    await _hold(engine, "req_12:1")
    assert await _take(engine, AGAIN, epoch=2) == AGAIN
    assert await _take(engine, FIRST, epoch=2) == AGAIN


@pytest.mark.parametrize("journal", [{"state": "open"}, {"damages": 1}])
async def test_a_use_counts_where_its_journal_may_still_say_that_it_was_sent(
    engine: AsyncEngine, journal: dict[str, Any]
) -> None:
    assert await _take(engine, FIRST) == FIRST
    await _journal(engine, **journal)
    assert await _take(engine, AGAIN, epoch=2) == FIRST


async def test_a_use_of_a_dead_worker_that_had_sent_something_counts(engine: AsyncEngine) -> None:
    assert await _take(engine, FIRST) == FIRST
    await _journal(engine)
    await _hold(engine, "req_1:1")
    assert await _take(engine, AGAIN, epoch=2) == FIRST


async def test_old_uses_are_deleted_and_the_others_stay(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 2)
    for number in range(5):
        await _take(engine, KeyUse("key_1", f"old-{number}", "body", f"req_{number}"))
    await _take(engine, FIRST, NOW + 1)
    assert await key_uses.prune(engine, NOW + DAY_NS) == 5
    assert await key_uses.prune(engine, NOW + DAY_NS) == 0
    assert await _take(engine, AGAIN, NOW + DAY_NS) == FIRST
