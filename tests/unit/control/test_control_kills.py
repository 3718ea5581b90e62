"""Kills: generations, scopes, lifting."""

from typing import Any

import pytest
from sqlalchemy import update

from penstock.control import audit, keys, kills
from penstock.control.paging import Page
from penstock.domain.snapshot import Kill
from penstock.errors import Conflict, InvalidNoun, NotFoundNoun
from penstock.store.tables import control as tables


async def test_generations_grow_and_are_never_reused(plane: Any) -> None:
    await plane.seed()
    assert await plane.change(kills.raise_kill, {"team": "growth"}, "incident") == 1
    assert await plane.change(kills.raise_kill, {"all": True}, "worse") == 2
    async with plane.door.engine.begin() as conn:
        await conn.execute(tables.kills.delete())
    assert await plane.change(kills.raise_kill, {"all": True}, "again") == 3


@pytest.mark.parametrize(
    ("scope", "dimensions"),
    [
        ({"all": True}, {"all": "true"}),
        ({"team": "growth"}, {"team": "growth"}),
        ({"project": "search"}, {"project": "search"}),
        ({"key": "ci"}, {"key": "ci"}),
        ({"user": "ada"}, {"user": "ada"}),
        ({"customer": "acme"}, {"customer": "acme"}),
        ({"tag": "feature=a=b"}, {"tag:feature": "a=b"}),
        ({"provider": "lab"}, {"provider": "lab"}),
        ({"model": "big"}, {"model": "big"}),
        ({"model": "lab/undeclared"}, {"model": "lab/undeclared"}),
        ({"organisation": "default"}, {"organisation": "default"}),
    ],
)
async def test_a_kill_is_durable_published_and_listed_when_it_returns(
    plane: Any, scope: dict[str, Any], dimensions: dict[str, str]
) -> None:
    await plane.seed()
    await plane.change(keys.create, plane.pepper, {"name": "ci"})
    generation = await plane.change(kills.raise_kill, scope, " incident ")
    snapshot = plane.door.publisher.snapshot
    assert snapshot.generation == generation == plane.changes[-1].generation
    assert snapshot.kills == {generation: Kill(generation, dimensions, "incident")}
    async with plane.door.read() as conn:
        (item,) = (await kills.list_page(conn, Page())).items
        (row,) = (await audit.list_page(conn, Page(), "kill")).items
    assert item.keys() >= {"generation", "scope", "reason", "by", "at", "lifted_at"}
    assert (item["scope"], item["reason"], item["by"], item["lifted_at"]) == (scope, "incident", "tester", None)
    assert row["action"] == "raise" and row["after"] == item


async def test_a_key_can_be_named_by_its_id(plane: Any) -> None:
    made = await plane.change(keys.create, plane.pepper, {"name": "ci"})
    generation = await plane.change(kills.raise_kill, {"key": made["id"]}, "leaked")
    assert plane.door.publisher.snapshot.kills[generation].scope == {"key": "ci"}


async def test_what_the_file_declares_can_be_killed(plane: Any) -> None:
    await plane.seed()
    async with plane.door.engine.begin() as conn:
        await conn.execute(update(tables.teams).values(origin="file"))
    assert await plane.change(kills.raise_kill, {"team": "growth"}, "incident") == 1


@pytest.mark.parametrize(
    ("scope", "place"),
    [
        ({}, "scope"),
        ({"team": "growth", "key": "ci"}, "scope"),
        ({"colour": "red"}, "scope"),
        ({"all": False}, "scope.all"),
        ({"all": "yes"}, "scope.all"),
        ({"team": "grwth"}, "scope.team"),
        ({"team": 7}, "scope.team"),
        ({"key": "nothing"}, "scope.key"),
        ({"model": "lab/*"}, "scope.model"),
        ({"tag": "feature"}, "scope.tag"),
        ({"customer": ""}, "scope.customer"),
        ({"customer": "a\x00b"}, "scope.customer"),
        ({"customer": "a" * 600}, "scope.customer"),
        ({"organisation": "acme"}, "scope.organisation"),
    ],
)
async def test_a_scope_that_stops_nothing_is_refused(plane: Any, scope: dict[str, Any], place: str) -> None:
    await plane.seed()
    with pytest.raises(InvalidNoun) as refusal:
        await plane.change(kills.raise_kill, scope, "incident")
    assert refusal.value.place == place


@pytest.mark.parametrize("reason", ["", "  ", "a" * 1_001])
async def test_a_kill_says_why(plane: Any, reason: str) -> None:
    with pytest.raises(InvalidNoun, match="say why"):
        await plane.change(kills.raise_kill, {"all": True}, reason)


async def test_a_lifted_kill_is_out_of_force_and_keeps_its_generation(plane: Any) -> None:
    first = await plane.change(kills.raise_kill, {"all": True}, "incident")
    second = await plane.change(kills.raise_kill, {"customer": "acme"}, "abuse")
    lifted = await plane.change(kills.lift, first, "over")
    assert (lifted["lifted_by"], lifted["lift_reason"]) == ("tester", "over") and lifted["lifted_at"]
    snapshot = plane.door.publisher.snapshot
    assert snapshot.kills.keys() == {second} and snapshot.generation == second
    assert plane.changes[-1].drop_kills == (first,)
    with pytest.raises(Conflict, match="lifted already"):
        await plane.change(kills.lift, first, "again")
    with pytest.raises(NotFoundNoun):
        await plane.change(kills.lift, 99, "what")
    with pytest.raises(InvalidNoun, match="say why"):
        await plane.change(kills.lift, second, " ")
