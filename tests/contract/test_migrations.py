"""The schema that migrations make is the one that the code is written against."""

import asyncio
import re
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from penstock.errors import StoreTooNew
from penstock.store.engine import control_engine, database_url
from penstock.store.migrate import newest_revision, revision, upgrade
from penstock.store.tables import control, ledger, records
from penstock.store.tables.schema import metadata

TABLES_OF_EVERY_ROOM = (control.audit, ledger.entries, records.rollups)


def _schema(connection: Connection) -> dict[str, str]:
    rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"))
    return {name: _normal(sql) for name, sql in rows if name not in {"alembic_version", "sqlite_sequence"}}


def _normal(sql: str) -> str:
    """Columns and constraints in any order: `CREATE TABLE x (a, b)` is `CREATE TABLE x (b, a)` with named columns."""
    head, _, rest = sql.partition("(")
    body, _, tail = rest.rpartition(")")
    parts = (re.sub(r"\s+", " ", part).strip() for part in re.split(r",(?![^(]*\))", body))
    return "\n".join([head.replace('"', "").strip(), *sorted(part for part in parts if part), tail.strip()])


async def test_the_migrations_make_exactly_the_tables_of_the_code(tmp_path: Path) -> None:
    migrated = control_engine(database_url(str(tmp_path / "migrated.db"), tmp_path))
    created = control_engine(database_url(str(tmp_path / "created.db"), tmp_path))
    await upgrade(migrated)
    async with created.begin() as conn:
        await conn.run_sync(metadata.create_all)
    async with migrated.connect() as conn:
        differences = await conn.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync, opts={"compare_type": True}), metadata)
        )
        by_migrations = await conn.run_sync(_schema)
    async with created.connect() as conn:
        by_code = await conn.run_sync(_schema)
    await migrated.dispose()
    await created.dispose()
    assert differences == []
    assert by_migrations == by_code


async def test_a_database_is_migrated_once_and_keeps_its_data(tmp_path: Path) -> None:
    engine = control_engine(database_url("sqlite", tmp_path))
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


async def test_two_processes_that_start_together_migrate_one_after_the_other(tmp_path: Path) -> None:
    engines = [control_engine(database_url("sqlite", tmp_path)) for _ in range(4)]
    revisions = await asyncio.gather(*(upgrade(engine) for engine in engines))
    assert set(revisions) == {newest_revision()}
    for engine in engines:
        await engine.dispose()


async def test_a_database_of_a_later_release_is_refused(tmp_path: Path) -> None:
    engine = control_engine(database_url("sqlite", tmp_path))
    await upgrade(engine)
    async with engine.begin() as conn:
        await conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreTooNew, match="9999"):
        await upgrade(engine)
    await engine.dispose()
