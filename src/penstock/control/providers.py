"""Providers: the vendor accounts that calls may go to. Where a call can go is the operator's word alone.

A credential is a name here. Its value lives in the control process, which resolves it from the configuration file and
sends it to no other address than the one declared beside it; so a provider made through the API has none.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.config.settings import DeclaredProvider
from penstock.control import nouns
from penstock.control.paging import Listing, Page
from penstock.control.write import Write
from penstock.domain.access import EVERYTHING, Reach
from penstock.errors import InvalidNoun
from penstock.store.tables.control import providers

_TIMEOUTS = ("connect", "first_byte", "between_chunks", "total")


def _shown(row: nouns.Row) -> dict[str, Any]:
    shown = {column: row[column] for column in ("name", "kind", "base_url", "headers", "options")}
    timeouts = {name: f"{row['timeouts'][name + '_ms']}ms" for name in _TIMEOUTS}
    return {**shown, "timeouts": timeouts, "credentials": [{"name": name} for name in row["credentials"]]}


PROVIDER = nouns.Noun("provider", providers, _shown)


async def create(write: Write, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields: name, kind, base_url, timeouts, headers, options; as in the configuration file."""
    return await nouns.add(write, PROVIDER, columns(_given(fields)))


async def update(write: Write, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    row = await nouns.fetch_writable(write, PROVIDER, name)
    current = _shown(row)
    if "timeouts" in changes and isinstance(changes["timeouts"], Mapping):
        changes = {**changes, "timeouts": {**current["timeouts"], **changes["timeouts"]}}
    return await nouns.alter(write, PROVIDER, row, columns(_given(nouns.merged(current, changes))))


async def delete(write: Write, name: str) -> None:
    await nouns.remove(write, PROVIDER, name)


async def show(conn: AsyncConnection, name: str, reach: Reach = EVERYTHING) -> dict[str, Any]:
    return await nouns.show(conn, PROVIDER, name, reach)


async def list_page(conn: AsyncConnection, page: Page, reach: Reach = EVERYTHING) -> Listing:
    return await nouns.list_page(conn, PROVIDER, page, reach)


def columns(provider: DeclaredProvider) -> nouns.Row:
    return {
        "name": provider.name,
        "kind": provider.kind,
        "base_url": provider.base_url,
        "credentials": [credential.name for credential in provider.credentials],
        "timeouts": msgspec.to_builtins(provider.timeouts),
        "headers": provider.headers,
        "options": provider.options,
    }


def _given(fields: Mapping[str, Any]) -> DeclaredProvider:
    if fields.get("credentials"):
        raise InvalidNoun(
            "credentials are declared in the configuration file, as env: or file: references", "credentials"
        )
    return nouns.validated(DeclaredProvider, fields)
