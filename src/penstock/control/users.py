"""Users: the people and services whom keys belong to, and to whom roles are bound. Usage and limits refer to them."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.config.values import TagValue
from penstock.control import nouns, sessions
from penstock.control.paging import Listing, Page
from penstock.control.write import Write
from penstock.domain.access import EVERYTHING, Reach
from penstock.store.tables.access import passwords
from penstock.store.tables.control import users

Kind = Literal["person", "service"]


class User(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)

    name: TagValue
    kind: Kind = "person"


def _shown(row: nouns.Row) -> dict[str, Any]:
    return {"name": row["name"], "kind": row["kind"], "active": bool(row["active"])}


USER = nouns.Noun("user", users, _shown)


async def create(write: Write, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields: name, kind (person, or service: an account of a machine, which never signs in)."""
    return await add(write, nouns.validated(User, fields))


async def add(write: Write, user: User) -> dict[str, Any]:
    return await nouns.add(write, USER, {**user.model_dump(), "active": 1})


async def delete(write: Write, name: str) -> None:
    await nouns.remove(write, USER, name)
    await sessions.end_all_of(write, name)
    await write.conn.execute(passwords.delete().where(passwords.c.user == name))


async def show(conn: AsyncConnection, name: str, reach: Reach = EVERYTHING) -> dict[str, Any]:
    return await nouns.show(conn, USER, name, reach)


async def list_page(conn: AsyncConnection, page: Page, reach: Reach = EVERYTHING) -> Listing:
    return await nouns.list_page(conn, USER, page, reach)
