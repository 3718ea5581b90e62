"""The schema that migrations make is the one that the code is written against, on both databases."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.errors import StoreTooNew
from penstock.store.engine import control_engine, database_url
from penstock.store.migrate import DIRECTORY, newest_revision, revision, upgrade
from penstock.store.tables import admission, boxes, control, ledger, records
from penstock.store.tables.schema import metadata

TABLES_OF_EVERY_ROOM = (
    admission.idempotency_keys,
    boxes.boxes,
    control.audit,
    ledger.entries,
    records.rollups,
)


def _schema(connection: Connection) -> dict[str, str]:
    rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"))
    return {name: _normal(sql) for name, sql in rows if name not in {"alembic_version", "sqlite_sequence"}}


def _normal(sql: str) -> str:
    """Columns and constraints in any order: `CREATE TABLE x (a, b)` is `CREATE TABLE x (b, a)` with named columns."""
    head, _, rest = sql.partition("(")
    body, _, tail = rest.rpartition(")")
    parts = (re.sub(r"\s+", " ", part).strip() for part in re.split(r",(?![^(]*\))", body))
    return "\n".join([head.replace('"', "").strip(), *sorted(part for part in parts if part), tail.strip()])


def _differences(connection: Connection) -> list[Any]:
    found: list[Any] = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)
    return found


def _columns(connection: Connection) -> dict[tuple[str, str], dict[str, Any]]:
    """Table and column -> what the database says of it."""
    seen = inspect(connection)
    return {
        (table, column["name"]): dict(column) for table in seen.get_table_names() for column in seen.get_columns(table)
    }


def _details(connection: Connection) -> dict[str, Any]:
    """Table -> what the database says of it, but for the order of its columns."""
    seen = inspect(connection)
    found: dict[str, Any] = {}
    for table in sorted(seen.get_table_names()):
        listed = (
            seen.get_columns(table),
            seen.get_indexes(table),
            seen.get_unique_constraints(table),
            seen.get_check_constraints(table),
            seen.get_foreign_keys(table),
        )
        rows = [sorted((dict(row) for row in rows), key=lambda row: row["name"] or "") for rows in listed]
        found[table] = [repr(rows), repr(seen.get_pk_constraint(table))]
    return found


def _drop_all(connection: Connection) -> None:
    metadata.drop_all(connection)
    connection.execute(text("DROP TABLE alembic_version"))


async def _upgrade_to(engine: AsyncEngine, target: str) -> dict[tuple[str, str], dict[str, Any]]:
    def run(connection: Connection) -> dict[tuple[str, str], dict[str, Any]]:
        config = Config()
        config.set_main_option("script_location", str(DIRECTORY))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, target)
        return _columns(connection)

    async with engine.begin() as conn:
        return await conn.run_sync(run)


async def test_the_migrations_make_exactly_the_tables_of_the_code(store_url: URL) -> None:
    engine = control_engine(store_url)
    await _upgrade_to(engine, newest_revision())
    async with engine.connect() as conn:
        differences = await conn.run_sync(_differences)
        by_migrations = await conn.run_sync(_details)
    async with engine.begin() as conn:
        await conn.run_sync(_drop_all)
    await upgrade(engine)
    async with engine.connect() as conn:
        at_once = await conn.run_sync(_details)
    await engine.dispose()
    assert differences == []
    assert at_once == by_migrations


async def test_the_migrations_make_exactly_the_tables_of_the_code_down_to_sqlites_own_words(tmp_path: Path) -> None:
    migrated = control_engine(database_url(str(tmp_path / "migrated.db"), tmp_path))
    created = control_engine(database_url(str(tmp_path / "created.db"), tmp_path))
    await _upgrade_to(migrated, newest_revision())
    await upgrade(created)
    async with migrated.connect() as conn:
        by_migrations = await conn.run_sync(_schema)
    async with created.connect() as conn:
        by_code = await conn.run_sync(_schema)
    await migrated.dispose()
    await created.dispose()
    assert by_migrations == by_code


async def test_the_newest_revision_is_alembics_head(store_url: URL) -> None:
    config = Config()
    config.set_main_option("script_location", str(DIRECTORY))
    config.set_main_option("path_separator", "os")
    assert newest_revision() == ScriptDirectory.from_config(config).get_current_head()
    engine = control_engine(store_url)
    await upgrade(engine)
    async with engine.connect() as conn:
        seen = await conn.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
    await engine.dispose()
    assert seen == newest_revision()


async def test_amounts_and_times_have_64_bits(store_url: URL) -> None:
    engine = control_engine(store_url)
    await upgrade(engine)
    async with engine.connect() as conn:
        columns = await conn.run_sync(_columns)
    await engine.dispose()
    wide = "BIGINT" if store_url.get_backend_name() == "postgresql" else "INTEGER"
    for table, column in (
        ("entries", "at"),
        ("balances", "settled"),
        ("rollups", "cost_nanousd"),
        ("shares", "settled"),
    ):
        assert str(columns[table, column]["type"]) == wide
    assert str(columns["limits", "amount"]["type"]) == "BIGINT"


async def test_a_database_is_migrated_once_and_keeps_its_data(store_url: URL) -> None:
    engine = control_engine(store_url)
    assert await revision(engine) is None
    assert await upgrade(engine) == newest_revision()
    async with engine.begin() as conn:
        await conn.execute(
            control.users.insert().values(name="ada", origin="api", created_at=1, created_by="t", updated_at=1)
        )
    assert await upgrade(engine) == newest_revision() == await revision(engine)
    async with engine.connect() as conn:
        assert (await conn.execute(control.users.select())).mappings().one()["name"] == "ada"
    await engine.dispose()


async def test_two_processes_that_start_together_migrate_one_after_the_other(store_url: URL) -> None:
    engines = [control_engine(store_url) for _ in range(4)]
    revisions = await asyncio.gather(*(upgrade(engine) for engine in engines))
    assert set(revisions) == {newest_revision()}
    for engine in engines:
        await engine.dispose()


async def test_a_migration_only_adds_so_that_the_release_before_it_still_runs(store_url: URL) -> None:
    """What is there stays as it is, and what is new has a value where an older release does not write one."""
    engine = control_engine(store_url)
    config = Config()
    config.set_main_option("script_location", str(DIRECTORY))
    config.set_main_option("path_separator", "os")
    scripts = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    before: dict[tuple[str, str], dict[str, Any]] = {}
    for target in reversed(scripts):
        after = await _upgrade_to(engine, target)
        tables = {table for table, _ in before}
        for place, column in before.items():
            assert place in after, f"{target} takes {place} away"
            assert str(after[place]["type"]) == str(column["type"]), f"{target} changes the type of {place}"
        for (table, name), column in after.items():
            if table in tables and (table, name) not in before:
                assert column["nullable"] or column["default"] is not None, (
                    f"{target} demands a value in {table}.{name}"
                )
        before = after
    await engine.dispose()


async def test_a_database_of_a_later_release_is_refused_and_left_alone(store_url: URL) -> None:
    engine = control_engine(store_url)
    await upgrade(engine)
    async with engine.begin() as conn:
        await conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreTooNew, match=r"9999.*install that release, or restore the backup"):
        await upgrade(engine)
    assert await revision(engine) == "9999"
    await engine.dispose()


async def test_balances_keep_their_amounts_when_they_are_laid_together_by_value(store_url: URL) -> None:
    engine = control_engine(store_url)
    await _upgrade_to(engine, "0010")
    insert = "INSERT INTO balances (limit_id, window_start, value, per, settled) VALUES ('usd', 60, 'acme', 'day', 5)"
    async with engine.begin() as conn:
        await conn.execute(text(insert))
    await upgrade(engine)
    async with engine.connect() as conn:
        rows = [dict(row) for row in (await conn.execute(text("SELECT * FROM balances"))).mappings()]
    await engine.dispose()
    assert rows == [{"limit_id": "usd", "window_start": 60, "value": "acme", "per": "day", "settled": 5}]
