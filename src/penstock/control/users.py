"""Users: the people and services whom keys belong to. A user is a name; usage and limits refer to it."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.config.values import TagValue
from penstock.control import nouns
from penstock.control.paging import Listing, Page
from penstock.control.write import Write
from penstock.store.tables.control import users


class User(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: TagValue


def _shown(row: nouns.Row) -> dict[str, Any]:
    return {"name": row["name"]}


USER = nouns.Noun("user", users, _shown)


async def create(write: Write, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields: name."""
    return await nouns.add(write, USER, nouns.validated(User, fields).model_dump())


async def delete(write: Write, name: str) -> None:
    await nouns.remove(write, USER, name)


async def show(conn: AsyncConnection, name: str) -> dict[str, Any]:
    return await nouns.show(conn, USER, name)


async def list_page(conn: AsyncConnection, page: Page) -> Listing:
    return await nouns.list_page(conn, USER, page)
