"""Teams: who owns projects, keys and money. `required_tags`: tags that every call of the team must carry."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.control import nouns
from penstock.control.paging import Listing, Page
from penstock.control.write import Write
from penstock.errors import InvalidNoun
from penstock.store.tables.control import teams


class Team(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    required_tags: list[str] = field(default_factory=list)


def _shown(row: nouns.Row) -> dict[str, Any]:
    return {"name": row["name"], "required_tags": row["required_tags"]}


TEAM = nouns.Noun("team", teams, _shown)


def check(team: Team) -> None:
    for index, tag in enumerate(team.required_tags):
        place = f"required_tags[{index}]"
        nouns.check_name(tag, place)
        if "=" in tag:
            raise InvalidNoun("a tag is required by name, without a value", place)
        if tag in team.required_tags[:index]:
            raise InvalidNoun(f"{tag!r} is required twice", place)


async def create(write: Write, fields: Mapping[str, Any]) -> dict[str, Any]:
    team = nouns.decode(Team, fields)
    check(team)
    return await nouns.add(write, TEAM, {"name": team.name, "required_tags": team.required_tags})


async def update(write: Write, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    row = await nouns.fetch_writable(write, TEAM, name)
    team = nouns.merged(Team, Team(row["name"], row["required_tags"]), changes)
    check(team)
    return await nouns.alter(write, TEAM, row, {"required_tags": team.required_tags})


async def delete(write: Write, name: str) -> None:
    await nouns.remove(write, TEAM, name)


async def show(conn: AsyncConnection, name: str) -> dict[str, Any]:
    return await nouns.show(conn, TEAM, name)


async def list_page(conn: AsyncConnection, page: Page) -> Listing:
    return await nouns.list_page(conn, TEAM, page)
