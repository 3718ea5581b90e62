"""Brings the database to the schema of this release, at every start.

An empty database gets the tables as the code has them. Another gets the migrations that it lacks, which are in
`migrations/versions` in the order of their numbers. Either happens in one transaction that holds the write lock: of two
processes that start together one works and the other finds it done. That both ways make one schema is a contract test.

Alembic is loaded when there is something to migrate: it takes a tenth of a start.
"""

from importlib import import_module
from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, text
from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.errors import StoreTooNew
from penstock.store.tables import access, admission, boxes, control, ledger, records, vault
from penstock.store.tables.schema import metadata

DIRECTORY = Path(__file__).parent / "migrations"
ROOMS = (access, admission, boxes, control, ledger, records, vault)
"""The modules whose tables `metadata` has to know before it makes them."""
_LOCK = 7_305_611_970_447_101
"""The key of PostgreSQL's advisory lock; any number that is always the same."""

_version = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""Alembic's own table, as Alembic makes it."""
_IS_THERE = {
    "postgresql": "SELECT CAST(to_regclass('alembic_version') AS text)",
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'",
}
"""Its name where it is there. SQLAlchemy's own way to ask takes more of a start than all else that is asked here."""


async def upgrade(engine: AsyncEngine) -> str:
    """The revision that the database is at now. Raises StoreTooNew when it is of a later release than this one."""
    async with engine.begin() as conn:
        return await conn.run_sync(_upgrade)


async def revision(engine: AsyncEngine) -> str | None:
    """The revision of the database; None before the first migration."""
    async with engine.connect() as conn:
        return await conn.run_sync(_present)


def revision_of(connection: Connection) -> str | None:
    """The revision of the database; None before the first migration. Raises StoreTooNew where a later release wrote
    it."""
    present = _present(connection)
    require_known(present)
    return present


def require_known(present: str | None) -> None:
    """Raises StoreTooNew for a revision that this release does not know."""
    if present is not None and not is_known(present):
        raise StoreTooNew(
            f"the database is at revision {present}, which a later release wrote; this one knows {newest_revision()}: "
            "install that release, or restore the backup from before the upgrade"
        )


def upgrade_to(connection: Connection, target: str) -> None:
    """Brings the database to the revision `target`, which this release knows and which is not behind it, as a part of
    the connection's transaction. Nobody else may have the database meanwhile."""
    import_module("penstock.store.migrations.steps").upgrade_to(connection, target)


def is_known(revision: str) -> bool:
    """Whether this release knows the revision: it is its own, or an earlier one."""
    return revision in _revisions()


def newest_revision() -> str:
    """The revision that this release writes."""
    return _revisions()[-1]


def _revisions() -> list[str]:
    """Those that this release knows, in order: a migration's file is named after its own."""
    return sorted(path.name.partition("_")[0] for path in (DIRECTORY / "versions").glob("[0-9]*.py"))


def _present(connection: Connection) -> str | None:
    if connection.scalar(text(_IS_THERE[connection.dialect.name])) is None:
        return None
    found: str | None = connection.scalar(_version.select())
    return found


def _upgrade(connection: Connection) -> str:
    # On SQLite the transaction has the write lock from its beginning (see `store.engine`).
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    head, present = newest_revision(), revision_of(connection)
    if present is None:
        metadata.create_all(connection, checkfirst=False)
        _version.create(connection)
        connection.execute(_version.insert().values(version_num=head))
    elif present != head:
        upgrade_to(connection, head)
    return head
