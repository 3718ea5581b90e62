"""What providers keep: whose it is, on both databases, and for how long that is known."""

import time

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.app.control import kept as control
from penstock.app.control.kept import KeptThings
from penstock.control.door import Door
from penstock.control.publisher import Publisher, Sources
from penstock.domain.events import UsageEvent
from penstock.domain.kept import Keeper, Kept, owner_of
from penstock.domain.snapshot import Deployment
from penstock.domain.tenancy import Principal
from penstock.errors import StoreDown
from penstock.records import kept, retention

NOW = 1_795_200_000 * 1_000_000_000


@pytest.fixture
def engine(whole_store: AsyncEngine) -> AsyncEngine:
    return whole_store


def _event(owner: str, *ids: str, provider: str = "open", at: int = NOW) -> UsageEvent:
    left = Kept(owner, ids, "main")
    return UsageEvent(
        event_id="evt", request_id="req", started_at=at, ended_at=at, provider=provider, model="m", alias="a", kept=left
    )


async def _write(engine: AsyncEngine, *events: UsageEvent) -> None:
    async with engine.begin() as conn:
        await conn.run_sync(kept.write, events)


async def _find(engine: AsyncEngine, owner: str, *ids: str, now: int = NOW) -> dict[str, Keeper]:
    async with engine.connect() as conn:
        return {each.id: each for each in await kept.find(conn, owner, ids, now)}


async def test_each_id_is_found_and_is_its_owners_alone(engine: AsyncEngine) -> None:
    await _write(engine, _event("mine", "resp_1", "msg_1"), _event("theirs", "resp_2"))
    found = await _find(engine, "mine", "resp_1", "msg_1", "resp_2", "resp_3")
    assert {id: it.is_own for id, it in found.items()} == {"resp_1": True, "msg_1": True, "resp_2": False}
    assert found["msg_1"] == Keeper("msg_1", "open", "main", "m", "a", is_own=True)


async def test_what_is_written_twice_stays_its_owners_and_what_two_are_given_is_nobodys(engine: AsyncEngine) -> None:
    for _ in range(2):
        await _write(engine, _event("mine", "resp_1"))
    assert (await _find(engine, "mine", "resp_1"))["resp_1"].is_own
    for _ in range(2):
        await _write(engine, _event("theirs", "resp_1"))
        for owner in ("mine", "theirs"):
            assert not (await _find(engine, owner, "resp_1"))["resp_1"].is_own


async def test_the_same_id_at_two_providers_is_each_owners_own(engine: AsyncEngine) -> None:
    await _write(engine, _event("mine", "resp_1"), _event("theirs", "resp_1", provider="other", at=NOW + 1))
    assert (await _find(engine, "mine", "resp_1"))["resp_1"].provider == "open"
    assert (await _find(engine, "theirs", "resp_1"))["resp_1"].provider == "other"


async def test_it_is_known_for_thirty_days_and_then_no_row_is_left(engine: AsyncEngine) -> None:
    await _write(engine, _event("mine", "resp_1"), _event("mine", "resp_2", at=NOW + 1))
    over = NOW + kept.KEPT_NS
    assert set(await _find(engine, "mine", "resp_1", "resp_2", now=over)) == {"resp_2"}
    await retention.prune(engine, over, 90)
    assert set(await _find(engine, "mine", "resp_1", "resp_2")) == {"resp_2"}


def test_the_keys_of_a_project_are_one_owner_and_keys_of_none_are_each_their_own() -> None:
    first = owner_of(Principal("k1", "a", team="growth", project="search"))
    assert first == owner_of(Principal("k2", "b", team="growth", project="search"))
    assert first != owner_of(Principal("k1", "a", team="other", project="search"))
    assert first != owner_of(Principal("k1", "a", organisation="acme", team="growth", project="search"))
    assert owner_of(Principal("k1", "a", team="growth")) != owner_of(Principal("k2", "b", team="growth"))


async def _drained() -> int:
    return 0


async def _is_away() -> int:
    raise StoreDown("away")


def _answer(engine: AsyncEngine, *, has_others: bool, is_away: bool = False) -> KeptThings:
    door = Door(engine, Publisher(Sources(lambda *_: Deployment("", ""), lambda *_: ())))
    return KeptThings(door, _is_away if is_away else _drained, has_others=has_others)


async def test_what_another_box_is_about_to_tell_is_waited_for(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused: list[float] = []

    async def pause(seconds: float) -> None:
        paused.append(seconds)
        if len(paused) == 2:
            await _write(engine, _event("mine", "resp_1", at=time.time_ns()))

    monkeypatch.setattr(control, "pause", pause)
    assert b"resp_1" in (await _answer(engine, has_others=True).find("mine", "1", "resp_1", "ws_1") or b"")
    assert len(paused) == 2
    await _answer(engine, has_others=True).find("mine", "0", "ws_1")
    await _answer(engine, has_others=False).find("mine", "1", "resp_9")
    assert len(paused) == 2


async def test_a_store_that_is_away_is_told_at_once(engine: AsyncEngine) -> None:
    assert await _answer(engine, has_others=False, is_away=True).find("mine", "1", "resp_1") is None
