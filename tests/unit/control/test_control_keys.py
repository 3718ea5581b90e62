"""Virtual keys in the control plane: the secret is shown once, everything else obeys the rules."""

from typing import Any

import pytest

from penstock.control import key_activity, keys, projects, teams
from penstock.errors import Conflict, InvalidNoun
from penstock.identity import virtual_keys
from penstock.identity.authenticate import principal_of
from penstock.records.receipts import rfc3339


async def test_a_secret_is_shown_once_and_only_its_digest_is_kept(plane: Any) -> None:
    await plane.seed()
    made = await plane.change(
        keys.create, plane.pepper, {"name": "ci", "project": "search", "tags": {"feature": "search"}}
    )
    assert virtual_keys.has_valid_checksum(made["secret"]) and made["prefix"] == made["secret"][:7]
    assert made["team"] == "growth", "the team is the project's"
    async with plane.door.read() as conn:
        shown = {k: v for k, v in made.items() if k != "secret"} | {"last_used_at": None}
        assert await keys.show(conn, "ci") == shown
        assert await keys.show(conn, made["id"]) == await keys.show(conn, "ci")
        dump = str((await conn.exec_driver_sql("SELECT * FROM keys")).all())
    assert made["secret"] not in dump
    snapshot = plane.door.publisher.snapshot
    assert snapshot.digests[virtual_keys.digest(plane.pepper, made["secret"])] == "ci"
    published = principal_of(snapshot, snapshot.keys["ci"], 0)
    assert (published.key, published.team, published.environment) == ("ci", "growth", "production")
    assert published.required_tags == ("feature",) and published.rights[0].tags == {"feature": "search"}


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
        ({"allowed_tags": {f"t{n}": ["x"] for n in range(65)}}, "allowed_tags"),
        ({"allowed_tags": {"feature": []}}, "allowed_tags.feature"),
        ({"tags": {"feature": "mail"}, "allowed_tags": {"feature": ["search"]}}, ""),
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
    published = plane.door.publisher.snapshot.keys[made["name"]]
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


async def test_a_key_has_what_the_key_above_it_has(plane: Any) -> None:
    await plane.seed()
    await plane.change(keys.create, plane.pepper, {"name": "top", "project": "search", "user": "ada"})
    made = await plane.change(keys.create, plane.pepper, {"name": "below", "parent": "top"})
    assert (made["team"], made["project"], made["user"], made["parent"]) == ("growth", "search", "ada", "top")
    snapshot = plane.door.publisher.snapshot
    assert principal_of(snapshot, snapshot.keys["below"], 0).ancestors == ("top",)


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"parent": "nobody"}, "parent"),
        ({"parent": "below"}, "parent"),
        ({"parent": "top", "team": "other"}, "team"),
        ({"parent": "top", "models": ["lab/x"]}, "models[0]"),
        ({"parent": "top", "surfaces": ["embeddings"]}, "surfaces[0]"),
        ({"parent": "top", "allowed_cidrs": ["10.0.0.0/7"]}, "allowed_cidrs[0]"),
        ({"parent": "top", "tags": {"feature": "b"}}, "tags.feature"),
        ({"parent": "top", "expires_at": "2032-01-01T00:00:00Z"}, "expires_at"),
        ({"allowed_cidrs": ["10.0.0.1/8"]}, "allowed_cidrs[0]"),
        ({"surfaces": ["telepathy"]}, "surfaces[0]"),
    ],
)
async def test_a_key_that_asks_for_more_than_its_parent_has_is_refused(
    plane: Any, fields: dict[str, Any], place: str
) -> None:
    await plane.seed()
    await plane.change(teams.create, {"name": "other"})
    top = {
        "name": "top",
        "team": "growth",
        "models": ["big"],
        "surfaces": ["chat.completions"],
        "allowed_cidrs": ["10.0.0.0/8"],
        "tags": {"feature": "a"},
        "expires_at": "2031-01-01T00:00:00Z",
    }
    await plane.change(keys.create, plane.pepper, top)
    with pytest.raises(InvalidNoun) as refusal:
        await plane.change(keys.create, plane.pepper, {"name": "below", **fields})
    assert refusal.value.place == place


async def test_a_key_above_others_cannot_leave_them_behind(plane: Any) -> None:
    await plane.seed()
    await plane.change(teams.create, {"name": "other"})
    await plane.change(keys.create, plane.pepper, {"name": "top", "team": "growth"})
    await plane.change(keys.create, plane.pepper, {"name": "below", "parent": "top"})
    with pytest.raises(Conflict, match="below"):
        await plane.change(keys.update, "top", {"team": "other"})
    with pytest.raises(InvalidNoun):
        await plane.change(keys.update, "below", {"parent": ""})
    with pytest.raises(Conflict, match="below"):
        await plane.change(keys.delete, "top")
    narrower = await plane.change(keys.update, "top", {"models": ["big"]})
    assert narrower["models"] == ["big"], "what is narrowed above is narrowed below by whoever serves the call"


async def test_an_old_secret_is_nobody_elses_while_it_is_good(plane: Any) -> None:
    first = await plane.change(keys.create, plane.pepper, {"name": "ci"})
    rotated = await plane.change(keys.rotate, plane.pepper, "ci", {"grace": "1h"})
    digests = plane.door.publisher.snapshot.digests
    for secret in (first["secret"], rotated["secret"]):
        assert digests[virtual_keys.digest(plane.pepper, secret)] == "ci"
    with pytest.raises(Conflict):
        await plane.change(keys.add, plane.pepper, keys.Key(name="other"), first["secret"])
    again = await plane.change(keys.rotate, plane.pepper, "ci", {})
    assert again["old_secret_until"] is None
    assert set(plane.door.publisher.snapshot.digests) == {virtual_keys.digest(plane.pepper, again["secret"])}
    await plane.change(keys.revoke, "ci")
    with pytest.raises(Conflict):
        await plane.change(keys.rotate, plane.pepper, "ci", {})


async def test_the_last_use_is_the_latest_and_of_this_key(plane: Any) -> None:
    made = await plane.change(keys.create, plane.pepper, {"name": "ci"})
    before, after = plane.clock.now_ns - 60_000_000_000, plane.clock.now_ns + 60_000_000_000

    async def seen(at: int) -> Any:
        async with plane.door.engine.begin() as conn:
            await key_activity.note(conn, {"ci": at, "gone": at})
            return (await keys.show(conn, "ci"))["last_used_at"]

    assert await seen(before) is None, "before the key was made its name was another's"
    noted = await seen(after)
    assert noted == rfc3339(after) > made["created_at"]
    assert await seen(before) == noted
    async with plane.door.engine.begin() as conn:
        await key_activity.prune(conn)
        assert set(await key_activity.last_used(conn, ["ci", "gone"])) == {"ci"}
