"""Projects: what a team works on, in which environment."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.config.settings import DeclaredProject
from penstock.control import nouns, references
from penstock.control.paging import Listing, Page
from penstock.control.write import Write
from penstock.domain.access import EVERYTHING, Reach
from penstock.store.tables.control import projects


def _shown(row: nouns.Row) -> dict[str, Any]:
    return {"name": row["name"], "team": row["team"], "environment": row["environment"]}


PROJECT = nouns.Noun("project", projects, _shown)


async def create(write: Write, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields: name, team, environment."""
    return await nouns.add(write, PROJECT, await _columns(write, fields))


async def update(write: Write, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A project with keys cannot change hands: their limits and their history are the team's."""
    row = await nouns.fetch_writable(write, PROJECT, name)
    columns = await _columns(write, nouns.merged(_shown(row), changes))
    if columns["team"] != row["team"] and write.origin == "api":
        await references.refuse_in_use(write.conn, "project", row["name"])
    return await nouns.alter(write, PROJECT, row, columns)


async def delete(write: Write, name: str) -> None:
    await nouns.remove(write, PROJECT, name)


async def show(conn: AsyncConnection, name: str, reach: Reach = EVERYTHING) -> dict[str, Any]:
    return await nouns.show(conn, PROJECT, name, reach)


async def list_page(conn: AsyncConnection, page: Page, reach: Reach = EVERYTHING) -> Listing:
    return await nouns.list_page(conn, PROJECT, page, reach)


async def _columns(write: Write, fields: Mapping[str, Any]) -> nouns.Row:
    columns = nouns.validated(DeclaredProject, fields).model_dump()
    await references.require(write.conn, "team", columns["team"], "team", write.by.reach)
    return columns
