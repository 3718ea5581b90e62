"""Teams: who owns projects, keys and money. `required_tags`: tags that every call of the team must carry."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.config.settings import DeclaredTeam
from penstock.control import nouns
from penstock.control.paging import Listing, Page
from penstock.control.write import Write
from penstock.domain.access import EVERYTHING, Reach
from penstock.store.tables.control import teams


def _shown(row: nouns.Row) -> dict[str, Any]:
    return {"name": row["name"], "required_tags": row["required_tags"]}


TEAM = nouns.Noun("team", teams, _shown)


async def create(write: Write, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields: name, required_tags."""
    return await nouns.add(write, TEAM, _columns(fields))


async def update(write: Write, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    row = await nouns.fetch_writable(write, TEAM, name)
    return await nouns.alter(write, TEAM, row, _columns(nouns.merged(_shown(row), changes)))


async def delete(write: Write, name: str) -> None:
    await nouns.remove(write, TEAM, name)


async def show(conn: AsyncConnection, name: str, reach: Reach = EVERYTHING) -> dict[str, Any]:
    return await nouns.show(conn, TEAM, name, reach)


async def list_page(conn: AsyncConnection, page: Page, reach: Reach = EVERYTHING) -> Listing:
    return await nouns.list_page(conn, TEAM, page, reach)


def _columns(fields: Mapping[str, Any]) -> nouns.Row:
    return nouns.validated(DeclaredTeam, fields).model_dump()
