"""The claim: one process is one box, and says so for as long as it lives; connections only while it is claimed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from penstock.errors import StoreDown, StoreInUse
from penstock.store import claim as claims
from penstock.store.claim import Box, Claim, RemoteClaim, claim_on, reason, take_alone
from penstock.store.engine import committer_engine, control_engine, database_url
from penstock.store.migrate import upgrade
from penstock.testing.postgres import Postgres


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("POLL_S", 0.05), ("TAKE_WITHIN_S", 0.3), ("RETAKE_WITHIN_S", 0.6), ("CONFIRMED_FOR_S", 0.4)):
        monkeypatch.setattr(claims, name, seconds)


@pytest.fixture
def url(postgres: Postgres, tmp_path: Path) -> URL:
    return database_url(postgres.url("postgres"), tmp_path)


THIS, OTHER = Box("00000000000000aa", "here-0000", "/data"), Box("00000000000000bb", "there-0000")


@pytest.fixture
async def claim(url: URL) -> AsyncIterator[Claim]:
    claim = claim_on(url, THIS)
    yield claim
    await claim.release()


async def stop(keeping: asyncio.Task[None]) -> None:
    keeping.cancel()
    await asyncio.wait([keeping])


async def end_sessions(url: URL) -> None:
    """As the server does when it is restarted; sessions of this test's own database only, and not its own."""
    engine = control_engine(url)
    async with engine.connect() as connection:
        await connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_locks "
                "WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND pid <> pg_backend_pid()"
            )
        )
    await engine.dispose()


def test_a_file_of_this_box_needs_no_claim(tmp_path: Path) -> None:
    claim = claim_on(database_url("sqlite", tmp_path), THIS)
    assert not isinstance(claim, RemoteClaim) and claim.is_confirmed()


async def test_a_second_process_is_not_the_same_box_until_the_first_one_is_gone(url: URL, claim: Claim) -> None:
    await claim.take()
    second = claim_on(url, THIS)
    with pytest.raises(StoreInUse, match="another gateway"):
        await second.take()
    await claim.release()
    await second.take()
    await second.release()


async def test_who_needs_the_database_alone_waits_for_no_box_and_no_box_comes_in(url: URL, claim: Claim) -> None:
    engine = committer_engine(url)
    with engine.begin() as connection:
        take_alone(connection)
        with pytest.raises(StoreInUse, match="to itself"):
            await claim.take()
    await claim.take()
    with pytest.raises(StoreInUse, match="stop it first"), engine.begin() as connection:
        take_alone(connection)
    engine.dispose()


async def test_a_successor_waits_for_its_predecessor_to_stop(url: URL, claim: Claim) -> None:
    await claim.take()
    second = claim_on(url, THIS)
    taking = asyncio.ensure_future(second.take())
    await asyncio.sleep(0.1)
    await claim.release()
    await taking
    await second.release()


async def test_boxes_of_other_ids_share_the_database(url: URL, claim: Claim) -> None:
    await claim.take()
    other = claim_on(url, OTHER)
    await other.take()
    await other.release()


async def test_a_release_that_wants_the_database_to_itself_and_this_one_refuse_each_other(
    url: URL, claim: Claim
) -> None:
    engine = control_engine(url)
    alone = text(f"SELECT pg_try_advisory_lock({claims._LOCK})")
    async with engine.connect() as older:
        assert await older.scalar(alone)
        with pytest.raises(StoreInUse, match="older release"):
            await claim.take()
        await older.scalar(text("SELECT pg_advisory_unlock_all()"))
        await claim.take()
        assert not await older.scalar(alone)
    await engine.dispose()


async def test_a_box_says_each_moment_that_it_lives_learns_when_it_was_given_up_and_leaves_in_order(
    postgres: Postgres, tmp_path: Path
) -> None:
    with postgres.database() as name:
        url = database_url(postgres.url(name), tmp_path)
        engine = control_engine(url)
        await upgrade(engine)
        await engine.dispose()
        claim = claim_on(url, THIS)
        await claim.take()
        await claim.register("1.2.3")
        keeping = asyncio.ensure_future(claim.keep())

        def row(columns: str) -> str:
            return postgres.run(f"SELECT {columns} FROM boxes", name)

        assert row("id, node, release, state") == "00000000000000aa|here-0000|1.2.3|live"
        first = row("seen_at")
        await asyncio.sleep(0.3)
        assert int(row("seen_at")) > int(first) and claim.is_fresh()
        postgres.run("UPDATE boxes SET state = 'lost'", name)
        await asyncio.sleep(0.5)
        assert claim.is_lost and not claim.is_fresh() and claim.is_confirmed()
        await claim.leave()
        assert row("state") == "lost"
        postgres.run("UPDATE boxes SET state = 'live'", name)
        await asyncio.sleep(0.5)
        assert not claim.is_lost
        await claim.leave()
        assert row("state") == "stopped"
        postgres.run("DELETE FROM boxes", name)
        await asyncio.sleep(0.5)
        assert row("state") == "live"
        await stop(keeping)
        await claim.release()


async def test_nothing_connects_before_the_database_is_claimed(url: URL, claim: Claim) -> None:
    engine, ledger_engine = control_engine(url), committer_engine(url)
    claim.guard(engine.sync_engine)
    claim.guard(ledger_engine)
    with pytest.raises(StoreDown):
        await engine.connect()
    with pytest.raises(StoreDown):
        ledger_engine.connect()
    await claim.take()
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    with ledger_engine.connect() as sync_connection:
        assert sync_connection.scalar(text("SELECT 1")) == 1
    await engine.dispose()
    ledger_engine.dispose()


async def test_a_lost_session_is_claimed_again(url: URL, claim: Claim) -> None:
    await claim.take()
    keeping = asyncio.ensure_future(claim.keep())
    for _ in range(2):
        await end_sessions(url)
        await asyncio.sleep(0.5)
        assert claim.is_confirmed()
        with pytest.raises(StoreInUse):
            await claim_on(url, THIS).take()
    await stop(keeping)


async def test_a_box_that_another_process_has_become_ends(url: URL, claim: Claim) -> None:
    await claim.take()
    other = claim_on(url, THIS)
    taking = asyncio.ensure_future(other.take())
    await asyncio.sleep(0.05)
    await end_sessions(url)
    await taking
    with pytest.raises(StoreInUse):
        await asyncio.wait_for(claim.keep(), 5)
    await other.release()


async def test_a_database_that_hangs_is_not_confirmed_and_is_again_when_it_goes_on(tmp_path: Path) -> None:
    with Postgres() as own:
        claim = claim_on(database_url(own.url("postgres"), tmp_path), THIS)
        await claim.take()
        keeping = asyncio.ensure_future(claim.keep())
        claim.require()
        own.freeze()
        await asyncio.sleep(0.6)
        with pytest.raises(StoreDown):
            claim.require()
        own.thaw()
        await asyncio.sleep(0.3)
        claim.require()
        await stop(keeping)
        await claim.release()


async def test_a_server_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    claim = claim_on(database_url("postgresql://u:hunter2@127.0.0.1:1/db", tmp_path), THIS)
    with pytest.raises(StoreDown) as refused:
        await claim.take()
    assert "cannot be reached" in str(refused.value) and "\n" not in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_the_reason_of_an_error_is_its_last_line() -> None:
    assert reason(ValueError("one\n  two  three\n")) == "two three"
    assert reason(ValueError()) == "ValueError"
    assert reason(ValueError("connection failed: FATAL:  no such role\nfrom file pgpass")).endswith("no such role")
