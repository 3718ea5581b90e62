"""Fixtures of all tests: the two databases that the store can be in."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from penstock.store.engine import database_url
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


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """The URL of an empty database; a test that uses it runs once on each kind."""
    if request.param == "sqlite":
        yield database_url("sqlite", tmp_path)
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.database() as name:
        yield database_url(server.url(name), tmp_path)
