"""Virtual keys: who may call, as whom, for which models, until when. A secret is shown once and never stored."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from msgspec import structs
from pydantic import BaseModel, ConfigDict, model_validator
from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.config.lineage import INHERITED, inherited
from penstock.config.settings import AllowedTags, Cidrs, DeclaredKey, Surfaces, refuse_pins
from penstock.config.values import AliasName, GraceMs, Moment, Name, TagValue, unique
from penstock.control import key_activity, lineage, nouns, references
from penstock.control.paging import Listing, Page
from penstock.control.tenancy import team_of_project
from penstock.control.write import Write
from penstock.domain.access import EVERYTHING, Reach
from penstock.errors import Conflict, InvalidNoun
from penstock.identity import virtual_keys
from penstock.records.receipts import rfc3339
from penstock.store.tables.control import NO_SECRET, keys

MAX_TAGS = 64
MAX_MODELS = 1_000
_RIGHTS = ("models", "surfaces", "allowed_cidrs", "tags", "allowed_tags")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)


class Key(BaseModel):
    """`models`: alias patterns; empty allows every declared alias. `tags` are pinned: a caller cannot override them.
    `allowed_tags`: the values that a tag may have. `parent`: the key under which it stands, so that it can do no more
    than that one. `tokens_only`: it has no secret; others get tokens of it. `team` is the project's when it is empty,
    and what the parent has, the key has as well."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, defer_build=True)

    name: Name
    team: Name | Literal[""] = ""
    project: Name | Literal[""] = ""
    user: TagValue | Literal[""] = ""
    models: Annotated[list[AliasName], unique("the model")] = []
    tags: dict[Name, TagValue] = {}
    allowed_tags: AllowedTags = {}
    surfaces: Surfaces = []
    allowed_cidrs: Cidrs = []
    parent: Name | Literal[""] = ""
    tokens_only: bool = False
    expires_at: Moment | None = None

    @model_validator(mode="after")
    def _pinned(self) -> "Key":
        refuse_pins(self.tags, self.allowed_tags)
        return self


def _shown(row: nouns.Row) -> dict[str, Any]:
    columns = ("id", "name", "team", "project", "user", "parent", "prefix", *_RIGHTS)
    shown = {column: row[column] for column in columns}
    for moment in ("expires_at", "revoked_at"):
        shown[moment] = None if row[moment] is None else rfc3339(row[moment])
    shown["tokens_only"] = row["digest"].startswith(NO_SECRET)
    return {**shown, "old_secret_until": rfc3339(row["old_until"]) if row["old_until"] else None}


KEY = nouns.Noun("key", keys, _shown)


class Rotation(BaseModel):
    """`grace`: how long the old secret is good as well; nothing: it is refused from now on."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)

    grace: GraceMs = 0


async def create(write: Write, pepper: bytes, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields: those of `Key`. The key as it is shown, and `secret`, this once; None for `tokens_only`."""
    key = nouns.validated(Key, fields)
    secret = None if key.tokens_only else virtual_keys.mint()
    return {**await add(write, pepper, key, secret), "secret": secret}


async def add(write: Write, pepper: bytes, key: Key, secret: str | None) -> dict[str, Any]:
    """A key with a secret that exists already, or without any. One that another key has is Conflict."""
    identity = {"id": f"key_{uuid.uuid4().hex}", "prefix": "" if secret is None else virtual_keys.prefix(secret)}
    if secret is None:
        identity["digest"] = NO_SECRET + identity["id"]
    else:
        identity["digest"] = virtual_keys.digest(pepper, secret)
        await _refuse_shared(write, identity["digest"], key.name)
    never = {"revoked_at": None, "old_digest": "", "old_until": 0}
    return await nouns.add(write, KEY, {**await _columns(write, key), **identity, **never})


async def update(write: Write, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    row = await nouns.fetch_writable(write, KEY, name)
    if changes.get("project") and "team" not in changes:
        changes = {**changes, "team": ""}
    current = {field: value for field, value in _shown(row).items() if field in Key.model_fields}
    return await _alter(write, row, nouns.validated(Key, nouns.merged(current, changes)))


async def put(write: Write, key: Key) -> dict[str, Any]:
    """Writes the whole key over the one of that name; its secret stays."""
    return await _alter(write, await nouns.fetch_writable(write, KEY, key.name), key)


async def _alter(write: Write, row: nouns.Row, key: Key) -> dict[str, Any]:
    if key.parent != row["parent"]:
        raise InvalidNoun("the parent of a key cannot be changed: create another", "parent")
    if key.tokens_only != row["digest"].startswith(NO_SECRET):
        raise InvalidNoun("whether a key has a secret cannot be changed: create another", "tokens_only")
    columns = await _columns(write, key, row)
    await lineage.refuse_strays(write.conn, columns)
    return await nouns.alter(write, KEY, row, columns)


async def rotate(write: Write, pepper: bytes, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Another secret for the key. Fields: those of `Rotation`. The key as it is shown, and `secret`, this once. A
    revoked key is Conflict."""
    asked = nouns.validated(Rotation, fields)
    row = await nouns.fetch_writable(write, KEY, name)
    if row["revoked_at"] is not None:
        raise Conflict(f"key {name!r} is revoked, for good: create another")
    if row["digest"].startswith(NO_SECRET):
        raise Conflict(f"key {name!r} has no secret that could be rotated")
    secret = virtual_keys.mint()
    return {**await _give(write, row, virtual_keys.digest(pepper, secret), secret, asked.grace), "secret": secret}


async def replace_secret(write: Write, pepper: bytes, key: DeclaredKey, secret: str) -> bool:
    """Gives a declared key the secret `secret` in place of its own. Whether that changed anything."""
    row = await nouns.fetch_writable(write, KEY, key.name)
    digest = virtual_keys.digest(pepper, secret)
    if digest == row["digest"]:
        return False
    await _refuse_shared(write, digest, row["name"])
    await _give(write, row, digest, secret, key.rotation_grace_ms)
    return True


async def _give(write: Write, row: nouns.Row, digest: str, secret: str, grace_ms: int) -> dict[str, Any]:
    """Of two rotations within one grace, the older secret goes at once."""
    old = {"old_digest": row["digest"], "old_until": write.at + grace_ms * 1_000_000}
    none = {"old_digest": "", "old_until": 0}
    given = {"digest": digest, "prefix": virtual_keys.prefix(secret), **(old if grace_ms else none)}
    return await nouns.alter(write, KEY, row, given, "rotate")


async def revoke(write: Write, name: str) -> dict[str, Any]:
    """From now on the key is refused, for good; it stays listed. Revoking it again changes nothing."""
    row = await nouns.fetch_writable(write, KEY, name)
    if row["revoked_at"] is not None:
        return nouns.public(KEY, row)
    return await nouns.alter(write, KEY, row, {"revoked_at": write.at}, "revoke")


async def delete(write: Write, name: str) -> None:
    await nouns.remove(write, KEY, name)


async def show(conn: AsyncConnection, name: str, reach: Reach = EVERYTHING) -> dict[str, Any]:
    """The key, with `last_used_at`: when a call with it began last, as far as it is noted yet."""
    (shown,) = await _with_use(conn, [await nouns.show(conn, KEY, name, reach)])
    return shown


async def list_page(conn: AsyncConnection, page: Page, reach: Reach = EVERYTHING) -> Listing:
    listing = await nouns.list_page(conn, KEY, page, reach)
    return structs.replace(listing, items=await _with_use(conn, listing.items))


async def _with_use(conn: AsyncConnection, shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A use from before the key was made was of another of its name."""
    used = await key_activity.last_used(conn, [key["name"] for key in shown])
    moments = {name: rfc3339(at) for name, at in used.items()}
    return [
        {**key, "last_used_at": at if (at := moments.get(key["name"])) and at >= key["created_at"] else None}
        for key in shown
    ]


async def _columns(write: Write, key: Key, before: nouns.Row | None = None) -> nouns.Row:
    """The columns of `key`, after every rule. `before`: the row as it was; what stays as it was is not judged anew."""
    parent = await lineage.parent_of(write, key.parent) if key.parent and before is None else None
    if parent is not None:
        key = key.model_copy(update=inherited(key.model_dump(include=set(INHERITED)), parent))
    if key.user:
        await references.require(write.conn, "user", key.user, "user", write.by.reach)
    if before is None or key.models != before["models"]:
        await _check_models(write.conn, key.models)
    if len(key.tags) > MAX_TAGS:
        raise InvalidNoun(f"a key pins up to {MAX_TAGS} tags", "tags")
    if len(key.allowed_tags) > MAX_TAGS:
        raise InvalidNoun(f"a key lists the values of up to {MAX_TAGS} tags", "allowed_tags")
    expires_at = None if key.expires_at is None else _nanoseconds(key.expires_at)
    if expires_at is not None and expires_at <= write.at and (before is None or expires_at != before["expires_at"]):
        raise InvalidNoun("the key would be expired already", "expires_at")
    named = key.model_dump(include={"name", "project", "user", "parent", *_RIGHTS})
    columns = {**named, "team": await _team(write, key), "expires_at": expires_at}
    if key.parent:
        lineage.refuse_wider(columns, parent or await nouns.fetch(write.conn, KEY, key.parent))
    return columns


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


async def _refuse_shared(write: Write, digest: str, name: str) -> None:
    is_good = or_(keys.c.digest == digest, and_(keys.c.old_digest == digest, keys.c.old_until > write.at))
    holder = (await write.conn.execute(select(keys.c.name).where(is_good, keys.c.name != name).limit(1))).scalar()
    if holder is not None:
        raise Conflict(f"key {holder!r} has this secret already", "secret")
