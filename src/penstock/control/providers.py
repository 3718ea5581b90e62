"""Providers: the vendor accounts that calls may go to. Where a call can go is the operator's word alone.

A credential is a name here. Its value is an entry of the vault, or stands where the file of a box says; either way it
is sent to no other address than the one that it was given for. A provider made through the API has those of the vault.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.config.environment import VAULT, vault_name
from penstock.config.settings import DeclaredCredential, DeclaredProvider
from penstock.control import nouns, vault_entries
from penstock.control.paging import Listing, Page
from penstock.control.write import Write
from penstock.domain.access import EVERYTHING, Reach
from penstock.store.tables.control import providers

_TIMEOUTS = ("connect", "first_byte", "between_chunks", "total")


def _shown(row: nouns.Row) -> dict[str, Any]:
    shown = {column: row[column] for column in ("name", "kind", "base_url", "headers", "options")}
    timeouts = {name: f"{row['timeouts'][name + '_ms']}ms" for name in _TIMEOUTS}
    credentials = [{"name": name, **_terms(row["credential_terms"].get(name, {}))} for name in row["credentials"]]
    return {**shown, "timeouts": timeouts, "credentials": credentials}


def _terms(kept: Mapping[str, Any]) -> dict[str, Any]:
    """As they are written."""
    reference = {"value": VAULT + kept["vault"]} if "vault" in kept else {}
    return {**reference, "weight": kept.get("weight", 1)}


def _kept(credential: DeclaredCredential) -> dict[str, Any]:
    """Where its value is, if that is the vault, and its weight. A reference of a box stays in the box's file."""
    entry = vault_name(credential.value)
    return ({} if entry is None else {"vault": entry}) | {"weight": credential.weight}


PROVIDER = nouns.Noun("provider", providers, _shown)


async def create(write: Write, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields: name, kind, base_url, credentials (of the vault), timeouts, headers, options; as in the configuration
    file."""
    return await nouns.add(write, PROVIDER, await _checked(write.conn, fields))


async def update(write: Write, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    row = await nouns.fetch_writable(write, PROVIDER, name)
    current = _shown(row)
    if "timeouts" in changes and isinstance(changes["timeouts"], Mapping):
        changes = {**changes, "timeouts": {**current["timeouts"], **changes["timeouts"]}}
    return await nouns.alter(write, PROVIDER, row, await _checked(write.conn, nouns.merged(current, changes)))


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
        "credential_terms": {credential.name: _kept(credential) for credential in provider.credentials},
        "timeouts": msgspec.to_builtins(provider.timeouts),
        "headers": provider.headers,
        "options": provider.options,
    }


async def _checked(conn: AsyncConnection, fields: Mapping[str, Any]) -> nouns.Row:
    provider = nouns.validated(DeclaredProvider, fields)
    vault_entries.refuse_unless_vaulted(provider)
    await vault_entries.require(conn, provider)
    return columns(provider)
