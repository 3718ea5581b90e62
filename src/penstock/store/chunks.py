"""Many rows a little at a time: so that no query has more names than a database takes, and so that the commit of the
ledger never waits long for a deletion."""

from collections.abc import Iterator

from sqlalchemy import ColumnElement, Table, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

CHUNK = 2_000
_IN_ONE_QUERY = 500


def chunks(names: list[str]) -> Iterator[list[str]]:
    """The names, as many at a time as a query may hold."""
    for start in range(0, len(names), _IN_ONE_QUERY):
        yield names[start : start + _IN_ONE_QUERY]


async def delete_in_chunks(engine: AsyncEngine, table: Table, condition: ColumnElement[bool]) -> int:
    """Deletes the rows that meet `condition`, each chunk in a transaction of its own; how many there were."""
    key = tuple(table.primary_key.columns)
    chunk = delete(table).where(tuple_(*key).in_(select(*key).where(condition).limit(CHUNK)))
    deleted = 0
    while True:
        async with engine.begin() as conn:
            count = (await conn.execute(chunk)).rowcount
        deleted += count
        if count < CHUNK:
            return deleted
