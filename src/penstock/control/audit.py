"""The audit log: who changed what, when, from what to what. Written in the transaction of the change itself.

Both pictures are the public form of the object, in which no secret and no digest stands.
"""

from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.control.paging import Listing, Page, cut, position
from penstock.control.write import Write
from penstock.records.receipts import rfc3339
from penstock.store.tables.control import audit

Picture = dict[str, Any] | None


async def record(write: Write, action: str, thing: tuple[str, str], before: Picture, after: Picture) -> None:
    """One row. `action`: create, update, delete, revoke, apply, raise, end_raises, lift. `thing`: kind and name."""
    kind, name = thing
    row = {"at": write.at, "actor": write.actor, "action": action, "kind": kind, "name": name}
    await write.conn.execute(insert(audit).values(**row, before=before, after=after))


async def list_page(conn: AsyncConnection, page: Page, kind: str | None = None, name: str | None = None) -> Listing:
    """The newest first; `kind` and `name` narrow it down. Items: seq, at, actor, action, kind, name, before, after."""
    query = select(audit).order_by(audit.c.seq.desc()).limit(page.limit + 1)
    if page.after is not None:
        query = query.where(audit.c.seq < position(page.after))
    if kind is not None:
        query = query.where(audit.c.kind == kind)
    if name is not None:
        query = query.where(audit.c.name == name)
    rows = [dict(row) for row in (await conn.execute(query)).mappings()]
    return cut([{**row, "at": rfc3339(row["at"])} for row in rows], page, "seq")
