"""Kills: the stop. Each is a row with a strictly increasing generation, durable before it is acknowledged.

A scope is one dimension and its value: `{"team": "growth"}`, `{"tag": "feature=search"}`, or `{"all": true}`.
Declared objects can be killed like any other. Lifting needs a reason, and does not take the generation back.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.control import audit, nouns, references
from penstock.control.paging import Listing, Page, cut, position
from penstock.control.tenancy import tenant_of, visible
from penstock.control.write import Write
from penstock.domain.access import EVERYTHING, Reach
from penstock.domain.snapshot import Kill
from penstock.errors import Conflict, InvalidNoun, NotAllowed, NotFoundNoun
from penstock.records.receipts import rfc3339
from penstock.store.tables.control import keys, kills

DIMENSIONS = ("organisation", "team", "project", "key", "user", "customer", "tag", "provider", "model")
MAX_VALUE = 256
KEY_ID = "key_"
"""How ids of keys begin; a name may, too."""


async def raise_kill(write: Write, scope: Mapping[str, Any], reason: str) -> int:
    """The generation of the new kill. A key may also be named by its id. A scope that stops nothing, because its name
    refers to nothing, is InvalidNoun: whoever stops something in a hurry must learn of a typing error at once."""
    checked = await _checked_scope(write, scope)
    row = {"scope": checked, "reason": nouns.checked_reason(reason), "by": write.actor, "at": write.at}
    result = await write.conn.execute(insert(kills).values(row))
    primary_key = result.inserted_primary_key
    assert primary_key is not None
    generation = int(primary_key[0])
    tenant = await tenant_of(write.conn, "kill", row)
    raised = {"generation": generation, **row, "lifted_at": None, "lifted_by": None, "lift_reason": None}
    await audit.record(write, "raise", audit.About("kill", str(generation), tenant), None, _shown(raised))
    return generation


async def lift(write: Write, generation: int, reason: str) -> dict[str, Any]:
    """The lifted kill. One that is lifted already is Conflict."""
    before = await show(write.conn, generation)
    if before["lifted_at"] is not None:
        raise Conflict(f"kill {generation} was lifted already, at {before['lifted_at']}")
    values = {"lifted_at": write.at, "lifted_by": write.actor, "lift_reason": nouns.checked_reason(reason)}
    await write.conn.execute(update(kills).where(kills.c.generation == generation).values(values))
    after = await show(write.conn, generation)
    tenant = await tenant_of(write.conn, "kill", before)
    await audit.record(write, "lift", audit.About("kill", str(generation), tenant), before, after)
    return after


async def show(conn: AsyncConnection, generation: int, reach: Reach = EVERYTHING) -> dict[str, Any]:
    """`{generation, scope, reason, by, at, lifted_at, lifted_by, lift_reason}`"""
    query = select(kills).where(kills.c.generation == generation, visible("kill", reach))
    row = (await conn.execute(query)).mappings().first()
    if row is None:
        raise NotFoundNoun(f"there is no kill {generation}")
    return _shown(dict(row))


async def list_page(conn: AsyncConnection, page: Page, reach: Reach = EVERYTHING) -> Listing:
    """The newest first, lifted ones included."""
    query = select(kills).where(visible("kill", reach)).order_by(kills.c.generation.desc()).limit(page.limit + 1)
    if page.after is not None:
        query = query.where(kills.c.generation < position(page.after))
    rows = [dict(row) for row in (await conn.execute(query)).mappings()]
    return cut([_shown(row) for row in rows], page, "generation")


async def newest_and_in_force(conn: AsyncConnection) -> tuple[int, dict[int, Kill]]:
    """The newest generation, and the kills that are not lifted, by generation, with scopes as calls carry them
    (`{"all": "true"}`, `tag:<name>`)."""
    newest = select(func.max(kills.c.generation)).scalar_subquery()
    query = select(kills).where(or_(kills.c.lifted_at.is_(None), kills.c.generation == newest))
    rows = (await conn.execute(query)).mappings().all()
    in_force = {
        row["generation"]: Kill(row["generation"], _as_dimensions(row["scope"]), row["reason"])
        for row in rows
        if row["lifted_at"] is None
    }
    return max((row["generation"] for row in rows), default=0), in_force


async def newest_generation(conn: AsyncConnection) -> int:
    """0 when nothing was ever killed."""
    return (await conn.execute(select(func.max(kills.c.generation)))).scalar() or 0


def _shown(row: nouns.Row) -> dict[str, Any]:
    lifted_at = None if row["lifted_at"] is None else rfc3339(row["lifted_at"])
    return {**row, "at": rfc3339(row["at"]), "lifted_at": lifted_at}


def _as_dimensions(scope: Mapping[str, Any]) -> dict[str, str]:
    ((dimension, value),) = scope.items()
    if dimension == "all":
        return {"all": "true"}
    if dimension == "tag":
        name, _, tag_value = value.partition("=")
        return {f"tag:{name}": tag_value}
    return {dimension: value}


async def _checked_scope(write: Write, scope: Mapping[str, Any]) -> dict[str, Any]:
    if len(scope) != 1:
        raise InvalidNoun('a scope is one dimension and its value, such as {"team": "growth"}', "scope")
    ((dimension, value),) = scope.items()
    conn, place, reach = write.conn, f"scope.{dimension}", write.by.reach
    own = {"team", "project", "key"} | ({"organisation"} if reach.organisations else set())
    if not reach.everything and dimension not in own:
        raise NotAllowed(f"your roles cover a part of the gateway: stop one of {', '.join(sorted(own))}")
    if dimension == "all":
        if value is not True:
            raise InvalidNoun('everything is {"all": true}', place)
        return {"all": True}
    if dimension not in DIMENSIONS:
        raise InvalidNoun(f"a scope is one of {', '.join(DIMENSIONS)} or all", "scope")
    if not isinstance(value, str) or not 1 <= len(value) <= 2 * MAX_VALUE or not value.isprintable():
        raise InvalidNoun(f"must be 1 to {2 * MAX_VALUE} printable characters", place)
    if dimension == "tag" and not all(value.partition("=")):
        raise InvalidNoun("a tag is written name=value", place)
    if dimension == "key" and value.startswith(KEY_ID):
        value = await _key_name(conn, value)
    if dimension == "model":
        if not await references.is_callable(conn, value):
            raise InvalidNoun(f"there is no model {value!r}", place)
    elif dimension in references.TABLES:
        await references.require(conn, dimension, value, place, reach)
    return {dimension: value}


async def _key_name(conn: AsyncConnection, name_or_id: str) -> str:
    named = (await conn.execute(select(keys.c.name).where(keys.c.id == name_or_id))).scalar()
    return name_or_id if named is None else str(named)
