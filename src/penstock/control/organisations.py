"""Organisations: whose teams they are, where one gateway serves several. `default` is there from the start."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.config.settings import DeclaredOrganisation
from penstock.control import nouns
from penstock.control.paging import Listing, Page
from penstock.control.write import Write
from penstock.domain.access import EVERYTHING, Reach
from penstock.domain.tenancy import DEFAULT_ORGANISATION
from penstock.errors import Conflict
from penstock.store.tables.control import organisations

_KEEP = text(
    "INSERT INTO organisations (name, origin, created_at, created_by, updated_at)"
    " VALUES (:name, 'api', :at, 'penstock', :at) ON CONFLICT (name) DO NOTHING"
)


def _shown(row: nouns.Row) -> dict[str, Any]:
    return {"name": row["name"]}


ORGANISATION = nouns.Noun("organisation", organisations, _shown)


async def keep_default(conn: AsyncConnection, at: int) -> None:
    """Makes the organisation that a new store begins with. `at`: Unix nanoseconds."""
    await conn.execute(_KEEP, {"name": DEFAULT_ORGANISATION, "at": at})


async def create(write: Write, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields: name."""
    return await nouns.add(write, ORGANISATION, nouns.validated(DeclaredOrganisation, fields).model_dump())


async def delete(write: Write, name: str) -> None:
    if name == DEFAULT_ORGANISATION:
        raise Conflict(f"organisation {name!r} stays: teams that name no other are its own")
    await nouns.remove(write, ORGANISATION, name)


async def show(conn: AsyncConnection, name: str, reach: Reach = EVERYTHING) -> dict[str, Any]:
    return await nouns.show(conn, ORGANISATION, name, reach)


async def list_page(conn: AsyncConnection, page: Page, reach: Reach = EVERYTHING) -> Listing:
    return await nouns.list_page(conn, ORGANISATION, page, reach)
