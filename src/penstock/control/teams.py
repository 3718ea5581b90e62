"""Teams: who owns projects, keys and money, and which tags each of their calls must carry."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.config.settings import DeclaredTeam
from penstock.control import nouns, references
from penstock.control.paging import Listing, Page
from penstock.control.write import Write
from penstock.domain.access import EVERYTHING, Reach
from penstock.store.tables.control import teams


def _shown(row: nouns.Row) -> dict[str, Any]:
    return {column: row[column] for column in ("name", "organisation", "required_tags", "tags_from")}


TEAM = nouns.Noun("team", teams, _shown)


async def create(write: Write, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields: name, organisation, required_tags, tags_from."""
    return await nouns.add(write, TEAM, await columns(write, nouns.validated(DeclaredTeam, fields)))


async def update(write: Write, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    row = await nouns.fetch_writable(write, TEAM, name)
    team = nouns.validated(DeclaredTeam, nouns.merged(_shown(row), changes))
    return await nouns.alter(write, TEAM, row, await columns(write, team, row))


async def delete(write: Write, name: str) -> None:
    await nouns.remove(write, TEAM, name)


async def show(conn: AsyncConnection, name: str, reach: Reach = EVERYTHING) -> dict[str, Any]:
    return await nouns.show(conn, TEAM, name, reach)


async def list_page(conn: AsyncConnection, page: Page, reach: Reach = EVERYTHING) -> Listing:
    return await nouns.list_page(conn, TEAM, page, reach)


async def columns(write: Write, team: DeclaredTeam, before: nouns.Row | None = None) -> nouns.Row:
    """The columns of `team`, once its organisation is there. Whoever reaches only teams takes none to another one."""
    if before is None or team.organisation != before["organisation"]:
        await references.require(write.conn, "organisation", team.organisation, "organisation", write.by.reach)
    return team.model_dump()
