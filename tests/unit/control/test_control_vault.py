"""The vault: values go in and never out, serve where they are meant to, and every opening is on record."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.unit.control.vaults import KEY, LAB, NEW, URL_OF_LAB, USING, Box, Down

from penstock.control import audit, installation, providers, teams, vault_entries
from penstock.control.door import Door
from penstock.control.paging import Page
from penstock.control.publisher import Publisher, Sources
from penstock.control.vault import Values, Vault
from penstock.control.write import Write
from penstock.domain.snapshot import Deployment, Secret
from penstock.errors import ConfigError, Conflict, InvalidNoun, NotFoundNoun, VaultUnavailable
from penstock.identity.secret import Root, pepper
from penstock.store.tables.vault import credential_versions, data_keys
from penstock.vault.wrappers import RootWrapper


@pytest.fixture
async def box(whole_store: AsyncEngine) -> Box:
    return await Box(whole_store).start()


@pytest.fixture
async def other(whole_store: AsyncEngine, box: Box) -> Box:
    return await Box(whole_store, "other").start()


async def test_a_credential_is_sealed_and_its_value_is_in_no_answer_and_no_row(box: Box) -> None:
    shown = (await box.vault.create("ana", {**NEW, "rotate_every": "90d"})).value
    assert (shown["kind"], shown["address"], shown["version"]) == ("compatible", "http://127.0.0.1:9001", 1)
    assert shown["rotate_every"] == "90d"
    assert shown["due_at"] > shown["rotated_at"]
    await box.change(providers.create, USING)
    assert box.sent() == ["sk-canary-1"]
    assert "canary" not in str(shown) + await box.everything_stored()
    assert "canary" not in repr(box.door.publisher.snapshot)


async def test_a_value_may_be_a_json_object_of_several_lines(box: Box) -> None:
    await box.vault.create("ana", {**NEW, "value": '{\n "type": "service_account",\n "owner": "Jürgen"\n}\n'})
    await box.change(providers.create, USING)
    assert box.sent() == ['{"type":"service_account","owner":"J\\u00fcrgen"}']


@pytest.mark.parametrize("value", ["", " ", "two\nlines", "schlüssel", "{not json", "x" * 20_000, 7])
async def test_a_value_that_cannot_be_sent_is_refused_without_being_repeated(box: Box, value: Any) -> None:
    with pytest.raises(InvalidNoun) as refused:
        await box.vault.create("ana", {**NEW, "value": value})
    assert refused.value.place == "value"
    assert "schlüssel" not in refused.value.message
    assert "lines" not in refused.value.message.replace("one line", "")


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"kind": None, "base_url": None}, "provider"),
        ({"provider": "lab"}, "provider"),
        ({"provider": "nobody", "kind": None, "base_url": None}, "provider"),
        ({"base_url": None}, "base_url"),
        ({"kind": "simulated"}, "kind"),
        ({"kind": "nonsense"}, "kind"),
        ({"team": "nobody"}, "team"),
        ({"rotate_every": "soon"}, "rotate_every"),
        ({"version": 7}, "version"),
    ],
)
async def test_an_entry_says_what_it_is_for(box: Box, fields: dict[str, Any], place: str) -> None:
    asked = {name: value for name, value in {**NEW, **fields}.items() if value is not None}
    with pytest.raises(InvalidNoun) as refused:
        await box.vault.create("ana", asked)
    assert refused.value.place == place


async def test_an_entry_for_a_provider_takes_its_kind_and_address(box: Box) -> None:
    await box.change(providers.create, LAB)
    shown = (await box.vault.create("ana", {"name": "lab-key", "value": "sk-1", "provider": "lab"})).value
    assert (shown["kind"], shown["address"]) == ("compatible", "http://127.0.0.1:9001")


async def test_a_provider_refers_only_to_entries_that_are_there_and_meant_for_it(box: Box) -> None:
    with pytest.raises(InvalidNoun, match="there is no credential 'lab-key' in the vault") as refused:
        await box.change(providers.create, USING)
    assert refused.value.place == "credentials[0].value"
    await box.use()
    with pytest.raises(InvalidNoun, match=r"is for kind compatible at http://127\.0\.0\.1:9001, not for this provider"):
        await box.change(providers.create, {**USING, "name": "evil", "base_url": "http://203.0.113.9/v1"})
    with pytest.raises(InvalidNoun, match="not for this provider"):
        await box.change(providers.update, "lab", {"base_url": "http://203.0.113.9/v1"})
    with pytest.raises(InvalidNoun, match="env: and file: references stand in the configuration file alone"):
        await box.change(providers.create, {**LAB, "name": "b", "credentials": [{"name": "m", "value": "env:HOME"}]})
    assert (await box.change(providers.update, "lab", {"base_url": URL_OF_LAB + "/2"}))["credentials"] == [
        {"name": "main", "value": "vault:lab-key", "weight": 1}
    ]


async def test_a_row_that_was_changed_behind_the_gateways_back_sends_no_credential_elsewhere(box: Box) -> None:
    await box.use()
    async with box.engine.begin() as conn:
        await conn.execute(text("UPDATE providers SET base_url = 'http://203.0.113.9/v1'"))
    await box.door.refresh()
    assert box.sent() == []
    async with box.engine.begin() as conn:
        await conn.execute(text("UPDATE credentials SET address = 'http://203.0.113.9:80'"))
    fresh = await Box(box.engine).start()
    assert fresh.sent() == []
    assert "does not open" in fresh.vault.faults["lab-key"]
    assert fresh.door.publisher.snapshot.providers["lab"].needs_credential


async def test_a_rotated_credential_serves_at_once_and_what_it_replaced_is_gone(box: Box) -> None:
    await box.use()
    before = await box.everything_stored()
    shown = (await box.vault.rotate("ana", "lab-key", {"value": "sk-canary-2"})).value
    assert shown["version"] == 2
    assert box.sent() == ["sk-canary-2"]
    assert await box.count(credential_versions) == 1
    assert "canary" not in before + await box.everything_stored()
    assert [record[:2] for record in await box.records()] == [("create", "lab-key"), ("rotate", "lab-key")]


async def test_a_staged_version_serves_from_its_moment_on(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    await box.use()
    await box.vault.rotate("ana", "lab-key", {"value": "sk-never", "active_from": "2190-01-01T00:00:00Z"})
    answer = await box.vault.rotate("ana", "lab-key", {"value": "sk-2", "active_from": "2190-01-01T00:00:00Z"})
    assert (answer.value["version"], answer.value["active_from"]) == (3, "2190-01-01T00:00:00Z")
    await box.vault.tend()
    await box.door.refresh()
    assert box.sent() == ["sk-canary-1"]
    assert await box.count(credential_versions) == 2
    async with box.engine.begin() as conn:
        await conn.execute(text("UPDATE credential_versions SET active_from = 1 WHERE version = 3"))
    box.vault.look_soon()
    monkeypatch.setattr("penstock.control.vault.time.time_ns", lambda: 6_942_931_200_000_000_001)
    await box.vault.tend()
    assert box.sent() == ["sk-2"]
    assert await box.count(credential_versions) == 1
    assert ("activate", "lab-key", "vault") in await box.records()
    with pytest.raises(InvalidNoun, match="lies in the past"):
        await box.vault.rotate("ana", "lab-key", {"value": "sk-3", "active_from": "2020-01-01T00:00:00Z"})


async def test_what_is_in_use_is_not_deleted_and_what_is_deleted_is_gone_with_its_values(box: Box) -> None:
    await box.use()
    with pytest.raises(Conflict, match="credential 'lab-key' is used by provider 'lab'"):
        await box.change(vault_entries.delete, "lab-key")
    await box.change(providers.update, "lab", {"credentials": []})
    await box.change(vault_entries.delete, "lab-key")
    assert await box.count(credential_versions) == 0
    with pytest.raises(NotFoundNoun):
        await box.vault.rotate("ana", "lab-key", {"value": "sk-2"})
    await box.vault.create("ana", {**NEW, "value": "sk-again"})
    await box.change(providers.update, "lab", {"credentials": USING["credentials"]})
    assert box.sent() == ["sk-again"]


async def test_only_its_age_can_be_changed_without_the_value(box: Box) -> None:
    await box.vault.create("ana", NEW)
    assert (await box.change(vault_entries.update, "lab-key", {"rotate_every": "36h"}))["rotate_every"] == "36h"
    for field in ("address", "kind", "team", "value", "name"):
        with pytest.raises(InvalidNoun):
            await box.change(vault_entries.update, "lab-key", {field: "x"})


async def test_a_name_is_taken_once(box: Box) -> None:
    await box.vault.create("ana", NEW)
    with pytest.raises(Conflict, match="there is a credential 'lab-key' already"):
        await box.vault.create("ana", {**NEW, "value": "sk-other"})
    assert await box.count(credential_versions) == 1


async def test_each_tenant_has_a_data_key_of_its_own(box: Box) -> None:
    await box.change(teams.create, {"name": "growth"})
    await box.vault.create("ana", NEW)
    await box.vault.create("ana", {**NEW, "name": "second"})
    await box.vault.create("ana", {**NEW, "name": "of-a-team", "team": "growth"})
    async with box.door.read() as conn:
        scopes = list((await conn.execute(select(data_keys.c.scope).order_by(data_keys.c.scope))).scalars())
    assert scopes == ["organisation:default", "team:growth"]
    assert box.wrapper.uses == 2
    with pytest.raises(Conflict, match="team 'growth' is used by credential 'of-a-team'"):
        await box.change(teams.delete, "growth")


async def test_a_start_opens_everything_and_says_so_in_the_audit_log(box: Box) -> None:
    await box.use()
    again = await Box(box.engine, "again").start()
    assert again.sent() == ["sk-canary-1"]
    assert (await again.records())[-1] == ("open", "lab-key", "vault")
    async with again.door.read() as conn:
        newest = (await audit.list_page(conn, Page(1), "credential")).items[0]
    assert newest["after"] == {"version": 1, "node": "again"}
    await again.vault.open_new()
    assert [action for action, *_ in await again.records()].count("open") == 1


async def test_without_an_audit_record_nothing_is_opened(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    await box.use()
    again = Box(box.engine, "again")
    await again.door.load()

    async def fail(*_: Any) -> None:
        raise Conflict("the audit log is full")

    monkeypatch.setattr(audit, "record", fail)
    with pytest.raises(Conflict):
        await again.vault.open_new()
    await again.door.refresh()
    assert again.sent() == []


async def test_another_box_sends_the_value_before_until_it_has_opened_the_new_one(box: Box, other: Box) -> None:
    await box.use()
    await other.door.follow()
    assert other.sent() == []
    other.vault.look_soon()
    await other.vault.tend()
    assert other.sent() == ["sk-canary-1"]
    await box.vault.rotate("ana", "lab-key", {"value": "sk-canary-2"})
    await other.door.follow()
    assert other.sent() == ["sk-canary-1"]
    other.vault.look_soon()
    await other.vault.tend()
    assert other.sent() == ["sk-canary-2"]
    assert {record for record in await box.records() if record[0] == "open"} == {("open", "lab-key", "vault")}


async def test_while_the_keeper_of_the_wrapping_key_is_away_nothing_is_made_and_what_is_open_serves(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.wrapper.is_down = True
    with pytest.raises(VaultUnavailable, match="the keeper is away"):
        await box.vault.create("ana", NEW)
    assert await box.count(data_keys) == 0
    box.wrapper.is_down = False
    await box.use()
    box.wrapper.is_down = True
    await box.vault.rotate("ana", "lab-key", {"value": "sk-canary-2"})
    assert box.sent() == ["sk-canary-2"]
    again = Box(box.engine, "again")
    again.wrapper.is_down = True
    await again.start()
    assert again.sent() == []
    assert again.vault.faults == {"lab-key": "the keeper is away"}
    again.wrapper.is_down = False
    monkeypatch.setattr("penstock.control.vault.AGAIN_S", 0.0)
    await again.vault.open_new()
    assert again.sent() == ["sk-canary-2"]
    assert again.vault.faults == {}


async def test_a_data_key_of_a_wrapper_that_is_no_longer_configured_says_what_to_keep(box: Box) -> None:
    await box.use()
    async with box.engine.begin() as conn:
        await conn.execute(text("UPDATE data_keys SET wrapper = 'kms', wrapping_key = 'alias/penstock'"))
    again = await Box(box.engine).start()
    assert "keep the settings vault.kms" in again.vault.faults["lab-key"]


async def test_a_backup_of_the_rows_is_enough_with_the_root_secret_and_useless_without(
    box: Box, tmp_path: Path
) -> None:
    await box.use()
    stranger = Box(box.engine)
    stranger.vault = Vault(stranger.door, Values(), {"root": RootWrapper(b"x" * 32, "other")}, "root")
    await stranger.start()
    assert stranger.sent() == []
    assert "another root secret" in stranger.vault.faults["lab-key"]


# -- wrapping again ----------------------------------------------------------------------------------------------------


async def nothing_else(_: Write) -> None:
    """What is done with a rewrap that moves no root secret."""


class Other(Down):
    name = "kms"


async def test_data_keys_move_to_another_wrapper_and_values_stay_as_they_are(box: Box) -> None:
    await box.use()
    other = Other(b"o" * 32, "alias/penstock")
    moving = Vault(box.door, Values(), {"root": box.wrapper, "kms": other}, "kms")
    done = await moving.rewrap("ana", nothing_else)
    assert done == {"data_keys": 1, "wrapper": "kms", "wrapping_key": "alias/penstock"}
    (key,) = (await moving.shown())["data_keys"]
    assert (key["scope"], key["wrapper"], key["wrapping_key"]) == ("organisation:default", "kms", "alias/penstock")
    assert "wrapped" not in key
    alone = Box(box.engine)
    values = Values()
    alone.door = Door(alone.engine, Publisher(Sources(lambda *_: Deployment("", ""), lambda *_: (), values)))
    alone.vault = Vault(alone.door, values, {"root": RootWrapper(b"x" * 32, "x"), "kms": other}, "kms")
    await alone.start()
    assert alone.sent() == ["sk-canary-1"]


async def test_a_rewrap_that_fails_changes_nothing(box: Box) -> None:
    await box.use()
    box.wrapper.is_down = True
    before = await box.everything_stored()
    with pytest.raises(VaultUnavailable):
        await box.vault.rewrap("ana", nothing_else)
    with pytest.raises(Conflict, match="is wrapped by root: put its settings back"):
        await Vault(box.door, Values(), {"kms": Other(KEY, "k")}, "kms").rewrap("ana", nothing_else)
    assert await box.everything_stored() == before


async def test_a_new_root_secret_takes_over_and_keys_of_callers_stay_valid(box: Box) -> None:
    old, new = Secret("the first root secret"), Secret("the second root secret")
    async with box.engine.begin() as conn:
        first = await installation.agree(conn, Root(old))
        assert first == installation.Agreed(pepper(old.reveal()), is_current=True)
        with pytest.raises(ConfigError, match="PENSTOCK_SECRET_PREVIOUS"):
            await installation.agree(conn, Root(new))
        during = await installation.agree(conn, Root(new, previous=old))
        assert during == installation.Agreed(first.pepper, is_current=False)
    await box.change(installation.move, Root(new, previous=old), during.pepper)
    async with box.engine.begin() as conn:
        assert await installation.agree(conn, Root(new)) == installation.Agreed(first.pepper, is_current=True)
        with pytest.raises(ConfigError):
            await installation.agree(conn, Root(old))
        stored = str((await conn.execute(text("SELECT * FROM installation"))).all())
    assert first.pepper.hex() not in stored
    assert "root secret" not in stored
    await box.change(installation.move, Root(new), during.pepper)
    assert "pepper" not in repr(during).replace("pepper=", "")


async def test_no_box_is_left_behind_with_the_old_root_secret(box: Box) -> None:
    old, new = Secret("the first root secret"), Secret("the second root secret")
    async with box.engine.begin() as conn:
        agreed = await installation.agree(conn, Root(old), "b0x1")
        row = "INSERT INTO boxes (id, node, release, state, started_at, seen_at) VALUES (:id, :id, '1', :state, 1, 1)"
        await conn.execute(text(row), [{"id": "b0x1", "state": "live"}, {"id": "gone", "state": "stopped"}])
    with pytest.raises(Conflict, match="box b0x1 has not been started with the new root secret yet"):
        await box.change(installation.move, Root(new, previous=old), agreed.pepper)
    async with box.engine.begin() as conn:
        await installation.agree(conn, Root(new, previous=old), "b0x1")
    await box.change(installation.move, Root(new, previous=old), agreed.pepper)
