"""Roles: what they permit, who may grant them, and that nobody sees or touches another tenant's objects."""

from dataclasses import replace
from typing import Any

import pytest

from penstock.control import audit, bindings, keys, kills, limits, projects, teams, tokens, users
from penstock.control.actor import ORGANISATION, Actor, Grant, reach_of
from penstock.control.paging import Page
from penstock.control.permissions import ROLES, TABLE, Role, granted
from penstock.domain.access import EVERYTHING, Reach, Scope, Tenant
from penstock.errors import Conflict, InvalidNoun, NotAllowed, NotFoundNoun
from penstock.identity.virtual_keys import digest

GROWTH, OTHER = Scope("team", "growth"), Scope("team", "other")
SEARCH, HIDDEN = Scope("project", "search", "growth"), Scope("project", "hidden", "other")
WHOLE = {"organisation": "default"}


def somebody(role: Role, scope: Scope, permission: str) -> Actor:
    """Somebody who asks for what needs `permission`."""
    return Actor("ada", "user", (Grant(role, scope),)).asking_for(permission)


@pytest.fixture
async def tenants(plane: Any) -> Any:
    """Two teams, each with a project, a key and a limit; what the second has is called after it."""
    await plane.seed()
    await plane.change(teams.create, {"name": "other"})
    await plane.change(projects.create, {"name": "hidden", "team": "other", "environment": "production"})
    for team, project in (("growth", "search"), ("other", "hidden")):
        await plane.change(keys.create, plane.pepper, {"name": f"{team}-key", "project": project})
        limit = {"name": f"{team}-limit", "match": {"team": team}, "unit": "usd", "amount": 5, "per": "day"}
        await plane.change(limits.create, limit)
    return plane


def test_what_is_not_in_the_table_is_denied_and_each_role_has_something() -> None:
    with pytest.raises(KeyError):
        reach_of((Grant("owner", ORGANISATION),), "team.paint")
    assert all(granted(role) for role in ROLES)
    assert granted("owner") == set(TABLE)


def test_an_auditor_reads_everything_and_writes_nothing() -> None:
    reads = {name for name in TABLE if name.endswith((".read", ".verify"))}
    assert granted("auditor") == reads


def test_only_owners_and_admins_lift_what_operators_and_finance_may_raise() -> None:
    assert TABLE["kill.raise"].roles == {"owner", "admin", "operator", "finance"}
    assert TABLE["kill.lift"].roles == {"owner", "admin"}


def test_a_right_reaches_as_far_as_its_bindings() -> None:
    grants = (Grant("developer", SEARCH), Grant("finance", OTHER))
    assert reach_of(grants, "key.write") == Reach(projects={"search": "growth"})
    assert reach_of(grants, "usage.read") == Reach(teams=frozenset({"other"}), projects={"search": "growth"})
    assert reach_of((*grants, Grant("viewer", ORGANISATION)), "usage.read") == EVERYTHING


def test_a_project_is_within_reach_as_far_as_it_was_its_present_teams() -> None:
    reach = Reach(teams=frozenset({"growth"}), projects={"hidden": "other"})
    assert reach.covers(Tenant("growth", "")) and reach.covers(Tenant("growth", "ads"))
    assert reach.covers(Tenant("other", "hidden"))
    assert not any(map(reach.covers, (Tenant(), Tenant("other"), Tenant("former", "hidden"), Tenant("", "hidden"))))


def test_what_is_the_organisations_own_needs_a_role_for_all_of_it() -> None:
    with pytest.raises(NotAllowed, match=r"provider\.write needs a role for the whole organisation"):
        somebody("admin", GROWTH, "provider.write")
    assert somebody("admin", ORGANISATION, "provider.write").reach == EVERYTHING
    assert somebody("developer", SEARCH, "model.read").reach == EVERYTHING


@pytest.mark.parametrize("scope", [GROWTH, SEARCH], ids=["of the team", "of the project"])
async def test_a_tenants_objects_are_all_that_is_listed_and_shown(tenants: Any, scope: Scope) -> None:
    async with tenants.door.read() as conn:
        listed = {
            noun: [item["name"] for item in (await noun.list_page(conn, Page(), reach)).items]
            for noun, permission in ((projects, "project.read"), (keys, "key.read"), (limits, "limit.read"))
            for reach in (somebody("viewer", scope, permission).reach,)
        }
        assert listed == {
            projects: ["search"],
            keys: ["growth-key"],
            limits: ["growth-limit"] if scope is GROWTH else [],
        }
        for noun, name in ((keys, "other-key"), (projects, "hidden"), (limits, "other-limit"), (teams, "other")):
            with pytest.raises(NotFoundNoun):
                await noun.show(conn, name, somebody("viewer", scope, "key.read").reach)


async def test_a_stranger_to_a_key_cannot_tell_whether_it_is_there(tenants: Any) -> None:
    dev = somebody("developer", SEARCH, "key.write")
    said = []
    for name in ("other-key", "no-such-key"):
        with pytest.raises(NotFoundNoun) as refused:
            await tenants.door.change(dev, keys.revoke, name)
        said.append(str(refused.value).replace(name, "*"))
    assert said[0] == said[1]


async def test_a_developer_makes_keys_of_its_project_and_of_no_other(tenants: Any) -> None:
    dev = somebody("developer", SEARCH, "key.write")
    made = await tenants.door.change(dev, keys.create, tenants.pepper, {"name": "mine", "project": "search"})
    assert (made["team"], made["created_by"]) == ("growth", "ada")
    for fields in ({"project": "hidden"}, {"project": "nowhere"}, {"team": "other"}, {"team": "nowhere"}):
        with pytest.raises(InvalidNoun, match=r"there is no (project|team)"):
            await tenants.door.change(dev, keys.create, tenants.pepper, {"name": "theirs", **fields})
    with pytest.raises(NotAllowed, match="name a team or project of yours"):
        await tenants.door.change(dev, keys.create, tenants.pepper, {"name": "nobodys"})
    with pytest.raises(InvalidNoun, match="there is no project"):
        await tenants.door.change(dev, keys.update, "mine", {"project": "hidden"})
    async with tenants.door.read() as conn:
        assert {item["name"] for item in (await keys.list_page(conn, Page())).items} == {
            "growth-key",
            "other-key",
            "mine",
        }


async def test_a_limit_that_was_set_over_somebodys_head_is_not_theirs_to_widen(tenants: Any) -> None:
    finance = somebody("finance", GROWTH, "limit.write")
    for verb, arguments in (
        (limits.update, ("growth-limit", {"amount": 500})),
        (limits.delete, ("growth-limit",)),
        (limits.end_raises, ("growth-limit",)),
    ):
        with pytest.raises(NotAllowed, match="was set for the whole organisation"):
            await tenants.door.change(finance, verb, *arguments)
    own = {"name": "own", "match": {"project": "search"}, "unit": "usd", "amount": 1, "per": "day"}
    await tenants.door.change(finance, limits.create, own)
    assert (await tenants.door.change(finance, limits.update, "own", {"amount": 2}))["amount"] == "2"
    inner = somebody("finance", SEARCH, "limit.write")
    with pytest.raises(NotAllowed, match="was set for the whole team"):
        await tenants.door.change(inner, limits.update, "own", {"amount": 3})
    with pytest.raises(InvalidNoun, match="there is no key 'other-key'"):
        match = {"team": "growth", "key": "other-key"}
        await tenants.door.change(finance, limits.create, {**own, "name": "spy", "match": match})
    both = {"team": "growth", "project": "search"}
    await tenants.door.change(inner, limits.create, {**own, "name": "both", "match": both})


async def test_an_operator_of_a_team_stops_that_teams_calls_and_no_others(tenants: Any) -> None:
    operator = somebody("operator", GROWTH, "kill.raise")
    for scope in ({"team": "growth"}, {"project": "search"}, {"key": "growth-key"}):
        await tenants.door.change(operator, kills.raise_kill, scope, "incident")
    for scope in ({"team": "other"}, {"project": "hidden"}, {"key": "other-key"}, {"key": "none"}):
        with pytest.raises(InvalidNoun, match="there is no"):
            await tenants.door.change(operator, kills.raise_kill, scope, "incident")
    for scope in ({"all": True}, {"user": "ada"}, {"provider": "lab"}, {"organisation": "default"}):
        with pytest.raises(NotAllowed):
            await tenants.door.change(operator, kills.raise_kill, scope, "incident")
    await tenants.change(kills.raise_kill, {"team": "other"}, "theirs")
    async with tenants.door.read() as conn:
        reach = somebody("operator", GROWTH, "kill.read").reach
        seen = (await kills.list_page(conn, Page(), reach)).items
        assert [kill["scope"] for kill in seen] == [{"key": "growth-key"}, {"project": "search"}, {"team": "growth"}]
        with pytest.raises(NotFoundNoun):
            await kills.show(conn, 4, reach)


async def test_the_audit_log_shows_a_tenant_what_became_of_its_own_objects(tenants: Any) -> None:
    await tenants.change(keys.create, tenants.pepper, {"name": "mover", "team": "growth", "tags": {"a": "b"}})
    await tenants.change(keys.update, "mover", {"team": "other"})
    async with tenants.door.read() as conn:
        of_search = await audit.list_page(conn, Page(), reach=somebody("developer", SEARCH, "audit.read").reach)
        assert {(row["kind"], row["name"]) for row in of_search.items} == {("project", "search"), ("key", "growth-key")}
        of_other = await audit.list_page(conn, Page(), reach=somebody("auditor", OTHER, "audit.read").reach)
        assert "growth" not in str([row for row in of_other.items if row["name"] != "mover"])
        assert [row for row in of_other.items if row["name"] == "mover"] == []
        everything = await audit.list_page(conn, Page())
        moved = next(row for row in everything.items if row["action"] == "update")
    assert (moved["team"], moved["actor"], moved["actor_kind"]) == ("", "tester", "system")


async def test_a_change_says_in_the_audit_log_who_made_it_and_from_where(tenants: Any) -> None:
    dev = replace(somebody("developer", SEARCH, "key.write"), address="192.0.2.7", request_id="req_1")
    await tenants.door.change(dev, keys.revoke, "growth-key")
    async with tenants.door.read() as conn:
        row = (await audit.list_page(conn, Page(1))).items[0]
    assert (row["actor"], row["actor_kind"], row["address"], row["request_id"]) == ("ada", "user", "192.0.2.7", "req_1")
    assert (row["action"], row["team"], row["project"]) == ("revoke", "growth", "search")


async def test_nobody_grants_or_takes_away_more_than_they_have(tenants: Any) -> None:
    await tenants.change(users.create, {"name": "bob"})
    of_team = somebody("admin", GROWTH, "binding.write")
    made = await tenants.door.change(
        of_team, bindings.create, {"user": "bob", "role": "developer", "scope": {"project": "search"}}
    )
    assert made["scope"] == {"project": "search"}
    beyond: list[tuple[Actor, str, dict[str, str], type[Exception]]] = [
        (of_team, "owner", {"team": "growth"}, NotAllowed),
        (of_team, "viewer", WHOLE, NotAllowed),
        (of_team, "viewer", {"team": "other"}, InvalidNoun),
        (somebody("admin", ORGANISATION, "binding.write"), "owner", WHOLE, NotAllowed),
    ]
    for actor, role, scope, error in beyond:
        with pytest.raises(error):
            await tenants.door.change(actor, bindings.create, {"user": "bob", "role": role, "scope": scope})
    with pytest.raises(Conflict, match="says already"):
        await tenants.change(bindings.create, {"user": "bob", "role": "developer", "scope": {"project": "search"}})
    top = await tenants.change(bindings.create, {"user": "ada", "role": "owner", "scope": WHOLE})
    with pytest.raises(NotAllowed, match="nobody grants more"):
        await tenants.door.change(somebody("admin", ORGANISATION, "binding.write"), bindings.delete, top["name"])


async def test_the_last_owner_stays_one(tenants: Any) -> None:
    await tenants.change(users.create, {"name": "bob"})
    first = await tenants.change(bindings.create, {"user": "ada", "role": "owner", "scope": WHOLE})
    with pytest.raises(Conflict, match="the last owner"):
        await tenants.change(bindings.delete, first["name"])
    with pytest.raises(Conflict, match="binding"):
        await tenants.change(users.delete, "ada")
    await tenants.change(bindings.create, {"user": "bob", "role": "owner", "scope": WHOLE})
    await tenants.change(bindings.delete, first["name"])


@pytest.mark.parametrize(
    "fields",
    [
        {"role": "viewer", "scope": WHOLE},
        {"user": "ada", "group": "all", "role": "viewer", "scope": WHOLE},
        {"user": "nobody", "role": "viewer", "scope": WHOLE},
        {"user": "ada", "role": "king", "scope": WHOLE},
        {"user": "ada", "role": "viewer", "scope": {}},
        {"user": "ada", "role": "viewer", "scope": {"team": "growth", "project": "search"}},
        {"user": "ada", "role": "viewer", "scope": {"team": "nowhere"}},
        {"user": "ada", "role": "viewer", "scope": {"key": "ci"}},
    ],
)
async def test_a_binding_that_makes_no_sense_is_refused(tenants: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidNoun):
        await tenants.change(bindings.create, fields)


async def test_what_a_binding_is_for_cannot_be_deleted_under_it(tenants: Any) -> None:
    await tenants.change(bindings.create, {"user": "ada", "role": "viewer", "scope": {"team": "growth"}})
    for noun, name in ((teams, "growth"), (users, "ada")):
        with pytest.raises(Conflict, match=r"binding 'bnd_"):
            await tenants.change(noun.delete, name)


async def test_a_token_has_its_users_rights_until_it_is_revoked_or_expires(tenants: Any) -> None:
    await tenants.change(users.create, {"name": "deploy", "kind": "service"})
    await tenants.change(bindings.create, {"user": "deploy", "role": "developer", "scope": {"project": "search"}})
    made = await tenants.change(tokens.create, tenants.pepper, {"name": "ci", "user": "deploy"})
    assert made["secret"].startswith("ak-") and made["prefix"] == made["secret"][:7]
    now = tenants.clock.now_ns

    async def bearer(at: int) -> Actor | None:
        async with tenants.door.read() as conn:
            return await tokens.bearer(conn, digest(tenants.pepper, made["secret"]), at)

    assert await bearer(now) == Actor("deploy", "service", (Grant("developer", SEARCH),))
    assert await bearer(now + tokens.USUAL_LIFE_NS + 10**9) is None
    async with tenants.door.read() as conn:
        assert "secret" not in await tokens.show(conn, "ci")
        assert await tokens.bearer(conn, digest(tenants.pepper, made["secret"][:-1]), now) is None
    await tenants.change(tokens.revoke, "ci")
    assert await bearer(now) is None


async def test_a_token_for_somebody_with_more_rights_is_refused(tenants: Any) -> None:
    await tenants.change(bindings.create, {"user": "ada", "role": "owner", "scope": WHOLE})
    admin = Actor("bob", "user", (Grant("admin", ORGANISATION),)).asking_for("token.write")
    for fields in ({"user": "ada"}, {"purpose": "provisioning"}):
        with pytest.raises(NotAllowed):
            await tenants.door.change(admin, tokens.create, tenants.pepper, {"name": "up", **fields})
    with pytest.raises(InvalidNoun, match="name the user"):
        await tenants.change(tokens.create, tenants.pepper, {"name": "nobodys"})
    made = await tenants.change(tokens.create, tenants.pepper, {"name": "scim", "purpose": "provisioning"})
    async with tenants.door.read() as conn:
        found = await tokens.bearer(conn, digest(tenants.pepper, made["secret"]), tenants.clock.now_ns)
    assert found == Actor("scim", "provisioning")
