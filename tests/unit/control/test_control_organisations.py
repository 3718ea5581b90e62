"""Roles for one of several organisations, and rights that are taken away while somebody is under way."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event

from penstock.control import (
    accounts,
    audit,
    bindings,
    keys,
    kills,
    limits,
    organisations,
    projects,
    sessions,
    teams,
    tokens,
)
from penstock.control.actor import Actor, Grant
from penstock.control.paging import Page
from penstock.control.permissions import ROLES, TABLE, Role
from penstock.control.strangers import FREE, KEPT_S, WINDOW_S, Strangers
from penstock.domain.access import Scope, Tenant
from penstock.errors import Conflict, InvalidNoun, NotAllowed, NotFoundNoun
from penstock.identity.virtual_keys import digest
from penstock.store.tables.control import admin_tokens

ACME = {"organisation": "acme"}
TEAMS_OF_DEFAULT = {"teams_of": "default"}


@pytest.fixture
async def tenants(plane: Any) -> Any:
    """Two organisations, each with a team, a project, a key, a limit of its own and one of its team's."""
    await plane.seed()
    for organisation, team in (("acme", "roadrunner"), ("globex", "cypress")):
        await plane.change(organisations.create, {"name": organisation})
        await plane.change(teams.create, {"name": team, "organisation": organisation})
        await plane.change(projects.create, {"name": f"{team}-web", "team": team})
        await plane.change(keys.create, plane.pepper, {"name": f"{team}-key", "project": f"{team}-web"})
        for name, match in ((organisation, {"organisation": organisation}), (team, {"team": team})):
            limit = {"name": f"{name}-limit", "match": match, "unit": "usd", "amount": 5, "per": "day"}
            await plane.change(limits.create, limit)
    return plane


async def bound(tenants: Any, role: Role, scope: dict[str, str]) -> Actor:
    """Ada, who has that role and comes with a token."""
    await tenants.change(bindings.create, {"user": "ada", "role": role, "scope": scope})
    made = await tenants.change(tokens.create, tenants.pepper, {"name": f"of-{role}", "user": "ada"})
    return await recognised(tenants, digest(tenants.pepper, made["secret"]))


async def recognised(tenants: Any, token: str) -> Actor:
    async def again(conn: Any) -> Actor | None:
        return await tokens.bearer(conn, token, tenants.clock.now_ns)

    async with tenants.door.read() as conn:
        found = await again(conn)
    assert found is not None
    return replace(found, again=again, seen=tenants.door.seen)


async def test_a_role_for_an_organisation_covers_its_teams_and_nothing_of_another(tenants: Any) -> None:
    admin = await bound(tenants, "admin", ACME)
    reach = admin.asking_for("team.read").reach
    async with tenants.door.read() as conn:
        listed = {
            noun: [item["name"] for item in (await noun.list_page(conn, Page(), reach)).items]
            for noun in (organisations, teams, projects, keys, limits)
        }
        for noun, name in ((teams, "cypress"), (keys, "cypress-key"), (limits, "globex-limit")):
            with pytest.raises(NotFoundNoun):
                await noun.show(conn, name, reach)
        told = (await audit.list_page(conn, Page(500), reach=admin.asking_for("audit.read").reach)).items
    assert listed == {
        organisations: ["acme"],
        teams: ["roadrunner"],
        projects: ["roadrunner-web"],
        keys: ["roadrunner-key"],
        limits: ["acme-limit", "roadrunner-limit"],
    }
    assert {row["name"] for row in told if row["kind"] != "binding"} == {
        "acme",
        *(it for its in listed.values() for it in its),
    }
    assert [row["organisation"] for row in told if row["kind"] == "organisation"] == ["acme"]
    for permission in ("provider.write", "user.read", "config.write", "kill.lift", "organisation.write"):
        with pytest.raises(NotAllowed):
            admin.asking_for(permission)


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_for_the_teams_of_the_first_organisation_is_as_the_table_says_and_ends_at_the_next(
    tenants: Any, role: Role
) -> None:
    await tenants.change(teams.create, {"name": "ours"})
    grants = (await bound(tenants, role, TEAMS_OF_DEFAULT)).grants
    somebody = Actor("ada", "user", grants)
    assert grants == (Grant(role, Scope("teams_of", "default", teams=frozenset({"growth", "ours"}))),)
    for name, permission in TABLE.items():
        if role not in permission.roles or permission.about == "whole":
            with pytest.raises(NotAllowed):
                somebody.asking_for(name)
            continue
        reach = somebody.asking_for(name).reach
        assert reach.everything == (permission.about == "shared")
        if permission.about == "tenant":
            assert all(reach.covers(Tenant(team)) for team in ("growth", "ours"))
            for others in (Tenant(), Tenant("roadrunner"), Tenant(organisation="acme"), Tenant(organisation="default")):
                assert not reach.covers(others), others


async def test_whoever_has_the_teams_of_an_organisation_has_those_to_come_and_nothing_that_is_its_own(
    tenants: Any,
) -> None:
    owner = await bound(tenants, "owner", TEAMS_OF_DEFAULT)
    await tenants.change(teams.create, {"name": "newest"})
    own = {"match": {"organisation": "default"}, "unit": "usd", "amount": 5, "per": "day"}
    await tenants.change(limits.create, {"name": "of-all", **own})
    again = await recognised(tenants, await token_of(tenants))
    await tenants.door.change(again.asking_for("project.write"), projects.create, {"name": "moon", "team": "newest"})
    async with tenants.door.read() as conn:
        reach = again.asking_for("team.read").reach
        assert [it["name"] for it in (await teams.list_page(conn, Page(), reach)).items] == ["growth", "newest"]
        assert (await organisations.list_page(conn, Page(), reach)).items == []
        for noun, name in ((teams, "roadrunner"), (limits, "of-all"), (organisations, "default")):
            with pytest.raises(NotFoundNoun):
                await noun.show(conn, name, reach)
    binder, everything = again.asking_for("binding.write"), {"organisation": "default"}
    await tenants.door.change(binder, bindings.create, {"group": "g", "role": "viewer", "scope": {"team": "newest"}})
    for permission, verb, arguments in (
        ("binding.write", bindings.create, ({"group": "g", "role": "viewer", "scope": everything},)),
        ("binding.write", bindings.create, ({"group": "g", "role": "viewer", "scope": TEAMS_OF_DEFAULT},)),
        ("binding.write", bindings.create, ({"group": "g", "role": "viewer", "scope": {"team": "roadrunner"}},)),
        ("team.write", teams.create, ({"name": "more"},)),
        ("team.write", teams.update, ("growth", {"organisation": "acme"})),
        ("limit.write", limits.create, (own,)),
        ("kill.raise", kills.raise_kill, (everything, "a leak")),
    ):
        with pytest.raises((NotAllowed, InvalidNoun)):
            await tenants.door.change(again.asking_for(permission), verb, *arguments)
    assert owner.grants[0].role == "owner"
    with pytest.raises(Conflict, match="the last owner"):
        async with tenants.door.read() as conn:
            await bindings.require_owner(conn)


async def test_the_teams_of_another_organisation_are_given_by_whoever_has_that_organisation(tenants: Any) -> None:
    await tenants.change(organisations.create, {"name": "empty"})
    of_empty = {"group": "ops", "role": "operator", "scope": {"teams_of": "empty"}}
    await tenants.change(bindings.create, of_empty)
    with pytest.raises(Conflict, match="binding"):
        await tenants.change(organisations.delete, "empty")
    binder = (await bound(tenants, "admin", ACME)).asking_for("binding.write")
    given = {**of_empty, "scope": {"teams_of": "acme"}}
    made = await tenants.door.change(binder, bindings.create, given)
    assert made["scope"] == {"teams_of": "acme"}
    for scope in ({"teams_of": "globex"}, TEAMS_OF_DEFAULT):
        with pytest.raises(InvalidNoun):
            await tenants.door.change(binder, bindings.create, {**of_empty, "scope": scope})
    async with tenants.door.read() as conn:
        listed = (await bindings.list_page(conn, Page(), binder.reach)).items
    assert sorted(next(iter(it["scope"])) for it in listed) == ["organisation", "teams_of"]
    await tenants.door.change(binder, bindings.delete, made["name"])


async def test_whoever_has_an_organisation_makes_teams_in_it_and_moves_none_out_or_in(tenants: Any) -> None:
    admin = (await bound(tenants, "admin", ACME)).asking_for("team.write")
    await tenants.door.change(admin, teams.create, {"name": "coyote", "organisation": "acme"})
    again = (await recognised(tenants, await token_of(tenants))).asking_for("project.write")
    await tenants.door.change(again, projects.create, {"name": "rockets", "team": "coyote"})
    for verb, arguments, error in (
        (teams.create, ({"name": "spy", "organisation": "globex"},), InvalidNoun),
        (teams.create, ({"name": "nobodys"},), InvalidNoun),
        (teams.update, ("roadrunner", {"organisation": "globex"}), InvalidNoun),
        (teams.update, ("cypress", {"organisation": "acme"}), NotFoundNoun),
        (teams.delete, ("cypress",), NotFoundNoun),
        (projects.create, ({"name": "mole", "team": "cypress"},), InvalidNoun),
    ):
        with pytest.raises(error):
            await tenants.door.change(admin, verb, *arguments)


async def token_of(tenants: Any) -> str:
    async with tenants.door.read() as conn:
        return str((await conn.execute(admin_tokens.select())).mappings().one()["digest"])


async def test_an_organisation_is_bound_and_stopped_by_its_own_and_by_no_other(tenants: Any) -> None:
    admin = await bound(tenants, "admin", ACME)
    binder = admin.asking_for("binding.write")
    for scope in (ACME, {"team": "roadrunner"}):
        await tenants.door.change(binder, bindings.create, {"group": "ops", "role": "operator", "scope": scope})
    for scope in ({"organisation": "globex"}, {"team": "cypress"}):
        with pytest.raises(InvalidNoun):
            await tenants.door.change(binder, bindings.create, {"group": "ops", "role": "viewer", "scope": scope})
    with pytest.raises(NotAllowed):
        everything = {"group": "ops", "role": "viewer", "scope": {"organisation": "default"}}
        await tenants.door.change(binder, bindings.create, everything)
    stopper = admin.asking_for("kill.raise")
    assert await tenants.door.change(stopper, kills.raise_kill, ACME, "a leak") == 1
    for scope in ({"organisation": "globex"}, {"organisation": "default"}, {"team": "cypress"}):
        with pytest.raises(InvalidNoun):
            await tenants.door.change(stopper, kills.raise_kill, scope, "a leak")
    with pytest.raises(NotAllowed):
        await tenants.door.change(stopper, kills.raise_kill, {"all": True}, "a leak")
    async with tenants.door.read() as conn:
        assert [
            it["generation"] for it in (await kills.list_page(conn, Page(), admin.asking_for("kill.read").reach)).items
        ] == [1]
        assert len((await bindings.list_page(conn, Page(), binder.reach)).items) == 3
    with pytest.raises(Conflict, match="binding"):
        await tenants.change(organisations.delete, "acme")


async def test_limits_go_from_everything_over_the_organisation_to_the_team(tenants: Any) -> None:
    finance = (await bound(tenants, "finance", ACME)).asking_for("limit.write")
    with pytest.raises(NotAllowed, match="the whole organisation"):
        await tenants.door.change(finance, limits.update, "acme-limit", {"amount": 9})
    for name, match in (("own", ACME), ("of-team", {"team": "roadrunner"})):
        limit = {"name": name, "match": match, "unit": "usd", "amount": 1, "per": "day"}
        await tenants.door.change(finance, limits.create, limit)
        assert (await tenants.door.change(finance, limits.update, name, {"amount": 2}))["amount"] == "2"
    inner = (await bound(tenants, "operator", {"team": "roadrunner"})).grants[1:]
    of_team = Actor("bob", "user", tuple(grant._replace(role="finance") for grant in inner)).asking_for("limit.write")
    with pytest.raises(NotAllowed, match="one organisation among several"):
        await tenants.door.change(of_team, limits.update, "of-team", {"amount": 3})


async def test_an_owner_of_one_organisation_is_no_owner_of_all(tenants: Any) -> None:
    top = await tenants.change(bindings.create, {"user": "ada", "role": "owner", "scope": {"organisation": "default"}})
    await tenants.change(bindings.create, {"user": "ada", "role": "owner", "scope": ACME})
    with pytest.raises(Conflict, match="the last owner"):
        await tenants.change(bindings.delete, top["name"])


async def test_what_is_taken_away_while_a_request_is_under_way_does_not_let_it_through(tenants: Any) -> None:
    role = {"user": "ada", "role": "developer", "scope": {"project": "roadrunner-web"}}
    made = await tenants.change(bindings.create, role)
    asker = (await bound(tenants, "viewer", ACME)).asking_for("key.write")

    async def make(name: str) -> None:
        await tenants.door.change(asker, keys.create, tenants.pepper, {"name": name, "project": "roadrunner-web"})

    await make("first")
    await tenants.change(bindings.delete, made["name"])
    with pytest.raises(NotAllowed, match="no role that permits"):
        await make("without-role")
    await tenants.change(bindings.create, role)
    await make("second")
    await tenants.change(accounts.deactivate, "ada")
    with pytest.raises(NotAllowed, match="may not come in any more"):
        await make("without-token")


@pytest.fixture
def asked(tenants: Any) -> Iterator[list[str]]:
    """The statements that the database is sent."""
    engine, statements = tenants.door.engine.sync_engine, []

    def note(*about: Any) -> None:
        statements.append(about[2])

    event.listen(engine, "before_cursor_execute", note)
    yield statements
    event.remove(engine, "before_cursor_execute", note)


async def test_rights_that_nobody_touched_are_not_looked_up_again(tenants: Any, asked: list[str]) -> None:
    asker = (await bound(tenants, "developer", {"project": "roadrunner-web"})).asking_for("key.write")
    asked.clear()
    await tenants.door.change(asker, keys.revoke, "roadrunner-key")
    assert not [statement for statement in asked if "bindings" in statement]


class Seconds:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


async def test_many_strangers_cost_one_look_up_a_second_and_nobody_with_a_token_is_one(
    tenants: Any, asked: list[str]
) -> None:
    clock, pepper = Seconds(), tenants.pepper
    strangers = Strangers(tenants.door, clock)
    await bound(tenants, "viewer", ACME)
    known = await token_of(tenants)
    for _ in range(FREE):
        assert not await strangers.has("stranger")
        strangers.failed()
    asked.clear()
    for number in range(50):
        assert await strangers.has(f"stranger-{number}")
        assert not await strangers.has(known)
    assert len([it for it in asked if "UNION" in it]) == 1
    made = await tenants.change(tokens.create, pepper, {"name": "new", "user": "ada"})
    assert not await strangers.has(digest(pepper, made["secret"])), "one that was made a moment ago"
    cookie = await tenants.change(sessions.begin, pepper, "ada", "password", [])
    assert not await strangers.has(digest(pepper, cookie))
    asked.clear()
    clock.now += KEPT_S
    assert await strangers.has("stranger")
    assert len([it for it in asked if "UNION" in it]) == 1
    clock.now += WINDOW_S
    assert not await strangers.has("stranger"), "after a quiet minute they are looked up one by one again"
