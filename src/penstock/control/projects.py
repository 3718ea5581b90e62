"""Projects: what a team works on, in which environment. A project belongs to one team for good."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.control import nouns, references
from penstock.control.paging import Listing, Page
from penstock.control.write import Write
from penstock.errors import InvalidNoun
from penstock.store.tables.control import projects


class Project(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    team: str
    environment: str = ""


def _shown(row: nouns.Row) -> dict[str, Any]:
    return {"name": row["name"], "team": row["team"], "environment": row["environment"]}


PROJECT = nouns.Noun("project", projects, _shown)


async def create(write: Write, fields: Mapping[str, Any]) -> dict[str, Any]:
    project = nouns.decode(Project, fields)
    await references.require(write.conn, "team", project.team, "team")
    _check_environment(project)
    row = {"name": project.name, "team": project.team, "environment": project.environment}
    return await nouns.add(write, PROJECT, row)


async def update(write: Write, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A project with keys cannot change hands: their limits and their history are the team's."""
    row = await nouns.fetch_writable(write, PROJECT, name)
    project = nouns.merged(Project, Project(row["name"], row["team"], row["environment"]), changes)
    await references.require(write.conn, "team", project.team, "team")
    _check_environment(project)
    if project.team != row["team"]:
        await references.refuse_in_use(write.conn, "project", row["name"])
    return await nouns.alter(write, PROJECT, row, {"team": project.team, "environment": project.environment})


async def delete(write: Write, name: str) -> None:
    await nouns.remove(write, PROJECT, name)


async def show(conn: AsyncConnection, name: str) -> dict[str, Any]:
    return await nouns.show(conn, PROJECT, name)


async def list_page(conn: AsyncConnection, page: Page) -> Listing:
    return await nouns.list_page(conn, PROJECT, page)


def _check_environment(project: Project) -> None:
    if project.environment:
        nouns.check_name(project.environment, "environment")
    if not project.team:
        raise InvalidNoun("a project belongs to a team", "team")
