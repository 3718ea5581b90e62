"""Fixtures of all tests: the two databases that the store can be in."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from penstock.store.engine import committer_engine, database_url
from penstock.store.migrate import newest_revision, upgrade_to
from penstock.testing.postgres import CannotRun, Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server per test process; each test has a database of its own in it."""
    try:
        server = Postgres().__enter__()
    except CannotRun as reason:
        pytest.skip(str(reason))
    yield server
    server.close()


@pytest.fixture(scope="session")
def whole_postgres(postgres: Postgres) -> Iterator[str]:
    """The name of a database that has been brought to the newest revision once, to be copied."""
    with postgres.database() as name:
        migrate(database_url(postgres.url(name), Path()))
        yield name


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
def whole_store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """The URL of a database at the newest revision, without a row; a test that uses it runs once on each kind."""
    if request.param == "sqlite":
        url = database_url("sqlite", tmp_path)
        shutil.copyfile(request.getfixturevalue("whole_sqlite"), str(url.database))
        yield url
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.database(request.getfixturevalue("whole_postgres")) as name:
        yield database_url(server.url(name), tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """The URL of an empty database; a test that uses it runs once on each kind."""
    if request.param == "sqlite":
        yield database_url("sqlite", tmp_path)
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.database() as name:
        yield database_url(server.url(name), tmp_path)
