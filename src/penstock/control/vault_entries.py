"""Entries of the vault: the credentials that the gateway itself keeps for providers. A value goes in and never out.

An entry is for one kind of provider at one address, for good: whoever could point it elsewhere could read it there. Its
versions are sealed; the newest whose time has come serves, and what it replaced is deleted.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple

from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import delete as delete_rows
from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.config.environment import MAX_SECRET_BYTES, VAULT, one_line, vault_name
from penstock.config.settings import OWN_KINDS, VENDOR_KINDS, VENDORS_TOLD, DeclaredProvider
from penstock.config.values import BaseUrl, Moment, Name, SpanS, one_of
from penstock.control import audit, nouns, references
from penstock.control.paging import Listing, Page
from penstock.control.write import Write
from penstock.domain.access import EVERYTHING, Reach
from penstock.domain.snapshot import Secret
from penstock.domain.vendors import needs_address
from penstock.errors import ConfigError, InvalidNoun
from penstock.providers.base import origin_of
from penstock.records.receipts import rfc3339
from penstock.store.tables.control import credentials, providers
from penstock.store.tables.vault import credential_versions

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)
_SECOND_NS = 1_000_000_000
_DAY_S = 86_400

_Value = Annotated[str, Field(min_length=1, max_length=MAX_SECRET_BYTES)]


class Credential(BaseModel):
    """`provider`: one that exists, whose kind and address it is for; else `kind` and `base_url` say so. `team`: whose
    calls it serves; empty: everybody's. `rotate_every`: when the gateway begins to say that it is old."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, defer_build=True)

    name: Name
    value: _Value
    provider: Name = ""
    kind: Annotated[str, one_of(*OWN_KINDS, more=VENDOR_KINDS, told=VENDORS_TOLD)] = ""
    base_url: BaseUrl = ""
    team: Name = ""
    rotate_every: SpanS | None = None


class Rotation(BaseModel):
    """`active_from`: when the new value begins to serve; left out: now."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, defer_build=True)

    value: _Value
    active_from: Moment | None = None


class CredentialUpdate(BaseModel):
    """All that can be changed without the value."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    rotate_every: SpanS | None


class Version(Struct, frozen=True):
    """One sealed value of an entry. `context`: what it is bound to."""

    id: str
    credential: str
    version: int
    data_key: str
    sealed: bytes
    active_from: int
    context: tuple[str, ...]


class Serving(NamedTuple):
    """A version whose time has come, and what its entry is for."""

    id: str
    entry: str
    kind: str
    address: str
    team: str


@dataclass(frozen=True)
class Sealed:
    """What the vault has made of a value before it is written."""

    id: str
    data_key: str
    content: bytes


def _shown(row: nouns.Row) -> dict[str, Any]:
    every = row["rotate_every"]
    return {
        **{column: row[column] for column in ("name", "kind", "address", "team", "version")},
        "rotate_every": None if every is None else _span(every),
        "rotated_at": rfc3339(row["rotated_at"]),
        "active_from": rfc3339(row["active_from"]),
        "due_at": None if every is None else rfc3339(row["rotated_at"] + every * _SECOND_NS),
    }


ENTRY = nouns.Noun("credential", credentials, _shown)


def new_id() -> str:
    return f"cv_{uuid.uuid4().hex}"


def context(entry: Mapping[str, Any], version_id: str) -> tuple[str, ...]:
    """What a value of `entry` is bound to."""
    return ("credential", *(str(entry[field]) for field in ("name", "kind", "address", "team")), version_id)


def address_of(base_url: str) -> str:
    """The origin of a provider's address; empty for the vendor's own."""
    if not base_url:
        return ""
    origin, _ = origin_of(base_url)
    return f"{origin.scheme}://{origin.host}:{origin.port}"


def checked_value(value: str) -> Secret:
    """A value as it can be sent, or InvalidNoun, which does not repeat it."""
    try:
        return Secret(one_line(value, "the value"))
    except ConfigError as error:
        raise InvalidNoun(str(error), "value") from None


async def place_of(conn: AsyncConnection, asked: Credential) -> dict[str, str]:
    """The entry's name, kind, address and team."""
    kind, base_url = asked.kind, asked.base_url
    if bool(asked.provider) == bool(kind):
        raise InvalidNoun("name the provider that it is for, or its kind (and base_url)", "provider")
    if asked.provider:
        found = await conn.execute(select(providers.c.kind, providers.c.base_url).where(_named(asked.provider)))
        if (row := found.first()) is None:
            raise InvalidNoun(f"there is no provider {asked.provider!r}", "provider")
        kind, base_url = row.kind, row.base_url
    if kind == "simulated":
        raise InvalidNoun("a provider of kind simulated takes no credential: nothing is sent", "kind")
    if not base_url and needs_address(kind):
        raise InvalidNoun(f"a credential for kind {kind} is for one address: say which", "base_url")
    return {"name": asked.name, "kind": kind, "address": address_of(base_url), "team": asked.team}


def _named(provider: str) -> Any:
    return providers.c.name == provider


async def create(write: Write, place: Mapping[str, str], rotate_every: int | None, sealed: Sealed) -> dict[str, Any]:
    """A new entry with its first version."""
    if place["team"]:
        await references.require(write.conn, "team", place["team"], "team")
    times = {"rotated_at": write.at, "active_from": write.at}
    row = {**place, "rotate_every": rotate_every, "version": 1, **times}
    shown = await nouns.add(write, ENTRY, row)
    await _keep(write, place["name"], 1, sealed, write.at)
    return shown


async def rotate(write: Write, name: str, sealed: Sealed, active_from: datetime | None) -> dict[str, Any]:
    """The next version, which serves from `active_from` on. One that was staged before and never served is replaced."""
    row = await nouns.fetch_writable(write, ENTRY, name)
    begins = write.at if active_from is None else _nanoseconds(active_from)
    if active_from is not None and begins <= write.at:
        raise InvalidNoun("lies in the past: leave it out to begin now", "active_from")
    await _drop_all_but_serving(write.conn, name, write.at)
    await _keep(write, name, row["version"] + 1, sealed, begins)
    changes = {"version": row["version"] + 1, "rotated_at": write.at, "active_from": begins}
    shown = await nouns.alter(write, ENTRY, row, changes, "rotate")
    if begins <= write.at:
        await _drop_all_but_serving(write.conn, name, write.at)
    return shown


async def activate(write: Write, name: str) -> None:
    """Deletes what the version replaced whose time has come, which also tells everybody that it has."""
    if await _drop_all_but_serving(write.conn, name, write.at, keep_staged=True):
        row = await nouns.fetch(write.conn, ENTRY, name)
        await audit.record(write, "activate", ("credential", name), None, nouns.public(ENTRY, row))


async def update(write: Write, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    row = await nouns.fetch_writable(write, ENTRY, name)
    asked = nouns.validated(CredentialUpdate, changes)
    return await nouns.alter(write, ENTRY, row, asked.model_dump())


async def delete(write: Write, name: str) -> None:
    """Conflict while a provider uses it. All its values are deleted with it."""
    await nouns.remove(write, ENTRY, name)
    await write.conn.execute(delete_rows(credential_versions).where(credential_versions.c.credential == name))


async def show(conn: AsyncConnection, name: str, reach: Reach = EVERYTHING) -> dict[str, Any]:
    return await nouns.show(conn, ENTRY, name, reach)


async def list_page(conn: AsyncConnection, page: Page, reach: Reach = EVERYTHING) -> Listing:
    return await nouns.list_page(conn, ENTRY, page, reach)


async def require(conn: AsyncConnection, provider: DeclaredProvider) -> None:
    """InvalidNoun unless each entry that `provider` refers to is there and meant for it."""
    for index, credential in enumerate(provider.credentials):
        name, place = vault_name(credential.value), f"credentials[{index}].value"
        if name is None:
            continue
        row = await nouns.find(conn, ENTRY, name)
        if row is None:
            raise InvalidNoun(f"there is no credential {name!r} in the vault: penstock credential create", place)
        if (row["kind"], row["address"]) != (provider.kind, address_of(provider.base_url)):
            meant = f"kind {row['kind']} at {row['address'] or 'the address of the vendor'}"
            raise InvalidNoun(f"{VAULT}{name} is for {meant}, not for this provider", place)


async def serving(conn: AsyncConnection, names: set[str], at: int) -> dict[str, list[Serving]]:
    """Entry -> its versions whose time has come, the newest first: one that cannot be opened leaves its place to the
    one before it."""
    table = credential_versions
    columns = (table.c.id, table.c.credential, credentials.c.kind, credentials.c.address, credentials.c.team)
    query = select(*columns).join(credentials, credentials.c.name == table.c.credential)
    query = query.where(table.c.credential.in_(sorted(names)), table.c.active_from <= at)
    found: dict[str, list[Serving]] = {}
    for row in await conn.execute(query.order_by(table.c.version.desc())):
        found.setdefault(row.credential, []).append(Serving(*row))
    return found


async def versions(conn: AsyncConnection) -> list[Version]:
    """Every value that the vault keeps, sealed."""
    table = credential_versions
    query = select(table, credentials.c.kind, credentials.c.address, credentials.c.team)
    found = []
    for row in (await conn.execute(query.join(credentials, credentials.c.name == table.c.credential))).mappings():
        fields = {name: row[name] for name in Version.__struct_fields__ if name != "context"}
        found.append(Version(**fields, context=context({**row, "name": row["credential"]}, row["id"])))
    return found


async def due(conn: AsyncConnection) -> dict[str, int]:
    """Entry -> when it is to be rotated, in Unix nanoseconds; those that say how old they may become."""
    columns = (credentials.c.name, credentials.c.rotated_at, credentials.c.rotate_every)
    rows = await conn.execute(select(*columns).where(credentials.c.rotate_every.is_not(None)))
    return {row.name: row.rotated_at + row.rotate_every * _SECOND_NS for row in rows}


async def begun(conn: AsyncConnection, at: int) -> list[str]:
    """The entries of which a version's time has come that has not replaced the one before it yet."""
    table = credential_versions
    query = select(table.c.credential).where(table.c.active_from <= at).group_by(table.c.credential)
    return list((await conn.execute(query.having(func.count() > 1))).scalars())


async def record_opened(write: Write, opened: Sequence[Version], node: str) -> None:
    """That the values were opened, and on which box."""
    for version in opened:
        after = {"version": version.version, "node": node}
        await audit.record(write, "open", ("credential", version.credential), None, after)


async def record_key(write: Write, action: str, key_id: str, after: dict[str, Any]) -> None:
    """What was done with a data key."""
    await audit.record(write, action, ("data_key", key_id), None, after)


async def _keep(write: Write, name: str, version: int, sealed: Sealed, active_from: int) -> None:
    row = {"id": sealed.id, "credential": name, "version": version, "data_key": sealed.data_key}
    row |= {"sealed": sealed.content, "active_from": active_from}
    await write.conn.execute(insert(credential_versions).values(row))


async def _drop_all_but_serving(conn: AsyncConnection, name: str, at: int, keep_staged: bool = False) -> int:
    """How many versions were deleted."""
    table = credential_versions
    of_it = table.c.credential == name
    serving = select(func.max(table.c.version)).where(of_it, table.c.active_from <= at).scalar_subquery()
    number = (await conn.execute(select(serving))).scalar() or 0
    rest = table.c.version < number if keep_staged else table.c.version != number
    return (await conn.execute(delete_rows(table).where(of_it, rest))).rowcount


def _nanoseconds(moment: datetime) -> int:
    if not _EPOCH <= moment <= _LATEST:
        raise InvalidNoun("a time lies between the years 1970 and 2200", "active_from")
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000


def _span(seconds: int) -> str:
    return f"{seconds // _DAY_S}d" if seconds % _DAY_S == 0 else f"{seconds // 3_600}h"


def refuse_unless_vaulted(provider: DeclaredProvider) -> None:
    """InvalidNoun for a reference that only the file of a box may have."""
    for index, credential in enumerate(provider.credentials):
        if vault_name(credential.value) is None:
            raise InvalidNoun(
                "env: and file: references stand in the configuration file alone; use vault:NAME",
                f"credentials[{index}].value",
            )
