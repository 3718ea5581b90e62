"""The audit log: who changed what, when, from where, from what to what. Written in the transaction of the change.

Both pictures are the public form of the object, in which no secret and no digest stands. A row belongs to the tenant
whose object it is about; of an object that changed hands it is nobody's among them, because it shows both sides.
"""

from typing import Any, NamedTuple

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.control.paging import Listing, Page, cut, position
from penstock.control.tenancy import visible
from penstock.control.write import Write
from penstock.domain.access import EVERYTHING, Reach, Tenant
from penstock.records.receipts import rfc3339
from penstock.store.tables.control import audit

Picture = dict[str, Any] | None


class About(NamedTuple):
    """Of what a row tells. `tenant`: whose object it is; nobody's among the tenants unless one is named."""

    kind: str
    name: str
    tenant: Tenant = Tenant()


async def record(write: Write, action: str, about: About | tuple[str, str], before: Picture, after: Picture) -> None:
    """One row. `action`: create, update, delete, revoke, apply, raise, end_raises, lift. `about`: kind and name, and
    whose object it is."""
    kind, name, tenant = About(*about)
    who = {"actor": write.actor, "actor_kind": write.by.kind}
    where = {"address": write.by.address, "request_id": write.by.request_id}
    what = {"action": action, "kind": kind, "name": name, "before": before, "after": after}
    whose = tenant._asdict()
    await write.conn.execute(insert(audit).values(at=write.at, **who, **where, **what, **whose))


async def list_page(
    conn: AsyncConnection, page: Page, kind: str | None = None, name: str | None = None, *, reach: Reach = EVERYTHING
) -> Listing:
    """The newest first; `kind` and `name` narrow it down. Items: seq, at, actor, actor_kind, address, request_id,
    action, kind, name, before, after, team, project, organisation."""
    query = select(audit).where(visible("audit", reach)).order_by(audit.c.seq.desc()).limit(page.limit + 1)
    if page.after is not None:
        query = query.where(audit.c.seq < position(page.after))
    if kind is not None:
        query = query.where(audit.c.kind == kind)
    if name is not None:
        query = query.where(audit.c.name == name)
    rows = [dict(row) for row in (await conn.execute(query)).mappings()]
    return cut([{**row, "at": rfc3339(row["at"])} for row in rows], page, "seq")
