"""The directory: users and groups as an identity provider tells of them by SCIM.

A provisioned user is a user of the gateway, made where there is none of that name. One that becomes inactive or is
taken away may not come in any more (`accounts.deactivate`); one that comes back may. A group is what bindings name;
whoever is in it has the group's roles from that moment on.
"""

import uuid
from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct
from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.control import accounts, audit, nouns, users
from penstock.control.write import Write
from penstock.domain.tags import is_tag_value
from penstock.errors import Conflict, InvalidNoun, NotFoundNoun
from penstock.store.tables.access import members, provisioned

Kind = Literal["User", "Group"]
MAX_NAME = 128
MAX_EXTERNAL_ID = 256


class Told(Struct, frozen=True):
    """What the identity provider says of a user or a group. `body`: the resource as SCIM has it, without what the
    gateway adds. `members`: ids, of a group."""

    kind: Kind
    name: str
    external_id: str = ""
    active: bool = True
    members: tuple[str, ...] = ()
    body: dict[str, Any] = {}


class Entry(Struct, frozen=True):
    """`created_at`, `updated_at`: Unix nanoseconds. `related`: id and name of a group's members, or a user's groups."""

    id: str
    told: Told
    created_at: int
    updated_at: int
    related: tuple[tuple[str, str], ...] = ()


class Wanted(Struct, frozen=True):
    """Which entries are asked for, by what can be looked up; None: whichever."""

    name: str | None = None
    external_id: str | None = None


async def create(write: Write, told: Told) -> Entry:
    """Raises Conflict where the name is provisioned already, InvalidNoun for a name that the gateway cannot have."""
    _check(told)
    id = str(uuid.uuid4())
    await _refuse_taken(write.conn, told, id)
    row = {"id": id, "kind": told.kind, **_columns(told), "created_at": write.at, "updated_at": write.at}
    await write.conn.execute(insert(provisioned).values(row))
    if told.kind == "User":
        if await nouns.find(write.conn, users.USER, told.name) is None:
            await users.add(write, users.User(name=told.name))
        await _set_active(write, told)
    await _set_members(write, id, told)
    await audit.record(write, "create", _about(told), None, {**told.body, "id": id})
    return await find(write.conn, told.kind, id)


async def replace(write: Write, id: str, told: Told) -> Entry:
    """Raises InvalidNoun for another user name: keys, limits and records refer to the one that it has."""
    _check(told)
    before = await find(write.conn, told.kind, id)
    if told.kind == "User" and told.name != before.told.name:
        raise InvalidNoun("a user's name cannot be changed here: keys and limits refer to it", "userName")
    await _refuse_taken(write.conn, told, id)
    values = {**_columns(told), "updated_at": write.at}
    await write.conn.execute(update(provisioned).where(provisioned.c.id == id).values(values))
    if told.kind == "User":
        await _set_active(write, told)
    await _set_members(write, id, told)
    await audit.record(write, "update", _about(told), before.told.body, told.body)
    return await find(write.conn, told.kind, id)


async def remove(write: Write, kind: Kind, id: str) -> None:
    """The user may not come in any more; the gateway goes on knowing the name, to which records refer."""
    entry = await find(write.conn, kind, id)
    await write.conn.execute(delete(members).where((members.c.group_id == id) | (members.c.user_id == id)))
    await write.conn.execute(delete(provisioned).where(provisioned.c.id == id))
    if kind == "User":
        await accounts.deactivate(write, entry.told.name)
    await audit.record(write, "delete", _about(entry.told), entry.told.body, None)


async def find(conn: AsyncConnection, kind: Kind, id: str) -> Entry:
    query = select(provisioned).where(provisioned.c.kind == kind, provisioned.c.id == id)
    row = (await conn.execute(query)).mappings().first()
    if row is None:
        raise NotFoundNoun(f"there is no {kind} {id[:64]!r}")
    (entry,) = await _entries(conn, [dict(row)])
    return entry


async def list_all(conn: AsyncConnection, kind: Kind, wanted: Wanted) -> list[Entry]:
    """Every entry that is wanted, in the order of their ids."""
    conditions: list[ColumnElement[bool]] = [provisioned.c.kind == kind]
    if wanted.name is not None:
        conditions.append(provisioned.c.folded == wanted.name.casefold())
    if wanted.external_id is not None:
        conditions.append(provisioned.c.external_id == wanted.external_id)
    query = select(provisioned).where(*conditions).order_by(provisioned.c.id)
    return await _entries(conn, [dict(row) for row in (await conn.execute(query)).mappings()])


async def _entries(conn: AsyncConnection, rows: Sequence[nouns.Row]) -> list[Entry]:
    related: dict[str, list[tuple[str, str]]] = {}
    own, other = ("user_id", "group_id") if rows and rows[0]["kind"] == "User" else ("group_id", "user_id")
    joined = select(members.c[own], provisioned.c.id, provisioned.c.name).join(
        provisioned, provisioned.c.id == members.c[other]
    )
    ids = [row["id"] for row in rows]
    for start in range(0, len(ids), 500):
        found = joined.where(members.c[own].in_(ids[start : start + 500])).order_by(provisioned.c.id)
        for owner, id, name in await conn.execute(found):
            related.setdefault(owner, []).append((id, name))
    return [
        Entry(
            row["id"],
            Told(row["kind"], row["name"], row["external_id"], body=row["body"]),
            row["created_at"],
            row["updated_at"],
            tuple(related.get(row["id"], ())),
        )
        for row in rows
    ]


async def _set_active(write: Write, told: Told) -> None:
    await (accounts.activate if told.active else accounts.deactivate)(write, told.name)


async def _set_members(write: Write, id: str, told: Told) -> None:
    if told.kind != "Group":
        return
    query = select(provisioned.c.id).where(provisioned.c.kind == "User", provisioned.c.id.in_(told.members))
    known = set((await write.conn.execute(query)).scalars())
    if strange := [member for member in told.members if member not in known]:
        raise InvalidNoun(f"there is no user {strange[0][:64]!r}", "members")
    await write.conn.execute(delete(members).where(members.c.group_id == id))
    if known:
        await write.conn.execute(insert(members), [{"group_id": id, "user_id": member} for member in sorted(known)])


async def _refuse_taken(conn: AsyncConnection, told: Told, id: str) -> None:
    same = select(provisioned.c.id).where(
        provisioned.c.kind == told.kind, provisioned.c.folded == told.name.casefold(), provisioned.c.id != id
    )
    if (await conn.execute(same)).first() is not None:
        raise Conflict(f"there is a {told.kind} {told.name!r} already")


def _check(told: Told) -> None:
    if len(told.name) > MAX_NAME or not is_tag_value(told.name):
        place = "userName" if told.kind == "User" else "displayName"
        raise InvalidNoun(f"must be 1 to {MAX_NAME} printable characters without ',' and '='", place)
    if len(told.external_id) > MAX_EXTERNAL_ID:
        raise InvalidNoun(f"has at most {MAX_EXTERNAL_ID} characters", "externalId")


def _columns(told: Told) -> nouns.Row:
    return {"name": told.name, "folded": told.name.casefold(), "external_id": told.external_id, "body": told.body}


def _about(told: Told) -> tuple[str, str]:
    return ("scim_user" if told.kind == "User" else "scim_group", told.name)
