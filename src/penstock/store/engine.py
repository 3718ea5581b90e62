"""Engines: how the control process reaches its database.

Two kinds over one URL. `control_engine` is asynchronous and makes every commit durable before it returns: keys, kills
and audit records live behind it. `committer_engine` is synchronous, for the one thread that moves journals into the
ledger in batches; on SQLite its commits are not synced one by one, because what a power cut takes from the database
is still in the journal, at the offset that was cut with it.

On SQLite a transaction takes the write lock when it begins, so that two writers wait for each other instead of failing
half-way. `reading(engine)` gives the same engine with transactions that only read one snapshot and never wait.

On PostgreSQL each commit is durable, and a connection that broke is noticed and replaced when it is next asked for. A
new one does not ask for the type hstore, which no table has: that takes four questions of a start that is waited for.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from penstock.errors import ConfigError

BUSY_TIMEOUT_MS = 10_000
SWITCHES_TO_WAL = 100
"""How often a connection tries to switch a new database over while others do or write to it."""
POSTGRESQL = "postgresql+psycopg"
CONNECTION_SETTINGS: dict[str, int | str] = {
    "connect_timeout": 5,
    "application_name": "penstock",
    # A box or a network that went without a word: noticed after 25 s on either side, not after hours.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
    "options": "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3",
}
"""What libpq is told for every connection, under what the store's URL says itself. Seconds, `tcp_user_timeout` ms."""

_AnyEngine = TypeVar("_AnyEngine", Engine, AsyncEngine)


def database_url(store: str, data: Path) -> URL:
    """The URL of what the setting `store` names: `sqlite` (a file in `data`), a path, or a `postgresql://` URL.

    Raises ConfigError for any other kind of database.
    """
    if store == "sqlite":
        return URL.create("sqlite", database=str(data / "penstock.db"))
    if "://" not in store:
        return URL.create("sqlite", database=store)
    url = make_url(store)
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigError(f"a store of kind {url.get_backend_name()} is not supported: sqlite or postgresql", "store")
    return url


def control_engine(url: URL | str) -> AsyncEngine:
    """Asynchronous; each commit has reached the disk when it returns."""
    url = make_url(url)
    if url.get_backend_name() == "sqlite":
        engine = create_async_engine(url.set(drivername="sqlite+aiosqlite"))
        _prepare_sqlite(engine.sync_engine, "FULL")
        return engine
    return create_async_engine(postgresql_url(url), pool_pre_ping=True, use_native_hstore=False)


def committer_engine(url: URL | str) -> Engine:
    """Synchronous, with positional parameters; see the module on when its commits reach the disk."""
    url = make_url(url)
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url.set(drivername="sqlite+pysqlite"), connect_args={"check_same_thread": False})
        _prepare_sqlite(engine, "NORMAL")
        return engine
    return create_engine(postgresql_url(url), paramstyle="format", pool_pre_ping=True, use_native_hstore=False)


def reading(engine: _AnyEngine) -> _AnyEngine:
    """The same engine and connections, for transactions that only read: one snapshot, no waiting for writers."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(reads_only=True)
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


@contextmanager
def durably(engine: Engine) -> Iterator[Connection]:
    """A transaction of the committer's engine whose commit, and every commit before it, has reached the disk at the
    end of the block: what allows a journal to be deleted."""
    with engine.connect() as connection:
        _set_synchronous(connection, "FULL")
        try:
            with connection.begin():
                yield connection
        finally:
            _set_synchronous(connection, "NORMAL")


def _set_synchronous(connection: Connection, level: str) -> None:
    """PostgreSQL commits are always durable; SQLite takes the setting only between transactions."""
    driver = connection.connection.driver_connection
    if connection.dialect.name == "sqlite" and driver is not None:
        driver.execute(f"PRAGMA synchronous={level}")


def postgresql_url(url: URL) -> URL:
    """`url` with the driver and its settings. Raises ConfigError where the driver is not installed."""
    if find_spec("psycopg") is None:
        raise ConfigError("PostgreSQL needs an extra that is not installed: pip install 'penstock[postgres]'", "store")
    settings = {name: str(value) for name, value in CONNECTION_SETTINGS.items() if name not in url.query}
    return url.set(drivername=POSTGRESQL).update_query_dict(settings)


def _prepare_sqlite(engine: Engine, synchronous: str) -> None:
    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _record: Any) -> None:
        # The driver would begin transactions on its own terms, and not before reads; `begin` below does it instead.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        _switch_to_wal(cursor)
        cursor.execute(f"PRAGMA synchronous={synchronous}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reads_only = connection.get_execution_options().get("reads_only", False)
        connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")


def _switch_to_wal(cursor: Any) -> None:
    """The switch fails at once, whatever the busy timeout, where another connection writes or switches as well: each
    of them holds what the other waits for. A transaction does wait, so an empty one waits for the rival to be done;
    once anybody has switched, the mode is in the file and nothing is left to do.
    """
    for _ in range(SWITCHES_TO_WAL - 1):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
        cursor.execute("BEGIN IMMEDIATE")
        cursor.execute("COMMIT")
    cursor.execute("PRAGMA journal_mode=WAL")
