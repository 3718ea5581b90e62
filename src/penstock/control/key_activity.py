"""When each key was used last: no change of the key, so it has a table of its own and is not audited.

It is written for many keys at a time, some seconds after they were used.
"""

from collections.abc import Iterable, Mapping

from sqlalchemy import delete, exists, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.store.chunks import chunks
from penstock.store.tables.control import key_activity, keys

_NOTE = text(
    "INSERT INTO key_activity (key, last_used_at) VALUES (:key, :at) ON CONFLICT (key) DO UPDATE"
    " SET last_used_at = excluded.last_used_at WHERE excluded.last_used_at > key_activity.last_used_at"
)


async def note(conn: AsyncConnection, used: Mapping[str, int]) -> None:
    """Key -> when a call with it began, in Unix nanoseconds. A moment before the one that is kept changes nothing."""
    # In one order, so that two boxes which note the same keys do not wait for each other in a circle.
    rows = [{"key": name, "at": used[name]} for name in sorted(used)]
    if rows:
        await conn.execute(_NOTE, rows)


async def last_used(conn: AsyncConnection, names: Iterable[str]) -> dict[str, int]:
    """Key -> when it was used last; those that were never used are not there."""
    found: dict[str, int] = {}
    for some in chunks(list(names)):
        query = select(key_activity).where(key_activity.c.key.in_(some))
        found |= {row.key: row.last_used_at for row in await conn.execute(query)}
    return found


async def prune(conn: AsyncConnection) -> None:
    """Forgets the keys that are deleted."""
    await conn.execute(delete(key_activity).where(~exists().where(keys.c.name == key_activity.c.key)))
