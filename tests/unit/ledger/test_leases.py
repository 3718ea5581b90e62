"""The SQL of leases: what one place costs does not depend on how many others there are."""

from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Connection

from penstock.domain.lease import Place
from penstock.ledger import leases
from penstock.store.engine import committer_engine, database_url
from penstock.store.tables.schema import metadata


@pytest.mark.parametrize(
    "place",
    [
        Place("usd", 1_795_200_000, "acme", "day"),
        Place("hourly", 0, "acme", "sliding-hour"),
        Place("rpm", 0, "acme", "minute"),
    ],
)
def test_a_place_is_looked_up_by_its_value(place: Place, tmp_path: Path) -> None:
    engine = committer_engine(database_url("sqlite", tmp_path))
    metadata.create_all(engine)
    asked: list[tuple[str, tuple[object, ...]]] = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(connection: Connection, _cursor: object, statement: str, values: tuple[object, ...], *_: object) -> None:
        if statement.lstrip().startswith("SELECT"):
            asked.append((statement, values))

    with engine.begin() as connection:
        leases.load(connection, {place: (0, 2**40)}, 1_795_200_000)
        plans = [
            row.detail
            for statement, values in list(asked)
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        ]
    engine.dispose()
    searches = [plan for plan in plans if " balances " in plan or " shares " in plan or " leases " in plan]
    assert len(searches) == 2
    for search in searches:
        assert search.startswith("SEARCH ")
        assert "limit_id=? AND" in search
        assert "value=?" in search
