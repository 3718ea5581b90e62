"""Virtual keys: who may call, as whom, for which models, until when. A secret is shown once and never stored."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.config.values import AliasName, Moment, Name, TagValue, unique
from penstock.control import nouns, references
from penstock.control.paging import Listing, Page
from penstock.control.tenancy import team_of_project
from penstock.control.write import Write
from penstock.domain.access import EVERYTHING, Reach
from penstock.errors import Conflict, InvalidNoun
from penstock.identity import virtual_keys
from penstock.records.receipts import rfc3339
from penstock.store.tables.control import keys

MAX_TAGS = 64
MAX_MODELS = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)


class Key(BaseModel):
    """`models`: alias patterns; empty allows every declared alias. `tags` are pinned: a caller cannot override them.
    `team` is the project's when it is empty."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    name: Name
    team: Name | Literal[""] = ""
    project: Name | Literal[""] = ""
    user: TagValue | Literal[""] = ""
    models: Annotated[list[AliasName], unique("the model")] = []
    tags: dict[Name, TagValue] = {}
    expires_at: Moment | None = None


def _shown(row: nouns.Row) -> dict[str, Any]:
    columns = ("id", "name", "team", "project", "user", "prefix", "models", "tags")
    shown = {column: row[column] for column in columns}
    for moment in ("expires_at", "revoked_at"):
        shown[moment] = None if row[moment] is None else rfc3339(row[moment])
    return shown


KEY = nouns.Noun("key", keys, _shown)


async def create(write: Write, pepper: bytes, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields: name, team, project, user, models, tags, expires_at. The key as it is shown, and `secret`, this once."""
    secret = virtual_keys.mint()
    return {**await add(write, pepper, nouns.validated(Key, fields), secret), "secret": secret}


async def add(write: Write, pepper: bytes, key: Key, secret: str) -> dict[str, Any]:
    """A key with a secret that exists already. One that another key has is Conflict."""
    digest = virtual_keys.digest(pepper, secret)
    await _refuse_shared(write.conn, digest, key.name)
    identity = {"id": f"key_{uuid.uuid4().hex}", "digest": digest, "prefix": virtual_keys.prefix(secret)}
    return await nouns.add(write, KEY, {**await _columns(write, key), **identity, "revoked_at": None})


async def update(write: Write, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    row = await nouns.fetch_writable(write, KEY, name)
    if changes.get("project") and "team" not in changes:
        changes = {**changes, "team": ""}
    current = {field: value for field, value in _shown(row).items() if field in Key.model_fields}
    key = nouns.validated(Key, nouns.merged(current, changes))
    return await nouns.alter(write, KEY, row, await _columns(write, key, row))


async def put(write: Write, key: Key) -> dict[str, Any]:
    """Writes the whole key over the one of that name; its secret stays."""
    row = await nouns.fetch_writable(write, KEY, key.name)
    return await nouns.alter(write, KEY, row, await _columns(write, key, row))


async def replace_secret(write: Write, pepper: bytes, name: str, secret: str) -> bool:
    """Gives a key the secret `secret` in place of its own. Whether that changed anything."""
    row = await nouns.fetch_writable(write, KEY, name)
    digest = virtual_keys.digest(pepper, secret)
    if digest == row["digest"]:
        return False
    await _refuse_shared(write.conn, digest, row["name"])
    await nouns.alter(write, KEY, row, {"digest": digest, "prefix": virtual_keys.prefix(secret)}, "rotate")
    return True


async def revoke(write: Write, name: str) -> dict[str, Any]:
    """From now on the key is refused, for good; it stays listed. Revoking it again changes nothing."""
    row = await nouns.fetch_writable(write, KEY, name)
    if row["revoked_at"] is not None:
        return nouns.public(KEY, row)
    return await nouns.alter(write, KEY, row, {"revoked_at": write.at}, "revoke")


async def delete(write: Write, name: str) -> None:
    await nouns.remove(write, KEY, name)


async def show(conn: AsyncConnection, name: str, reach: Reach = EVERYTHING) -> dict[str, Any]:
    return await nouns.show(conn, KEY, name, reach)


async def list_page(conn: AsyncConnection, page: Page, reach: Reach = EVERYTHING) -> Listing:
    return await nouns.list_page(conn, KEY, page, reach)


async def _columns(write: Write, key: Key, before: nouns.Row | None = None) -> nouns.Row:
    """The columns of `key`, after every rule. `before`: the row as it was; what stays as it was is not judged anew."""
    if key.user:
        await references.require(write.conn, "user", key.user, "user", write.by.reach)
    if before is None or key.models != before["models"]:
        await _check_models(write.conn, key.models)
    if len(key.tags) > MAX_TAGS:
        raise InvalidNoun(f"a key pins up to {MAX_TAGS} tags", "tags")
    expires_at = None if key.expires_at is None else _nanoseconds(key.expires_at)
    if expires_at is not None and expires_at <= write.at and (before is None or expires_at != before["expires_at"]):
        raise InvalidNoun("the key would be expired already", "expires_at")
    named = key.model_dump(include={"name", "project", "user", "models", "tags"})
    return {**named, "team": await _team(write, key), "expires_at": expires_at}


async def _team(write: Write, key: Key) -> str:
    """The key's team: the one it names, else its project's."""
    if key.project:
        await references.require(write.conn, "project", key.project, "project", write.by.reach)
    owner = await team_of_project(write.conn, key.project)
    if key.team and key.team != owner:
        await references.require(write.conn, "team", key.team, "team", write.by.reach)
    if owner is None:
        return key.team
    if key.team not in {"", owner}:
        raise InvalidNoun(f"project {key.project!r} belongs to team {owner!r}, not to {key.team!r}", "project")
    return owner


async def _check_models(conn: AsyncConnection, allowed: list[str]) -> None:
    if len(allowed) > MAX_MODELS:
        raise InvalidNoun(f"a key names up to {MAX_MODELS} models", "models")
    declared = await references.model_names(conn) if allowed else []
    for index, name in enumerate(allowed):
        if not references.covered(name, declared):
            raise InvalidNoun(f"there is no model {name!r}", f"models[{index}]")


def _nanoseconds(moment: datetime) -> int:
    """Unix nanoseconds of `moment`, in whole numbers all the way."""
    if not _EPOCH <= moment <= _LATEST:
        raise InvalidNoun("a time lies between the years 1970 and 2200", "expires_at")
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000


async def _refuse_shared(conn: AsyncConnection, digest: str, name: str) -> None:
    holder = (await conn.execute(select(keys.c.name).where(keys.c.digest == digest))).scalar()
    if holder is not None and holder != name:
        raise Conflict(f"key {holder!r} has this secret already", "secret")
