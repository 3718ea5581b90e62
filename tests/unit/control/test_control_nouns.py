"""Teams, projects, users, providers, models: names, references, origins, pages, audit."""

from typing import Any

import pytest
from sqlalchemy import update

from penstock.control import audit, keys, limits, models, projects, providers, teams, users
from penstock.control.paging import Page
from penstock.errors import Conflict, ControlError, Declared, InvalidNoun, NotFoundNoun
from penstock.store.tables import control as tables


async def test_what_is_created_is_shown_listed_changed_and_deleted(plane: Any) -> None:
    made = await plane.change(teams.create, {"name": "growth", "required_tags": ["feature"]})
    assert made["required_tags"] == ["feature"] and made["origin"] == "api" and made["created_by"] == "tester"
    changed = await plane.change(teams.update, "growth", {"required_tags": []})
    assert changed["required_tags"] == [] and changed["updated_at"] > made["updated_at"]
    async with plane.door.read() as conn:
        assert await teams.show(conn, "growth") == changed
        assert (await teams.list_page(conn, Page())).items == [changed]
    await plane.change(teams.delete, "growth")
    async with plane.door.read() as conn:
        with pytest.raises(NotFoundNoun, match="there is no team 'growth'"):
            await teams.show(conn, "growth")


@pytest.mark.parametrize(
    ("verb", "fields", "place", "sentence"),
    [
        (teams.create, {"name": "growth"}, "name", "already"),
        (teams.create, {}, "name", "is missing"),
        (teams.create, {"name": "x", "colour": "red"}, "colour", "no such field"),
        (teams.create, {"name": "x", "required_tags": "feature"}, "required_tags", "list"),
        (teams.create, {"name": "../x"}, "name", "not a name"),
        (teams.create, {"name": 7}, "name", "text"),
        (teams.create, {"name": "x" * 129}, "name", "longer"),
        (projects.create, {"name": "p", "team": "nobody"}, "team", "there is no team 'nobody'"),
        (providers.create, {"name": "p", "kind": "river"}, "kind", "not known here"),
        (providers.create, {"name": "p", "kind": "compatible"}, "", "needs its base_url"),
        (providers.create, {"name": "p", "kind": "openai", "base_url": "file:///etc/passwd"}, "base_url", "URL"),
        (
            providers.create,
            {"name": "p", "kind": "openai", "credentials": [{"name": "main", "value": "env:HOME"}]},
            "credentials[0].value",
            "stand in the configuration file alone",
        ),
        (
            models.create,
            {"name": "m", "targets": [{"provider": "x", "model": "y"}]},
            "targets[0].provider",
            "no provider",
        ),
        (models.create, {"name": "m", "targets": []}, "", "at least one target"),
        (models.create, {"name": "nobody/*"}, "name", "no provider 'nobody'"),
        (
            models.create,
            {"name": "m", "targets": [{"provider": "lab", "model": "y"}], "price": {"input": "-1", "output": 1}},
            "price.input",
            "must not be negative",
        ),
        (
            models.create,
            {
                "name": "m",
                "targets": [{"provider": "lab", "model": "y"}],
                "price": {"input": 0.0000000001, "output": 1},
            },
            "price.input",
            "nine decimal places",
        ),
        (users.create, {"name": "a,b"}, "name", "without ','"),
    ],
)
async def test_a_broken_rule_is_refused_with_its_place(
    plane: Any, verb: Any, fields: dict[str, Any], place: str, sentence: str
) -> None:
    await plane.seed()
    published = len(plane.changes)
    with pytest.raises(ControlError, match=sentence) as refusal:
        await plane.change(verb, fields)
    assert refusal.value.place == place
    assert len(plane.changes) == published


async def test_what_is_in_use_cannot_be_deleted_and_the_refusal_names_its_users(plane: Any) -> None:
    await plane.seed()
    await plane.change(keys.create, plane.pepper, {"name": "ci", "project": "search", "user": "ada", "models": ["big"]})
    await plane.change(limits.create, {"name": "cap", "match": {"key": "ci"}, "unit": "usd", "amount": 1, "per": "day"})
    for verb, name, users_of_it in (
        (teams.delete, "growth", "project 'search', key 'ci'"),
        (projects.delete, "search", "key 'ci'"),
        (users.delete, "ada", "key 'ci'"),
        (keys.delete, "ci", "limit 'cap'"),
        (providers.delete, "lab", "model 'big', model 'lab/\\*'"),
        (models.delete, "big", "key 'ci'"),
    ):
        with pytest.raises(Conflict, match=f"is used by {users_of_it}"):
            await plane.change(verb, name)


async def test_a_model_that_takes_over_for_a_limit_cannot_be_deleted(plane: Any) -> None:
    await plane.seed()
    cap = {"name": "cap", "unit": "usd", "amount": 1, "per": "day", "on_exceeded": {"downgrade": "big"}}
    await plane.change(limits.create, cap)
    with pytest.raises(Conflict, match="model 'big' is used by limit 'cap'"):
        await plane.change(models.delete, "big")
    await plane.change(limits.update, "cap", {"on_exceeded": "refuse"})
    await plane.change(models.delete, "big")


async def test_a_long_list_of_users_is_cut(plane: Any) -> None:
    await plane.seed()
    for n in range(8):
        await plane.change(keys.create, plane.pepper, {"name": f"k{n}", "user": "ada"})
    with pytest.raises(Conflict, match="key 'k0', key 'k1', key 'k2', key 'k3', key 'k4' and others"):
        await plane.change(users.delete, "ada")


async def test_what_the_file_declares_is_changed_in_the_file_alone(plane: Any) -> None:
    await plane.seed()
    async with plane.door.engine.begin() as conn:
        await conn.execute(update(tables.teams).values(origin="file"))
    for verb, arguments in ((teams.update, ("growth", {})), (teams.delete, ("growth",))):
        with pytest.raises(Declared, match="is declared in the configuration file; change it there"):
            await plane.change(verb, *arguments)


async def test_a_name_is_for_life_and_a_project_with_keys_keeps_its_team(plane: Any) -> None:
    await plane.seed()
    with pytest.raises(InvalidNoun, match="cannot be changed"):
        await plane.change(teams.update, "growth", {"name": "sales"})
    await plane.change(teams.create, {"name": "sales"})
    moved = await plane.change(projects.update, "search", {"team": "sales"})
    assert moved["team"] == "sales"
    await plane.change(keys.create, plane.pepper, {"name": "ci", "project": "search"})
    with pytest.raises(Conflict, match="used by key 'ci'"):
        await plane.change(projects.update, "search", {"team": "growth"})


async def test_a_change_of_a_provider_keeps_what_it_does_not_name(plane: Any) -> None:
    await plane.seed()
    await plane.change(providers.update, "lab", {"timeouts": {"connect": "250ms"}})
    shown = await plane.change(providers.update, "lab", {"timeouts": {"total": "20s"}, "headers": {"x-team": "a"}})
    assert shown["timeouts"]["connect"] == "250ms" and shown["timeouts"]["total"] == "20000ms"
    assert shown["base_url"] == plane.lab_url and shown["headers"] == {"x-team": "a"}
    provider = plane.door.publisher.snapshot.providers["lab"]
    assert provider.timeouts.connect_ms == 250 and provider.timeouts.total_ms == 20_000


async def test_what_a_model_is_shown_as_can_be_sent_back(plane: Any) -> None:
    await plane.seed()
    async with plane.door.read() as conn:
        shown = await models.show(conn, "big")
    assert shown["price"] == {"input": "2.00", "output": "8"}
    own_fields = {field: shown[field] for field in ("name", "targets", "strategy", "price", "max_output")}
    assert await plane.change(models.update, "big", own_fields) == shown


async def test_pages_go_on_where_the_last_one_ended(plane: Any) -> None:
    for name in "edcba":
        await plane.change(users.create, {"name": name})
    seen, cursor = [], None
    async with plane.door.read() as conn:
        while True:
            listing = await users.list_page(conn, Page(2, cursor))
            seen.append([item["name"] for item in listing.items])
            if (cursor := listing.next) is None:
                break
    assert seen == [["a", "b"], ["c", "d"], ["e"]]
    with pytest.raises(InvalidNoun, match="1 to 500"):
        Page(0)


async def test_every_change_is_audited_with_both_pictures_and_without_secrets(plane: Any) -> None:
    await plane.seed()
    made = await plane.change(keys.create, plane.pepper, {"name": "ci", "team": "growth"})
    await plane.change(keys.update, "ci", {"user": "ada"})
    await plane.change(keys.delete, "ci")
    async with plane.door.read() as conn:
        listing = await audit.list_page(conn, Page(), kind="key", name="ci")
    assert [item["action"] for item in listing.items] == ["delete", "update", "create"]
    deleted, updated, created = listing.items
    assert created["before"] is None and created["after"]["team"] == "growth" and created["actor"] == "tester"
    assert (updated["before"]["user"], updated["after"]["user"]) == ("", "ada")
    assert deleted["after"] is None
    (put,) = plane.changes[-3].put_keys.values()
    digest = put.digest
    assert digest and digest not in str(listing.items) and made["secret"] not in str(listing.items)


async def test_a_refused_change_leaves_no_trace(plane: Any) -> None:
    async def create_and_fail(write: Any) -> None:
        await teams.create(write, {"name": "ghost"})
        raise InvalidNoun("no")

    with pytest.raises(InvalidNoun):
        await plane.change(create_and_fail)
    async with plane.door.read() as conn:
        assert (await teams.list_page(conn, Page())).items == []
        assert (await audit.list_page(conn, Page())).items == []


async def test_an_update_that_changes_nothing_is_no_change(plane: Any) -> None:
    await plane.seed()
    published = len(plane.changes)
    await plane.change(teams.update, "growth", {"required_tags": ["feature"]})
    assert len(plane.changes) == published
    async with plane.door.read() as conn:
        assert [item["action"] for item in (await audit.list_page(conn, Page(), "team")).items] == ["create"]
