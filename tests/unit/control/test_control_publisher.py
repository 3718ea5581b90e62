"""The publisher: differences that add up to the whole, and a door through which changes go one at a time."""

import asyncio
import random
from typing import Any

import pytest

from penstock.control import keys, kills, limits, models, projects, providers, teams, users
from penstock.control.door import Door
from penstock.control.publisher import Publisher, Sources
from penstock.domain.snapshot import Change, Snapshot, applied
from penstock.errors import Conflict, ControlError, InvalidNoun


async def _from_the_store(plane: Any) -> Snapshot:
    """What a control process that starts now would publish."""
    publisher = Publisher(Sources(plane.resolve, plane.credentials), plane.clock)
    return await Door(plane.door.engine, publisher, plane.clock).load()


def _whole(snapshot: Snapshot) -> dict[str, Any]:
    tables = ("generation", "keys", "digests", "teams", "projects", "providers", "aliases", "limits", "kills")
    return {table: getattr(snapshot, table) for table in tables}


async def test_a_first_snapshot_holds_everything_and_follows_from_empty(plane: Any) -> None:
    await plane.seed()
    snapshot = await _from_the_store(plane)
    assert _whole(snapshot) == _whole(plane.door.publisher.snapshot)
    alias = snapshot.aliases["big"]
    assert [(it.provider, it.model) for it in alias.targets] == [("lab", "big-2025")]
    assert alias.targets[0].price is not None and alias.targets[0].price.rates["input"].base == 2_000_000_000
    assert snapshot.aliases["lab/*"].targets == ()
    assert snapshot.providers["lab"].base_url == plane.lab_url


async def test_a_change_names_only_what_differs(plane: Any) -> None:
    await plane.seed()
    await plane.change(keys.create, plane.pepper, {"name": "ci", "project": "search"})
    await plane.change(keys.create, plane.pepper, {"name": "other"})
    before = plane.door.publisher.snapshot
    await plane.change(teams.update, "growth", {"required_tags": []})
    change = plane.changes[-1]
    assert list(change.put_teams) == ["growth"]
    assert change.version == before.version + 1
    assert change == Change(change.version, change.generation, put_teams=change.put_teams), "its keys stay as they are"


async def test_a_provider_that_changes_takes_its_aliases_along(plane: Any) -> None:
    await plane.seed()
    plane.resolved.clear()
    await plane.change(providers.create, {"name": "lab2", "kind": "simulated"})
    assert plane.resolved == []
    await plane.change(providers.update, "lab", {"base_url": "http://127.0.0.1:9002/v1"})
    assert plane.resolved == ["big-2025"]
    assert plane.changes[-1].put_providers["lab"].base_url == "http://127.0.0.1:9002/v1"


async def test_a_rotated_credential_is_published_and_an_unchanged_one_is_not(plane: Any) -> None:
    await plane.seed()
    async with plane.door.engine.begin() as conn:
        await conn.exec_driver_sql("""UPDATE providers SET credentials = '["main"]'""")
    await plane.door.refresh()
    assert plane.door.publisher.snapshot.providers["lab"].credentials[0].value.reveal() == "vendor-key-one"
    published = len(plane.changes)
    await plane.door.refresh()
    assert len(plane.changes) == published
    plane.credential = "vendor-key-two"
    await plane.door.refresh()
    assert plane.changes[-1].put_providers["lab"].credentials[0].value.reveal() == "vendor-key-two"
    assert "vendor-key" not in repr(plane.changes[-1])


async def test_a_credential_never_goes_to_another_address(plane: Any) -> None:
    await plane.seed()
    async with plane.door.engine.begin() as conn:
        await conn.exec_driver_sql(
            """UPDATE providers SET credentials = '["main"]', base_url = 'http://elsewhere/v1'"""
        )
    await plane.door.refresh()
    provider = plane.door.publisher.snapshot.providers["lab"]
    assert provider.base_url == "http://elsewhere/v1" and provider.credentials == ()


async def test_versions_grow_over_a_restart(plane: Any) -> None:
    await plane.seed()
    plane.clock.now_ns += 1_000_000_000
    assert (await _from_the_store(plane)).version > plane.door.publisher.snapshot.version


async def test_an_undeclared_model_gets_a_deployment_when_its_provider_is_known(plane: Any) -> None:
    await plane.seed()
    deployment = plane.door.publisher.deployment("lab", "anything")
    assert deployment is not None and (deployment.provider, deployment.model) == ("lab", "anything")
    assert plane.door.publisher.deployment("nobody", "anything") is None


async def test_differences_add_up_to_what_the_store_says_whatever_happens(plane: Any) -> None:
    await plane.seed()
    start = plane.door.publisher.snapshot
    seen = len(plane.changes)
    dice = random.Random(7)
    lists: list[tuple[Any, ...]] = [(None,), ("big",), ("lab/x",)]

    def name(letter: str) -> str:
        return f"{letter}{dice.randrange(3)}"

    steps: list[Any] = [
        lambda: (teams.create, {"name": name("t")}),
        lambda: (teams.update, name("t"), {"required_tags": dice.choice([[], ["feature"], ["a", "b"]])}),
        lambda: (teams.delete, name("t")),
        lambda: (projects.create, {"name": name("p"), "team": name("t")}),
        lambda: (projects.update, name("p"), {"environment": dice.choice(["", "test", "live"])}),
        lambda: (projects.update, name("p"), {"team": name("t")}),
        lambda: (projects.delete, name("p")),
        lambda: (keys.create, plane.pepper, {"name": name("k"), "team": name("t")}),
        lambda: (keys.create, plane.pepper, {"name": name("k"), "project": name("p")}),
        lambda: (keys.update, name("k"), {"models": [it for it in dice.choice(lists) if it]}),
        lambda: (keys.revoke, name("k")),
        lambda: (keys.delete, name("k")),
        lambda: (models.create, {"name": name("m"), "targets": [{"provider": "lab", "model": name("v")}]}),
        lambda: (models.update, name("m"), {"max_output": dice.choice([None, 10])}),
        lambda: (models.delete, name("m")),
        lambda: (
            limits.create,
            {"name": name("l"), "match": {"team": name("t")}, "unit": "usd", "amount": 1, "per": "day"},
        ),
        lambda: (limits.update, name("l"), {"amount": dice.randrange(1, 5)}),
        lambda: (limits.delete, name("l")),
        lambda: (providers.update, "lab", {"headers": dice.choice([{}, {"x-a": "b"}])}),
        lambda: (users.create, {"name": name("u")}),
        lambda: (kills.raise_kill, dice.choice([{"all": True}, {"team": name("t")}]), "dice"),
        lambda: (kills.lift, dice.randrange(1, 6), "dice"),
    ]
    done = 0
    for _ in range(250):
        try:
            await plane.change(*dice.choice(steps)())
            done += 1
        except ControlError:
            continue
    assert done > 60
    followed = start
    for change in plane.changes[seen:]:
        assert change.version == followed.version + 1
        followed = applied(followed, change)
    assert _whole(followed) == _whole(plane.door.publisher.snapshot) == _whole(await _from_the_store(plane))


async def test_a_change_once_begun_ends_and_is_published_when_its_asker_hangs_up(plane: Any) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow_stop(write: Any) -> int:
        generation = await kills.raise_kill(write, {"all": True}, "incident")
        reached.set()
        await go_on.wait()
        return generation

    asker = asyncio.create_task(plane.change(slow_stop))
    await reached.wait()
    asker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asker
    go_on.set()
    await plane.change(teams.create, {"name": "after"})
    assert plane.door.publisher.snapshot.generation == 1


async def test_changes_at_the_same_moment_go_one_after_another(plane: Any) -> None:
    generations = await asyncio.gather(
        *(plane.change(kills.raise_kill, {"customer": f"c{n}"}, "incident") for n in range(10))
    )
    assert sorted(generations) == list(range(1, 11))
    assert [change.generation for change in plane.changes[-10:]] == list(range(1, 11))


@pytest.mark.parametrize(
    ("dates", "warn_s", "end_s"),
    [
        ({"warn_at": "2026-12-01", "end_at": "2027-03-01T12:00:00+01:00"}, 1_796_083_200, 1_803_898_800),
        ({"warn_at": "2026-12-01"}, 1_796_083_200, None),
        ({"end_at": "2027-03-01"}, "written", 1_803_859_200),
        ({"end_at": "2020-01-01"}, 1_577_836_800, 1_577_836_800),
        ({}, "written", "written"),
    ],
)
async def test_a_replacement_is_published_with_its_dates(plane: Any, dates: Any, warn_s: Any, end_s: Any) -> None:
    await plane.seed()
    old = {"name": "old", "targets": [{"provider": "lab", "model": "old-2024"}], "replaced_by": "big", **dates}
    shown = await plane.change(models.create, old)
    assert shown["replaced_by"] == "big"
    alias = plane.door.publisher.snapshot.aliases["old"]
    written = plane.clock.now_ns / 1e9
    for found, expected in ((alias.warn_at, warn_s), (alias.end_at, end_s)):
        assert found == (pytest.approx(written, abs=1) if expected == "written" else expected)


async def test_a_replacement_must_be_an_alias_and_lead_somewhere(plane: Any) -> None:
    await plane.seed()
    targets = [{"provider": "lab", "model": "old-2024"}]
    for replaced_by, sentence in (("unheard-of", "there is no model"), ("lab/any", "there is no model")):
        with pytest.raises(InvalidNoun, match=sentence):
            await plane.change(models.create, {"name": "old", "targets": targets, "replaced_by": replaced_by})
    await plane.change(models.create, {"name": "old", "targets": targets, "replaced_by": "big"})
    with pytest.raises(InvalidNoun, match="leads in a circle: big -> old -> big"):
        await plane.change(models.update, "big", {"replaced_by": "old"})
    with pytest.raises(Conflict, match="model 'big' is used by model 'old'"):
        await plane.change(models.delete, "big")
    await plane.change(models.update, "old", {"replaced_by": None})
    await plane.change(models.delete, "big")
