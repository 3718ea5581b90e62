"""Brings the database to the schema of this release, at every start.

The migrations are in `migrations/versions`, in the order of their numbers. All that are missing run in one transaction
that holds the write lock, so that of two processes that start together one migrates and the other finds it done.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.errors import StoreTooNew

DIRECTORY = Path(__file__).parent / "migrations"
_LOCK = 7_305_611_970_447_101
"""The key of PostgreSQL's advisory lock; any number that is always the same."""


async def upgrade(engine: AsyncEngine) -> str:
    """The revision that the database is at now. Raises StoreTooNew when it is of a later release than this one."""
    async with engine.begin() as conn:
        return await conn.run_sync(_upgrade)


async def revision(engine: AsyncEngine) -> str | None:
    """The revision of the database; None before the first migration."""
    async with engine.connect() as conn:
        return await conn.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())


def revision_of(connection: Connection) -> str | None:
    """The revision of the database; None before the first migration. Raises StoreTooNew where a later release wrote
    it."""
    present = MigrationContext.configure(connection).get_current_revision()
    if present is not None and not is_known(present):
        raise StoreTooNew(
            f"the database is at revision {present}, which a later release wrote; this one knows {newest_revision()}"
        )
    return present


def upgrade_to(connection: Connection, target: str) -> None:
    """Brings the database to the revision `target`, which this release knows and which is not behind it, as a part of
    the connection's transaction. Nobody else may have the database meanwhile."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, target)


def is_known(revision: str) -> bool:
    """Whether this release knows the revision: it is its own, or an earlier one."""
    return revision in {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def newest_revision() -> str:
    """The revision that this release writes."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(DIRECTORY).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _upgrade(connection: Connection) -> str:
    # On SQLite the transaction has the write lock from its beginning (see `store.engine`).
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    head = newest_revision()
    if revision_of(connection) != head:
        upgrade_to(connection, head)
    return head
