"""The declared configuration: the store says what the file says, and nothing else of it is touched."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect

from penstock.config.loading import load
from penstock.control import declared, keys, limits, projects, providers, teams
from penstock.control.credentials import DeclaredCredentials
from penstock.control.paging import Page
from penstock.domain.snapshot import Snapshot
from penstock.errors import ConfigError, Conflict
from penstock.identity import virtual_keys
from penstock.identity.authenticate import principal_of

CI_SECRET = "pk-" + "c" * 40
FILE = """
providers:
  - {name: lab, kind: compatible, base_url: "http://127.0.0.1:9001/v1", credentials: [{name: main, value: env:LAB_KEY}]}
models:
  - {name: big, targets: [{provider: lab, model: big-2025}], price: {input: 2.00, output: 8.00}, max_output: 100}
  - {name: 'lab/*'}
teams: [{name: growth, required_tags: [feature]}]
projects: [{name: search, team: growth, environment: production}]
keys:
  - {name: ci, project: search, user: ada, secret: env:CI_KEY, models: [big], tags: {feature: ci}}
limits:
  - {name: monthly, match: {team: growth}, unit: usd, amount: 100, per: month, alert_at: [0.8]}
  - {match: {key: ci}, unit: requests, amount: 600, per: minute}
"""


class File:
    """A configuration file that is edited and applied."""

    def __init__(self, plane: Any, path: Path) -> None:
        self.plane = plane
        self.path = path

    async def apply(self, text: str, node: str = "here") -> list[tuple[str, str, str]]:
        self.path.write_text(text)
        config = load(self.path, require_secrets=True)
        applied = await self.plane.door.change(declared.ACTOR, declared.apply, self.plane.pepper, config, node)
        return [(step.action, step.kind, step.name) for step in applied.steps]


@pytest.fixture
def file(plane: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> File:
    monkeypatch.setenv("LAB_KEY", "sk-lab-secret")
    monkeypatch.setenv("CI_KEY", CI_SECRET)
    return File(plane, tmp_path / "penstock.yaml")


def _snapshot(plane: Any) -> Snapshot:
    return plane.door.publisher.snapshot


async def test_a_file_becomes_the_published_world_in_one_change(plane: Any, file: File) -> None:
    steps = await file.apply(FILE)
    assert ("create", "user", "ada") in steps and {action for action, _, _ in steps} == {"create"}
    assert len(plane.changes) == 1
    snapshot = _snapshot(plane)
    key = snapshot.keys[snapshot.digests[virtual_keys.digest(plane.pepper, CI_SECRET)]]
    principal = principal_of(snapshot, key, 0)
    dimensions = (principal.key, principal.team, principal.project, principal.environment, principal.user)
    assert dimensions == ("ci", "growth", "search", "production", "ada")
    assert principal.required_tags == ("feature",)
    assert key.rights.models == ("big",) and key.rights.tags == {"feature": "ci"}
    assert {limit.name: limit.amount for limit in snapshot.limits.values()}["monthly"] == 100_000_000_000
    assert {limit.origin for limit in snapshot.limits.values()} == {"file"}
    assert snapshot.aliases["big"].max_output == 100
    assert snapshot.aliases.keys() == {"big", "lab/*"}


async def test_secrets_are_not_in_the_database(plane: Any, file: File) -> None:
    await file.apply(FILE)
    async with plane.door.engine.begin() as conn:
        tables = await conn.run_sync(lambda sync: inspect(sync).get_table_names())
        dump = str([(await conn.exec_driver_sql(f'SELECT * FROM "{table}"')).all() for table in tables])
    assert "growth" in dump and "sk-lab-secret" not in dump and CI_SECRET not in dump


async def test_the_file_in_force_is_not_applied_again(plane: Any, file: File) -> None:
    await file.apply(FILE)
    assert await file.apply(FILE) == []
    assert len(plane.changes) == 1
    async with plane.door.read() as conn:
        assert len((await declared.list_page(conn, Page())).items) == 1


async def test_an_edited_file_changes_what_differs_and_nothing_else(plane: Any, file: File) -> None:
    await file.apply(FILE)
    ids = {limit.name: limit.id for limit in _snapshot(plane).limits.values()}
    steps = await file.apply(FILE.replace("amount: 100", "amount: 50").replace("required_tags: [feature]", ""))
    assert sorted(steps) == [("update", "limit", "monthly"), ("update", "team", "growth")]
    assert {limit.name: limit.id for limit in _snapshot(plane).limits.values()} == ids


async def test_what_the_file_no_longer_declares_is_deleted(plane: Any, file: File) -> None:
    await file.apply(FILE)
    steps = await file.apply("teams: [{name: sales}]")
    assert ("create", "team", "sales") in steps and ("delete", "user", "ada") in steps
    snapshot = _snapshot(plane)
    assert not (snapshot.keys or snapshot.providers or snapshot.aliases or snapshot.limits)
    async with plane.door.read() as conn:
        assert [team["name"] for team in (await teams.list_page(conn, Page())).items] == ["sales"]


async def test_an_older_file_comes_back_when_this_node_applied_the_newest(plane: Any, file: File) -> None:
    await file.apply(FILE)
    await file.apply(FILE.replace("amount: 100", "amount: 1000"))
    assert await file.apply(FILE) == [("update", "limit", "monthly")]
    async with plane.door.read() as conn:
        assert [item["version"] for item in (await declared.list_page(conn, Page())).items] == [3, 2, 1]


async def test_a_node_with_a_stale_file_does_not_undo_what_another_applied(plane: Any, file: File) -> None:
    await file.apply(FILE, "one")
    await file.apply(FILE.replace("amount: 100", "amount: 1000"), "two")
    assert await file.apply(FILE, "one") == []
    assert {limit.name: limit.amount for limit in _snapshot(plane).limits.values()}["monthly"] == 1_000_000_000_000


async def test_a_limit_with_another_name_keeps_its_balances_and_one_with_another_meaning_does_not(
    plane: Any, file: File
) -> None:
    await file.apply(FILE)
    ids = {limit.name: limit.id for limit in _snapshot(plane).limits.values()}
    await file.apply(FILE.replace("name: monthly", "name: growth-monthly"))
    renamed = {limit.name: limit.id for limit in _snapshot(plane).limits.values()}
    assert renamed["growth-monthly"] == ids["monthly"] and "monthly" not in renamed
    await file.apply(FILE.replace("name: monthly", "name: growth-monthly").replace("per: month", "per: day"))
    assert {limit.name: limit.id for limit in _snapshot(plane).limits.values()}["growth-monthly"] != ids["monthly"]


async def test_a_new_secret_behind_the_same_reference_is_taken_without_a_new_file(
    plane: Any, file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    await file.apply(FILE)
    monkeypatch.setenv("CI_KEY", "pk-" + "d" * 40)
    assert await file.apply(FILE) == [("rotate", "key", "ci")]
    assert _snapshot(plane).digests.keys() == {virtual_keys.digest(plane.pepper, "pk-" + "d" * 40)}


async def test_objects_of_the_api_stay_and_a_clash_refuses_the_whole_file(plane: Any, file: File) -> None:
    await plane.change(teams.create, {"name": "mine"})
    await plane.change(teams.create, {"name": "growth"})
    with pytest.raises(Conflict, match="team 'growth' exists already"):
        await file.apply(FILE)
    assert not _snapshot(plane).providers
    await plane.change(teams.delete, "growth")
    await file.apply(FILE)
    async with plane.door.read() as conn:
        assert (await teams.show(conn, "mine"))["origin"] == "api"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("teams: [{name: sales}]", "project 'search' is used by key 'extra'"),
        (
            FILE.replace("teams: [{name: growth,", "teams: [{name: sales}, {name: growth,").replace(
                "name: search, team: growth", "name: search, team: sales"
            ),
            "key 'extra' still belongs to the old one",
        ),
    ],
)
async def test_a_file_that_pulls_the_ground_from_under_the_api_is_refused(
    plane: Any, file: File, text: str, sentence: str
) -> None:
    await file.apply(FILE)
    await plane.change(keys.create, plane.pepper, {"name": "extra", "team": "growth", "project": "search"})
    with pytest.raises(Conflict, match=sentence):
        await file.apply(text)
    async with plane.door.read() as conn:
        assert (await projects.show(conn, "search"))["team"] == "growth"


async def test_objects_may_trade_references_and_names_within_one_file(plane: Any, file: File) -> None:
    first = FILE.replace("{match: {key: ci}", "{name: calls, match: {key: ci}")
    await file.apply(first)
    second = first.replace("name: ci,", "name: bot,").replace("key: ci}", "key: bot}").replace("growth", "sales")
    await file.apply(second)
    assert [key.name for key in _snapshot(plane).keys.values()] == ["bot"]
    assert {dict(limit.match).get("team") for limit in _snapshot(plane).limits.values()} == {"sales", None}


async def test_a_user_whom_the_api_took_up_stays(plane: Any, file: File) -> None:
    await file.apply(FILE)
    await plane.change(keys.create, plane.pepper, {"name": "extra", "user": "ada"})
    steps = await file.apply(FILE.replace("user: ada, ", ""))
    assert ("delete", "user", "ada") not in steps


async def test_a_limit_may_name_a_user_whom_only_signed_claims_name(plane: Any, file: File) -> None:
    front = "{header: x-who, issuer: 'https://i.test', audience: p, jwks: 'https://i.test/keys', keys: [ci], user: sub}"
    text = FILE.replace("user: ada, ", "") + f"identity: {{gateway: {front}}}\n"
    limit = "  - {match: {user: bob}, unit: requests, amount: 5, per: day}\n"
    steps = await file.apply(text.replace("identity:", f"{limit}identity:"))
    assert ("create", "user", "bob") in steps
    assert ("user", "bob") in [pair for limit in _snapshot(plane).limits.values() for pair in limit.match]
    assert ("delete", "user", "bob") in await file.apply(text)


async def test_limits_of_the_api_may_stand_on_declared_objects(plane: Any, file: File) -> None:
    await file.apply(FILE)
    fields: dict[str, Any] = {"name": "extra", "match": {"key": "ci"}, "unit": "usd", "amount": 1, "per": "day"}
    await plane.change(limits.create, fields)
    with pytest.raises(Conflict, match="key 'ci' is used by limit 'extra'"):
        await file.apply(FILE.replace("name: ci,", "name: bot,").replace("key: ci}", "key: bot}"))


async def test_credentials_are_bound_to_the_address_beside_them_and_read_again(
    file: File, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "lab-key"
    secret.write_text("first\n")
    file.path.write_text(FILE.replace("env:LAB_KEY", f"file:{secret}"))
    credentials = DeclaredCredentials(load(file.path).providers)
    address = "http://127.0.0.1:9001/v1"
    assert credentials("lab", address)[0].value.reveal() == "first"
    assert credentials("lab", "http://127.0.0.1:666/v1") == () == credentials("other", address)
    secret.write_text("second\n")
    assert credentials.refresh() == [] and credentials("lab", address)[0].value.reveal() == "second"
    secret.unlink()
    (fault,) = credentials.refresh()
    assert fault.startswith("provider 'lab': ") and "second" not in fault
    assert credentials("lab", address)[0].value.reveal() == "second"
    with pytest.raises(ConfigError):
        DeclaredCredentials(load(file.path).providers)


async def test_a_declared_provider_shows_the_names_of_its_credentials_alone(plane: Any, file: File) -> None:
    await file.apply(FILE)
    async with plane.door.read() as conn:
        shown = await providers.show(conn, "lab")
    assert shown["credentials"] == [{"name": "main", "weight": 1}]
