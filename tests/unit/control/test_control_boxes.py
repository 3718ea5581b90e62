"""Boxes on one database: one order of changes, one roll of workers, and the money of a box that is lost."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from penstock.config.loading import load
from penstock.control import adjustments, declared, installation, kills, limits, lost, roll, teams
from penstock.control.adjustments import Correction
from penstock.control.door import Door
from penstock.control.publisher import Publisher, Sources
from penstock.control.roll import Confirmed, Report
from penstock.domain.snapshot import Deployment, Secret
from penstock.errors import ConfigError
from penstock.identity.secret import Root, pepper
from penstock.ledger.adjustments import newest
from penstock.ledger.postings import held_records
from penstock.ledger.verify import check
from penstock.store.engine import committer_engine, control_engine

ROOT = Root(Secret("a root secret for tests"))
PEPPER = pepper("a root secret for tests")
HERE, THERE = "00000000000000aa", "00000000000000bb"

MakeDoor = Callable[[], Any]


@pytest.fixture
async def open_door(emptied_postgres: URL) -> AsyncIterator[MakeDoor]:
    """Each door is a box's own: an engine, a publisher and a snapshot of its own."""
    engines = []

    async def make() -> Door:
        engine = control_engine(emptied_postgres)
        engines.append(engine)
        door = Door(engine, Publisher(Sources(lambda *_: Deployment("", ""), lambda *_: ())))
        await door.load()
        return door

    yield make
    for engine in engines:
        await engine.dispose()


def world(door: Door) -> tuple[Any, ...]:
    snapshot = door.publisher.snapshot
    return snapshot.limits, snapshot.kills, snapshot.keys, snapshot.generation


async def run(door: Door, statement: str) -> Any:
    async with door.engine.begin() as conn:
        return await conn.execute(text(statement))


async def scalar(door: Door, statement: str) -> Any:
    return (await run(door, statement)).scalar()


LIMIT = {"match": {"team": "growth"}, "unit": "requests", "per": "day"}


async def test_what_another_box_changed_is_published_when_it_is_followed_and_with_the_next_change(
    open_door: MakeDoor,
) -> None:
    here, there = await open_door(), await open_door()
    await here.change("t", teams.create, {"name": "growth"})
    await here.change("t", limits.create, {**LIMIT, "name": "first", "amount": 5})
    assert not there.publisher.snapshot.limits
    news = await there.follow()
    assert news.names == {"team": {"growth"}, "limit": {"first"}} and world(here) == world(there)
    before = there.publisher.snapshot.version
    assert (await there.follow()).names == {} and there.publisher.snapshot.version == before
    await there.change("t", limits.update, "first", {"amount": 3})
    await here.change("t", kills.raise_kill, {"team": "growth"}, "a drill")
    assert [limit.amount for limit in here.publisher.snapshot.limits.values()] == [3]
    assert world(here) != world(there)
    await there.follow()
    assert world(here) == world(there) and there.publisher.snapshot.generation == 1


async def test_nothing_is_missed_however_the_changes_of_boxes_come_together(open_door: MakeDoor) -> None:
    doors = [await open_door() for _ in range(3)]
    watcher = await open_door()
    await doors[0].change("t", teams.create, {"name": "growth"})
    done = asyncio.Event()

    async def make(door: Door, box: int) -> None:
        for number in range(12):
            await door.change("t", limits.create, {**LIMIT, "name": f"limit-{box}-{number}", "amount": 5})

    async def watch() -> None:
        while not done.is_set():
            await watcher.follow()

    watching = asyncio.ensure_future(watch())
    await asyncio.gather(*(make(door, box) for box, door in enumerate(doors)))
    done.set()
    await watching
    for door in (*doors, watcher):
        await door.follow()
    assert len(watcher.publisher.snapshot.limits) == 36
    assert all(world(door) == world(watcher) for door in doors)


async def test_a_box_that_stands_still_in_a_change_holds_the_others_up_for_a_bounded_time(open_door: MakeDoor) -> None:
    door = await open_door()

    async def look(write: Any) -> tuple[str, str]:
        asked = "SELECT current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')"
        row = (await write.conn.execute(text(asked))).one()
        return row[0], row[1]

    assert await door.change("t", look) == ("30s", "15s")
    assert await scalar(door, "SELECT current_setting('lock_timeout')") == "0"


async def test_a_file_that_two_boxes_bring_at_once_is_applied_once(
    open_door: MakeDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI_KEY", "pk-" + "c" * 40)
    path = tmp_path / "penstock.yaml"
    path.write_text("teams: [{name: growth}]\nkeys: [{name: ci, team: growth, secret: env:CI_KEY}]\n")
    config = load(path, require_secrets=True)
    doors = [await open_door() for _ in range(3)]
    applied = await asyncio.gather(
        *(
            door.change(declared.ACTOR, declared.apply, PEPPER, config, f"box-{number}")
            for number, door in enumerate(doors)
        )
    )
    assert sorted(each.new_version for each in applied) == [False, False, True]
    for door in doors:
        await door.follow()
        assert len(door.publisher.snapshot.keys) == 1


async def test_adjustments_of_all_boxes_are_numbered_without_a_gap(open_door: MakeDoor) -> None:
    doors = [await open_door() for _ in range(2)]
    await doors[0].change("t", teams.create, {"name": "growth"})
    await doors[0].change("t", limits.create, {**LIMIT, "name": "calls", "amount": 500})
    made = await asyncio.gather(
        *(door.change("t", adjustments.adjust, Correction("calls", 1, "a test")) for door in doors for _ in range(10))
    )
    assert sorted(adjustment.number for adjustment, _ in made) == list(range(1, 21))
    assert sorted(shown["settled"] for _, shown in made) == list(range(1, 21))


async def test_every_start_must_bring_the_same_root_secret(whole_store_url: URL) -> None:
    engine = control_engine(whole_store_url)
    for _ in range(2):
        async with engine.begin() as conn:
            assert (await installation.agree(conn, ROOT)).pepper == PEPPER
    with pytest.raises(ConfigError, match="PENSTOCK_SECRET"):
        async with engine.begin() as conn:
            await installation.agree(conn, Root(Secret("another root secret")))
    async with engine.begin() as conn:
        await installation.agree(conn, ROOT)
        kept = (await conn.execute(text("SELECT value FROM installation"))).scalar_one()
    await engine.dispose()
    assert len(kept) == 64 and kept != PEPPER.hex()


async def enter(door: Door, box: str, node: str, state: str = "live", silent_s: int = 0) -> None:
    seen = f"extract(epoch FROM now() - interval '{silent_s} s')::bigint * 1000000000"
    await run(
        door,
        "INSERT INTO boxes (id, node, release, state, started_at, seen_at) "
        f"VALUES ('{box}', '{node}', '1', '{state}', 0, {seen})",
    )


async def test_a_kill_is_shown_for_the_workers_of_the_other_boxes(open_door: MakeDoor) -> None:
    door = await open_door()
    for box, node, state, silent_s in (
        (HERE, "here", "live", 0),
        (THERE, "there", "live", 0),
        ("c", "silent", "live", 60),
        ("d", "lost", "lost", 0),
        ("e", "stopped", "stopped", 0),
    ):
        await enter(door, box, node, state, silent_s)
        async with door.engine.begin() as conn:
            await roll.say(
                conn,
                box,
                [Report(f"{node}/0", True, (Confirmed(3, 1, 2), Confirmed(5, 2, 0))), Report(f"{node}/1", False)],
            )
            await roll.say(conn, box, [Report(f"{node}/0", True, (Confirmed(5, 2, 4),))])

    async def states(generation: int) -> dict[str, tuple[str, int]]:
        async with door.read() as conn:
            nodes = await roll.obeying(conn, generation, HERE)
        return {it["node"]: (it["state"], it["streams_cut"]) for it in nodes}

    confirmed, missing = ("confirmed", 4), ("unreachable", 0)
    assert await states(4) == {
        "there/0": confirmed,
        "there/1": missing,
        "silent/0": confirmed,
        "silent/1": missing,
        "lost/0": confirmed,
        "lost/1": missing,
    }
    assert (await states(3))["there/0"] == ("confirmed", 2)
    later = await states(6)
    assert (later["there/0"], later["silent/0"], later["lost/0"]) == (("pending", 0), missing, missing)
    async with door.engine.begin() as conn:
        await roll.forget_workers(conn, THERE)
    assert "there/0" not in await states(6)


async def test_what_is_old_is_forgotten_and_what_is_not_is_kept(open_door: MakeDoor) -> None:
    door = await open_door()
    long_ago_s = 40 * 86_400
    for box, state in (("a", "stopped"), ("b", "lost"), ("c", "live")):
        await enter(door, box, f"box-{box}", state, long_ago_s)
        async with door.engine.begin() as conn:
            await roll.say(conn, box, [Report(f"box-{box}/0", True, (Confirmed(1, 1, 0), Confirmed(900, 1, 0)))])
    await run(door, "INSERT INTO kills (generation, scope, reason, by, at) VALUES (1000, '{}', '', '', 0)")
    async with door.engine.begin() as conn:
        await roll.prune(conn)
        known = await roll.boxes(conn)
    assert [(box.id, box.state) for box in known] == [("b", "lost"), ("c", "live")]
    assert known[0].silent_s > long_ago_s - 10
    rows = (await run(door, "SELECT node, generation FROM confirmations ORDER BY node")).all()
    assert [tuple(row) for row in rows] == [("box-b/0", 900), ("box-c/0", 900)]


async def test_a_lost_box_is_charged_once_with_what_it_had_leased_and_gets_it_back_when_it_returns(
    open_door: MakeDoor, emptied_postgres: URL
) -> None:
    door = await open_door()
    await door.change("t", teams.create, {"name": "growth"})
    for name, per, more in (
        ("fixed", "day", {}),
        ("slides", "hour", {"window": "sliding"}),
        ("short", "minute", {}),
        ("total", "total", {}),
        ("at-once", "total", {"unit": "concurrent"}),
    ):
        asked = {**LIMIT, "per": per, "name": name, "amount": 1_000, **more}
        if name == "at-once":
            del asked["per"]
        await door.change("t", limits.create, asked)
    await enter(door, HERE, "here")
    await enter(door, THERE, "there", "live", 60)
    for epoch, box in ((1, HERE), (2, THERE), (3, THERE)):
        await run(
            door,
            "INSERT INTO journals (epoch, part, position, state, damages, opened_at, box) "
            f"VALUES ({epoch}, 0, 0, 'open', 0, 0, '{box}')",
        )
        for name, per, start in (
            ("fixed", "day", 86_400),
            ("slides", "sliding-hour", 0),
            ("short", "minute", 0),
            ("total", "total", 0),
            ("at-once", "total", 0),
        ):
            await run(
                door,
                "INSERT INTO leases (limit_id, window_start, value, per, epoch, granted, posted, since) "
                f"SELECT id, {start}, '', '{per}', {epoch}, 100, 30, 0 FROM limits WHERE name = '{name}'",
            )
    assert await door.change(lost.LOST, lost.give_up, HERE, 10.0) is None
    assert await door.change(lost.LOST, lost.give_up, THERE, 3_600.0) is None
    assert await door.change(lost.LOST, lost.give_up, THERE, 10.0) == 3
    assert await door.change(lost.LOST, lost.give_up, THERE, 10.0) is None
    settled = "SELECT name, settled FROM balances JOIN limits ON limits.id = limit_id ORDER BY name"
    charged = [("fixed", 140), ("slides", 140), ("total", 140)]
    assert [tuple(row) for row in (await run(door, settled)).all()] == charged
    assert await scalar(door, "SELECT count(*) FROM leases WHERE epoch > 1 AND until_s IS NULL") == 0
    assert await scalar(door, "SELECT count(*) FROM leases WHERE epoch = 1") == 5
    assert await scalar(door, "SELECT string_agg(state, ' ' ORDER BY epoch) FROM journals") == "open lost lost"

    assert await door.change(lost.RETURNED, lost.take_back, THERE) == 3
    assert await door.change(lost.RETURNED, lost.take_back, THERE) == 0
    assert [tuple(row)[1] for row in (await run(door, settled)).all()] == [0, 0, 0]
    assert await scalar(door, f"SELECT state FROM boxes WHERE id = '{THERE}'") == "live"
    async with door.read() as conn:
        assert await conn.run_sync(newest) == 6
        shown = (await adjustments.list_page(conn, adjustments.Page())).items
    assert {(it["actor"], it["amount"]) for it in shown} == {("system:box-lost", 140), ("system:box-returned", -140)}
    engine = committer_engine(emptied_postgres)
    faults = [fault for fault in check(engine, None).faults if fault.kind != "lease_differs"]
    engine.dispose()
    assert faults == [], "but that the leases of this test were spent by nobody"


async def test_what_a_lost_box_held_is_not_counted_beside_what_it_is_charged_with(open_door: MakeDoor) -> None:
    door = await open_door()
    await enter(door, THERE, "there", "live", 60)
    await run(
        door,
        "INSERT INTO journals (epoch, part, position, state, damages, opened_at, box) "
        f"VALUES (2, 0, 0, 'open', 0, 0, '{THERE}')",
    )
    await run(door, "INSERT INTO open_holds (attempt_id, epoch, record) VALUES ('req_a:1', 2, 'x')")

    async def held() -> int:
        async with door.read() as conn:
            return len(await conn.run_sync(held_records))

    assert await held() == 1
    assert await door.change(lost.LOST, lost.give_up, THERE, 10.0) == 0
    assert await held() == 0
