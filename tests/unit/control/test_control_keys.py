"""Virtual keys in the control plane: the secret is shown once, everything else obeys the rules."""

from typing import Any

import pytest

from penstock.control import keys, projects, teams
from penstock.errors import Conflict, InvalidNoun
from penstock.identity import virtual_keys


async def test_a_secret_is_shown_once_and_only_its_digest_is_kept(plane: Any) -> None:
    await plane.seed()
    made = await plane.change(
        keys.create, plane.pepper, {"name": "ci", "project": "search", "tags": {"feature": "search"}}
    )
    assert virtual_keys.has_valid_checksum(made["secret"]) and made["prefix"] == made["secret"][:7]
    assert made["team"] == "growth", "the team is the project's"
    async with plane.door.read() as conn:
        assert await keys.show(conn, "ci") == {**{k: v for k, v in made.items() if k != "secret"}}
        assert await keys.show(conn, made["id"]) == await keys.show(conn, "ci")
        dump = str((await conn.exec_driver_sql("SELECT * FROM keys")).all())
    assert made["secret"] not in dump
    published = plane.door.publisher.snapshot.keys[virtual_keys.digest(plane.pepper, made["secret"])]
    assert (published.name, published.team, published.environment) == ("ci", "growth", "production")
    assert published.required_tags == ("feature",) and published.tags == {"feature": "search"}


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"team": "nobody"}, "team"),
        ({"project": "nothing"}, "project"),
        ({"user": "nobody"}, "user"),
        ({"project": "search", "team": "other"}, "project"),
        ({"models": ["big", "small"]}, "models[1]"),
        ({"models": ["big", "big"]}, "models"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2222-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2030-01-01T00:00:00"}, "expires_at"),
        ({"expires_at": 1}, "expires_at"),
        ({"secret": "pk-" + "a" * 40}, "secret"),
        ({"digest": "a" * 64}, "digest"),
        ({"tags": {f"t{n}": "x" for n in range(65)}}, "tags"),
    ],
)
async def test_a_key_that_breaks_a_rule_is_refused_with_its_place(
    plane: Any, fields: dict[str, Any], place: str
) -> None:
    await plane.seed()
    await plane.change(teams.create, {"name": "other"})
    with pytest.raises(InvalidNoun) as refusal:
        await plane.change(keys.create, plane.pepper, {"name": "ci", **fields})
    assert refusal.value.place == place


async def test_a_wildcard_lets_a_key_name_undeclared_models_and_patterns(plane: Any) -> None:
    await plane.seed()
    made = await plane.change(keys.create, plane.pepper, {"name": "ci", "models": ["lab/*", "lab/anything", "big"]})
    assert made["models"] == ["lab/*", "lab/anything", "big"]


async def test_a_revoked_key_stays_listed_and_stays_revoked(plane: Any) -> None:
    made = await plane.change(keys.create, plane.pepper, {"name": "ci"})
    revoked = await plane.change(keys.revoke, "ci")
    assert revoked["revoked_at"] is not None
    assert await plane.change(keys.revoke, "ci") == revoked
    published = plane.door.publisher.snapshot.keys[virtual_keys.digest(plane.pepper, made["secret"])]
    assert published.revoked_at == pytest.approx(plane.clock.now_ns / 1e9, abs=1)


async def test_expiry_is_kept_to_the_microsecond_and_can_be_taken_away(plane: Any) -> None:
    made = await plane.change(
        keys.create, plane.pepper, {"name": "ci", "expires_at": "2030-01-01T01:00:00.000001+01:00"}
    )
    assert made["expires_at"] == "2030-01-01T00:00:00.000001Z"
    changed = await plane.change(keys.update, "ci", {"expires_at": None})
    assert changed["expires_at"] is None


async def test_a_key_that_moves_to_a_project_takes_its_team(plane: Any) -> None:
    await plane.seed()
    await plane.change(teams.create, {"name": "other"})
    await plane.change(projects.create, {"name": "billing", "team": "other"})
    await plane.change(keys.create, plane.pepper, {"name": "ci", "project": "search"})
    assert (await plane.change(keys.update, "ci", {"project": "billing"}))["team"] == "other"
    left = await plane.change(keys.update, "ci", {"project": ""})
    assert (left["team"], left["project"]) == ("other", "")


async def test_an_expired_key_can_still_be_changed_in_what_is_not_its_expiry(plane: Any) -> None:
    await plane.seed()
    await plane.change(keys.create, plane.pepper, {"name": "ci", "expires_at": "2030-01-01T00:00:00Z"})
    plane.clock.now_ns = 2_000_000_000 * 10**9
    assert (await plane.change(keys.update, "ci", {"team": "growth"}))["team"] == "growth"


async def test_two_keys_never_share_a_secret(plane: Any) -> None:
    made = await plane.change(keys.create, plane.pepper, {"name": "one"})
    with pytest.raises(Conflict, match="key 'one' has this secret already"):
        await plane.change(keys.add, plane.pepper, keys.Key(name="two"), made["secret"])
