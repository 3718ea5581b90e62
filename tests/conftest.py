"""Of all tests: the two databases that the store can be in, and no hurry."""

import gc
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.store.engine import committer_engine, control_engine, database_url
from penstock.store.migrate import newest_revision, upgrade_to
from penstock.store.tables.schema import metadata
from penstock.testing.postgres import CannotRun, Postgres

# A law says nothing of time, and a machine that is busy must not break it.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    """What is imported stays to the end: to look through it for garbage, again and again, is a tenth of collecting."""
    gc.disable()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server per test process; each test has a database of its own in it."""
    try:
        server = Postgres().__enter__()
    except CannotRun as reason:
        pytest.skip(str(reason))
    yield server
    server.close()


EMPTYING = "; ".join(
    [
        """SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()""",
        *(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)),
        "SELECT setval(format('%I', sequencename)::regclass, start_value, false) FROM pg_sequences",
    ]
)
"""Ends every other session of the database, deletes every row and starts its sequences again."""


@pytest.fixture(scope="session")
def whole_postgres(postgres: Postgres) -> Iterator[tuple[URL, psycopg.Connection]]:
    """A database that has been brought to the newest revision once. Tests have it one after the other, since a new one
    costs the server more than most tests do; each leaves it without a row, and the tables as they are. The connection
    empties it: one that has done so before does it in a tenth of the time."""
    with postgres.database() as name:
        url = database_url(postgres.url(name), Path())
        migrate(url)
        with psycopg.connect(postgres.url(name), autocommit=True) as connection:
            yield url, connection


@pytest.fixture(scope="session")
def whole_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that has been brought to the newest revision once, to be copied."""
    directory = tmp_path_factory.mktemp("whole")
    url = database_url("sqlite", directory)
    migrate(url)
    return Path(str(url.database))


def migrate(url: URL) -> None:
    engine = committer_engine(url)
    with engine.begin() as connection:
        upgrade_to(connection, newest_revision())
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def whole_store_url(request: pytest.FixtureRequest) -> Iterator[URL]:
    """The URL of a database at the newest revision, without a row; a test that uses it runs once on each kind."""
    yield request.getfixturevalue("emptied_sqlite" if request.param == "sqlite" else "emptied_postgres")


@pytest.fixture
def emptied_sqlite(whole_sqlite: Path) -> URL:
    """That of this test process: always at the same place, so that engines can be kept, see `whole_store`."""
    place = whole_sqlite.with_name("emptied")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    url = database_url("sqlite", place)
    shutil.copyfile(whole_sqlite, str(url.database))
    return url


@pytest.fixture
def emptied_postgres(whole_postgres: tuple[URL, psycopg.Connection]) -> Iterator[URL]:
    """That of this test process, for tests of what other databases do not have."""
    url, connection = whole_postgres
    yield url
    connection.execute(EMPTYING)


@pytest.fixture(scope="session")
def kept_control_engine() -> Callable[[URL], AsyncEngine]:
    """A test process keeps one engine of each kind, with the statements that it has compiled: they cost more than most
    tests. Connections are those of one test."""
    return cache(control_engine)


@pytest.fixture(scope="session")
def kept_committer_engine() -> Callable[[URL], Engine]:
    return cache(committer_engine)


@pytest.fixture
async def whole_store(
    whole_store_url: URL, kept_control_engine: Callable[[URL], AsyncEngine]
) -> AsyncIterator[AsyncEngine]:
    """What the control process has of `whole_store_url`."""
    engine = kept_control_engine(whole_store_url)
    yield engine
    await engine.dispose()


@pytest.fixture
def whole_ledger(whole_store_url: URL, kept_committer_engine: Callable[[URL], Engine]) -> Iterator[Engine]:
    """What a committer has of it."""
    engine = kept_committer_engine(whole_store_url)
    yield engine
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """The URL of an empty database; a test that uses it runs once on each kind."""
    if request.param == "sqlite":
        yield database_url("sqlite", tmp_path)
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.database() as name:
        yield database_url(server.url(name), tmp_path)
