"""Deleting many rows a little at a time, so that the commit of the ledger never waits long for it."""

from sqlalchemy import ColumnElement, Table, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

CHUNK = 2_000


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
