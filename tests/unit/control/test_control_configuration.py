"""The declared configuration of a running gateway: planned, changed, rolled back, and never with another's secrets."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.config.loading import load
from penstock.control import declared, keys, limits, models
from penstock.control.configuration import Configuration, Outcome, Terms
from penstock.control.credentials import DeclaredCredentials
from penstock.control.door import Door
from penstock.control.paging import Page
from penstock.control.publisher import Publisher, Sources
from penstock.domain.snapshot import Change, Deployment, Snapshot
from penstock.errors import Conflict, InvalidFile, NotFoundNoun
from penstock.identity import virtual_keys
from penstock.store.migrate import upgrade
from penstock.store.tables.control import audit, config_versions

PEPPER = b"p" * 32
FIRST_SECRET, SECOND_SECRET = "pk-" + "a" * 40, "pk-" + "b" * 40
PLAN, CHANGE = Terms(dry_run=True), Terms()
FILE = """
server: {listen: 127.0.0.1:18080}
providers:
  - {name: lab, kind: compatible, base_url: "http://127.0.0.1:9001/v1",
     credentials: [{name: main, value: file:CREDENTIAL}]}
models:
  - {name: big, targets: [{provider: lab, model: big-2025}], price: {input: 2.50, output: 8.00}, max_output: 100}
teams: [{name: growth, required_tags: [feature]}]
keys: [{name: ci, team: growth, secret: file:SECRET}]
limits: [{name: monthly, match: {team: growth}, unit: usd, amount: 100, per: month}]
"""


class Box:
    """A box that serves from a file, and an administrator who may bring another."""

    def __init__(self, engine: AsyncEngine, directory: Path) -> None:
        self.path = directory / "penstock.yaml"
        self.credential, self.secret = directory / "credential", directory / "secret"
        self.credential.write_text("sk-first")
        self.secret.write_text(FIRST_SECRET)
        self.write(FILE)
        config = load(self.path, require_secrets=True)
        self.engine = engine
        self.credentials = DeclaredCredentials(config.providers)
        self.config = config
        self.door = Door(self.engine, Publisher(Sources(lambda *_: Deployment("", ""), self.credentials)))
        self.configuration = Configuration(self.door, self.credentials, config, "box", PEPPER)
        self.published: list[Change] = []

    def text(self, file: str) -> str:
        return file.replace("file:CREDENTIAL", f"file:{self.credential}").replace("file:SECRET", f"file:{self.secret}")

    def write(self, file: str) -> None:
        self.path.write_text(self.text(file))

    async def serve(self) -> None:
        await upgrade(self.engine)
        await self.door.load()
        self.door.publisher.subscribe(self.published.append)
        await self.restart()

    async def restart(self) -> list[tuple[str, str, str]]:
        """What `serve` does at its start."""
        config = load(self.path, require_secrets=True)
        applied = await self.door.change(declared.ACTOR, declared.apply, PEPPER, config, "box")
        return [(step.action, step.kind, step.name) for step in applied.steps]

    async def apply(self, file: str, terms: Terms = CHANGE) -> Outcome:
        return await self.configuration.apply("ana", self.text(file).encode(), terms)

    async def history(self) -> list[dict[str, Any]]:
        async with self.door.read() as conn:
            return (await declared.list_page(conn, Page())).items

    @property
    def snapshot(self) -> Snapshot:
        return self.door.publisher.snapshot

    def amounts(self) -> dict[str, int]:
        return {limit.name: limit.amount // 10**9 for limit in self.snapshot.limits.values()}


@pytest.fixture
async def box(whole_store: AsyncEngine, tmp_path: Path) -> Box:
    box = Box(whole_store, tmp_path)
    await box.serve()
    return box


def steps_of(outcome: Outcome) -> list[tuple[str, str, str]]:
    return [(step.action, step.kind, step.name) for step in outcome.steps]


async def test_a_plan_says_what_would_change_field_by_field_and_changes_nothing(box: Box) -> None:
    box.published.clear()
    changed = FILE.replace("amount: 100", "amount: 50").replace("teams: [", "teams: [{name: sales}, ")
    changed = changed.replace("keys: [{name: ci, team: growth, secret: file:SECRET}]", "")
    plan = await box.apply(changed, PLAN)
    assert (plan.base, plan.version, plan.new_version) == (1, None, True)
    assert steps_of(plan) == [("delete", "key", "ci"), ("create", "team", "sales"), ("update", "limit", "monthly")]
    assert plan.steps[1].fields == {"name": (None, "sales"), "organisation": (None, "default")}
    assert plan.steps[2].fields == {"amount": ("100", "50")}
    assert box.published == []
    assert box.amounts() == {"monthly": 100}
    assert len(await box.history()) == 1
    async with box.door.read() as conn:
        assert (await conn.execute(select(audit.c.name).where(audit.c.name == "sales"))).first() is None


async def test_a_file_is_put_in_force_in_one_change_by_whoever_brought_it(box: Box) -> None:
    box.published.clear()
    outcome = await box.apply(FILE.replace("amount: 100", "amount: 50"), Terms(base=1))
    assert (outcome.base, outcome.version, outcome.new_version) == (1, 2, True)
    assert len(box.published) == 1
    assert box.amounts() == {"monthly": 50}
    newest, first = await box.history()
    assert (newest["how"], newest["by"], newest["node"]) == ("apply", "ana", "")
    assert (first["how"], first["by"], first["node"]) == ("serve", declared.ACTOR, "box")
    assert newest["changes"] == [
        {"action": "update", "kind": "limit", "name": "monthly", "fields": {"amount": ["100", "50"]}}
    ]


async def test_a_file_that_changes_no_object_is_kept_once(box: Box) -> None:
    assert not (await box.apply(FILE)).new_version
    assert (await box.apply(FILE + "# a remark\n")).version == 2
    outcome = await box.apply(FILE + "# a remark\n")
    assert (outcome.steps, outcome.new_version, outcome.version) == ((), False, 2)
    async with box.door.read() as conn:
        told = list(await conn.execute(select(audit.c.name, audit.c.action).where(audit.c.kind == "config")))
    assert told == [("1", "serve"), ("1", "apply"), ("2", "apply"), ("2", "apply")], "also what changed nothing"


async def test_a_plan_that_somebody_else_has_overtaken_is_not_carried_out(box: Box) -> None:
    plan = await box.apply(FILE.replace("amount: 100", "amount: 50"), PLAN)
    await box.apply(FILE.replace("amount: 100", "amount: 70"))
    with pytest.raises(Conflict, match="version 2 is in force, not 1"):
        await box.apply(FILE.replace("amount: 100", "amount: 50"), Terms(base=plan.base))
    assert box.amounts() == {"monthly": 70}


async def test_what_was_applied_since_does_not_go_away_with_a_restart(box: Box) -> None:
    await box.apply(FILE.replace("amount: 100", "amount: 50"))
    assert await box.restart() == []
    assert box.amounts() == {"monthly": 50}


async def test_the_file_of_the_box_itself_counts_as_served_from_there(box: Box) -> None:
    changed = FILE.replace("amount: 100", "amount: 50")
    box.write(changed)
    assert (await box.apply(changed)).new_version
    assert await box.restart() == []
    box.write(FILE)
    assert await box.restart() == [("update", "limit", "monthly")]


async def test_a_version_is_put_in_force_again_exactly(box: Box) -> None:
    await box.apply(FILE.replace("amount: 100", "amount: 50").replace("2.50", "0.000000001"))
    plan = await box.configuration.roll_back("ana", 1, PLAN)
    assert plan.steps[1].fields == {"amount": ("50", "100")}
    assert box.amounts() == {"monthly": 50}
    outcome = await box.configuration.roll_back("ana", 1, Terms(base=plan.base))
    assert (outcome.version, outcome.new_version) == (3, True)
    assert box.amounts() == {"monthly": 100}
    async with box.door.read() as conn:
        assert (await models.show(conn, "big"))["price"]["input"] == "2.50"
    newest = (await box.history())[0]
    assert (newest["how"], newest["restores"], newest["by"]) == ("rollback", 1, "ana")
    assert (await box.configuration.roll_back("ana", 2, CHANGE)).version == 4
    async with box.door.read() as conn:
        assert (await models.show(conn, "big"))["price"]["input"] == "0.000000001"


async def test_what_was_rolled_back_does_not_come_back_with_a_restart(box: Box) -> None:
    box.write(FILE.replace("amount: 100", "amount: 50"))
    await box.restart()
    changes = (await box.history())[0]["changes"]
    assert [(it["action"], it["fields"]) for it in changes] == [("update", {"amount": ["100", "50"]})]
    await box.configuration.roll_back("ana", 1, CHANGE)
    assert await box.restart() == []
    assert box.amounts() == {"monthly": 100}


async def test_a_version_that_nobody_kept_cannot_be_put_in_force_again(box: Box) -> None:
    with pytest.raises(NotFoundNoun, match="there is no version 7"):
        await box.configuration.roll_back("ana", 7, CHANGE)
    async with box.engine.begin() as conn:
        await conn.execute(config_versions.update().values(content=None))
    with pytest.raises(Conflict, match="an older release applied version 1"):
        await box.configuration.roll_back("ana", 1, CHANGE)
    await box.restart()
    assert not (await box.configuration.roll_back("ana", 1, CHANGE)).new_version


async def test_a_version_shows_what_it_declared_and_no_secret(box: Box) -> None:
    async with box.door.read() as conn:
        shown = await declared.show(conn, 1)
        stored = str((await conn.execute(text("SELECT * FROM config_versions"))).all())
    assert shown["document"]["keys"] == [{"name": "ci", "team": "growth", "secret": f"file:{box.secret}"}]
    assert "server" not in shown["document"]
    assert "content" not in shown
    assert "sk-first" not in stored
    assert FIRST_SECRET not in stored


# -- secrets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("http://127.0.0.1:9001/v1", "http://203.0.113.9/v1", "providers.lab: the credential file:"),
        ("value: file:CREDENTIAL", "value: file:/etc/passwd", "providers.lab: the credential file:/etc/passwd"),
        ("secret: file:SECRET", "secret: env:HOME", "keys.ci: the secret env:HOME"),
        ("name: ci", "name: other", "keys.other: the secret file:"),
    ],
)
async def test_a_reference_that_the_file_of_the_box_does_not_have_is_refused(
    box: Box, old: str, new: str, sentence: str
) -> None:
    for terms in (PLAN, CHANGE):
        with pytest.raises(InvalidFile, match="is resolved only from the file that `serve` reads on the box") as caught:
            await box.apply(FILE.replace(old, new), terms)
        assert caught.value.faults[0].startswith(sentence)
    assert len(await box.history()) == 1
    assert set(box.snapshot.providers["lab"].base_url.split()) == {"http://127.0.0.1:9001/v1"}


async def test_what_the_file_of_the_box_has_by_now_is_resolved_without_a_restart(box: Box, tmp_path: Path) -> None:
    (tmp_path / "more").write_text("sk-more")
    (tmp_path / "bot").write_text(SECOND_SECRET)
    more = f"""
  - {{name: more, kind: openai, credentials: [{{name: main, value: "file:{tmp_path / "more"}"}}]}}
models:"""
    changed = FILE.replace("\nmodels:", more)
    changed = changed.replace("keys: [", f'keys: [{{name: bot, team: growth, secret: "file:{tmp_path / "bot"}"}}, ')
    with pytest.raises(InvalidFile) as caught:
        await box.apply(changed)
    assert len(caught.value.faults) == 2
    box.write(changed)
    assert steps_of(await box.apply(changed)) == [("create", "provider", "more"), ("create", "key", "bot")]
    assert box.snapshot.providers["more"].credentials[0].value.reveal() == "sk-more"
    assert virtual_keys.digest(PEPPER, SECOND_SECRET) in box.snapshot.digests


async def test_a_fault_in_the_file_of_the_box_leaves_what_it_said_before(box: Box) -> None:
    box.path.write_text("providers: [")
    assert (await box.apply(FILE.replace("amount: 100", "amount: 50"))).new_version


async def test_a_secret_that_is_not_there_or_is_not_one_refuses_the_file(box: Box, tmp_path: Path) -> None:
    changed = FILE.replace("keys: [", f'keys: [{{name: bot, team: growth, secret: "file:{tmp_path / "bot"}"}}, ')
    box.write(changed)
    with pytest.raises(InvalidFile, match="cannot be read"):
        await box.apply(changed)
    (tmp_path / "bot").write_text("too short")
    with pytest.raises(InvalidFile, match="the secret must be pk-"):
        await box.apply(changed)
    assert len(await box.history()) == 1


async def test_secrets_in_files_are_read_again_and_published_when_they_differ(box: Box) -> None:
    box.published.clear()
    assert await box.configuration.look_again() == []
    assert box.published == []
    box.credential.write_text("sk-second")
    box.secret.write_text(SECOND_SECRET)
    assert await box.configuration.look_again() == []
    assert box.snapshot.providers["lab"].credentials[0].value.reveal() == "sk-second"
    assert set(box.snapshot.digests) == {virtual_keys.digest(PEPPER, SECOND_SECRET)}
    box.credential.unlink()
    box.secret.unlink()
    box.published.clear()
    assert len(await box.configuration.look_again()) == 2
    assert box.published == []
    assert box.snapshot.providers["lab"].credentials[0].value.reveal() == "sk-second"


async def test_looking_again_does_not_undo_what_was_applied_since(box: Box, tmp_path: Path) -> None:
    (tmp_path / "bot").write_text(SECOND_SECRET)
    changed = FILE.replace("secret: file:SECRET", f'secret: "file:{tmp_path / "bot"}"').replace("100", "50")
    box.write(changed)
    await box.apply(changed)
    assert await box.configuration.look_again() == []
    assert await box.restart() == []
    assert set(box.snapshot.digests) == {virtual_keys.digest(PEPPER, SECOND_SECRET)}
    assert box.amounts() == {"monthly": 50}


async def test_a_key_of_the_api_that_took_the_name_of_a_declared_one_is_left_alone(box: Box) -> None:
    without = FILE.replace("keys: [{name: ci, team: growth, secret: file:SECRET}]", "")
    await box.apply(without)
    made = await box.door.change("ana", keys.create, PEPPER, {"name": "ci", "team": "growth"})
    assert await box.restart() == []
    assert set(box.snapshot.digests) == {virtual_keys.digest(PEPPER, made["secret"])}


async def test_another_box_has_the_credential_of_a_provider_as_soon_as_it_is_in_force(box: Box, tmp_path: Path) -> None:
    (tmp_path / "more").write_text("sk-more")
    credentials = DeclaredCredentials(box.config.providers)
    door = Door(box.engine, Publisher(Sources(lambda *_: Deployment("", ""), credentials)))
    await door.load()
    other = Configuration(door, credentials, box.config, "other", PEPPER)
    more = f"""
  - {{name: more, kind: openai, credentials: [{{name: main, value: "file:{tmp_path / "more"}"}}]}}
models:"""
    changed = FILE.replace("\nmodels:", more)
    box.write(changed)
    await box.apply(changed)
    news = await door.follow()
    assert news.names["provider"] == {"more"}
    assert door.publisher.snapshot.providers["more"].credentials == ()
    await other.know_providers()
    assert door.publisher.snapshot.providers["more"].credentials[0].value.reveal() == "sk-more"


# -- what is refused, and what is only said ----------------------------------------------------------------------------


async def test_a_faulty_file_is_refused_with_every_fault_in_its_place(box: Box) -> None:
    with pytest.raises(InvalidFile) as caught:
        await box.apply(FILE.replace("team: growth, secret", "team: growht, secret").replace("unit: usd", "unit: eur"))
    assert [fault.split(": ")[0] for fault in caught.value.faults] == ["penstock.yaml:9:25", "penstock.yaml:10:55"]
    assert "and 1 more" in caught.value.message


async def test_an_object_of_the_api_is_not_taken_over(box: Box) -> None:
    fields = {"name": "mine", "match": {"team": "growth"}, "unit": "requests", "amount": 5, "per": "day"}
    await box.door.change("ana", limits.create, fields)
    with pytest.raises(Conflict, match="limit 'mine' exists already"):
        await box.apply(FILE.replace("limits: [", "limits: [{name: mine, unit: usd, amount: 1, per: day}, "), PLAN)


async def test_settings_of_the_process_are_named_where_they_differ(box: Box) -> None:
    outcome = await box.apply(
        FILE.replace("server: {listen: 127.0.0.1:18080}", "server: {admin: 127.0.0.1:18081, drain_timeout: 5s}"), PLAN
    )
    assert outcome.notes == (
        "server.admin stays as it is: `serve` reads it from its own file, at its start",
        "server.drain_timeout stays as it is: `serve` reads it from its own file, at its start",
    )
    assert (await box.apply(FILE, PLAN)).notes == ()
