"""The declared configuration: makes the store say what the file says, in one transaction.

Only objects of the file are touched; what was made through the API stays, and where the two meet, the file is refused
as a whole. Every object written is audited like any other change.

There are two ways in. `apply` is the file that `serve` reads on a box. One that was applied before is not applied
again, so that what was rolled back since does not come back with a restart; with one exception: when this very node
applied the newest version and now brings an older file, its operator has put the old file back, and means it.
`put_in_force` is a file, or a version of the history, that an administrator asks for while the gateway runs.
"""

import dataclasses
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, case, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.config.checks import caller_secret
from penstock.config.lineage import parents_first
from penstock.config.settings import Config, DeclaredKey, DeclaredLimit
from penstock.control import keys, limits, models, nouns, organisations, projects, providers, references, teams, users
from penstock.control.audit import record
from penstock.control.credentials import BoxReferences
from penstock.control.paging import Listing, Page, cut, position
from penstock.control.write import Write
from penstock.errors import Conflict, NotFoundNoun
from penstock.records.receipts import rfc3339
from penstock.store.tables.control import audit, config_versions

ACTOR = "configuration file"
"""Who the file is in the audit log."""

_BEFORE_THEIR_USERS = (
    providers.PROVIDER,
    models.MODEL,
    organisations.ORGANISATION,
    teams.TEAM,
    projects.PROJECT,
    users.USER,
    keys.KEY,
)
"""The order in which objects come into being; they go in the opposite one. Limits, to which nothing refers, come last
and go first."""


_BOOKKEEPING = frozenset({"id", "origin", "created_at", "created_by", "updated_at", "amount_nanousd"})
"""What the picture of an object has besides what is declared."""

How = Literal["serve", "apply", "rollback"]

_OF_A_LISTING = [column for column in config_versions.c if column.name != "content"]
_encoder = msgspec.json.Encoder(decimal_format="number")
_decoder = msgspec.json.Decoder(float_hook=Decimal)


class Step(Struct, frozen=True):
    """What was done to one object. `action`: create, update, delete, rotate. `fields`: what changes, from what to what;
    of what is created all that is set, of what is deleted nothing."""

    action: str
    kind: str
    name: str
    fields: dict[str, tuple[Any, Any]] = {}


class Applied(Struct, frozen=True):
    """`new_version`: False when the file was in force already. Its keys' secrets are looked at in any case. `base`: the
    newest version before, `version`: the newest now; 0 where there is none."""

    new_version: bool
    steps: tuple[Step, ...]
    base: int
    version: int


class Asked(Struct, frozen=True):
    """What an administrator asks for. `base`: the version on which the plan was made, None for whichever there is.
    `node`: the box whose own file it is. `restores`: the version that is gone back to."""

    how: How = "apply"
    base: int | None = None
    node: str = ""
    restores: int | None = None


async def apply(write: Write, pepper: bytes, config: Config, node: str = "") -> Applied:
    """Brings the objects of origin `file` into line with `config`, through `Door.change`. `node`: the box that serves
    the file.

    Raises Conflict when an object of that name was made through the API, or when what the file no longer declares is
    in use by one; ConfigError when a secret does not resolve. Nothing is changed then.
    """
    write = dataclasses.replace(write, origin="file")
    newest = await _newest(write.conn)
    if await _is_due(write.conn, newest, config.digest, node):
        steps = await _bring_about(write, pepper, config, in_full=False)
        made = await _keep(write, config, Asked("serve", newest["version"], node), steps)
        return Applied(True, steps, newest["version"], made)
    if newest["digest"] == config.digest:
        await _complete(write.conn, newest["version"], config)
    steps = await rotate(write, pepper, BoxReferences(config))
    return Applied(False, steps, newest["version"], newest["version"])


async def rotate(write: Write, pepper: bytes, references: BoxReferences, scheme: str = "") -> tuple[Step, ...]:
    """Looks again behind the references of the declared keys that begin with `scheme`, as far as this box may resolve
    them. Raises ConfigError when one does not resolve."""
    write = dataclasses.replace(write, origin="file")
    start = await _newest_audit(write.conn)
    for key in await _declared_keys(write.conn):
        if not (key.secret and key.secret.startswith(scheme) and references.have_key(key)):
            continue
        row = await nouns.find(write.conn, keys.KEY, key.name)
        if row is not None and row["origin"] == "file":
            await keys.replace_secret(write, pepper, key, caller_secret(key))
    return await _steps_since(write.conn, start)


async def _complete(conn: AsyncConnection, version: int, config: Config) -> None:
    """Keeps what the version in force declared, where an older release has not."""
    lacking = (config_versions.c.version == version) & config_versions.c.content.is_(None)
    await conn.execute(update(config_versions).where(lacking).values(content=_encoded(config)))


async def _declared_keys(conn: AsyncConnection) -> list[DeclaredKey]:
    """The keys of the version that is in force."""
    query = select(config_versions.c.content).order_by(config_versions.c.version.desc()).limit(1)
    content = (await conn.execute(query)).scalar()
    written = _decoder.decode(content).get("keys", []) if content else []
    return [DeclaredKey.model_validate(key) for key in written]


async def put_in_force(write: Write, pepper: bytes, config: Config, asked: Asked) -> Applied:
    """As `apply`, whatever the history says. Raises Conflict also when `asked.base` is not the newest version any
    more."""
    write = dataclasses.replace(write, origin="file")
    newest = await _newest(write.conn)
    if asked.base is not None and asked.base != newest["version"]:
        raise Conflict(
            f"the configuration has changed since it was looked at: version {newest['version']} is in force, not "
            f"{asked.base}; look at the plan again"
        )
    steps = await _bring_about(write, pepper, config)
    if not steps and newest["digest"] == config.digest:
        after = {"digest": config.digest, "how": asked.how, "changes": 0}
        await record(write, asked.how, ("config", str(newest["version"])), None, after)
        return Applied(False, (), newest["version"], newest["version"])
    asked = msgspec.structs.replace(asked, base=newest["version"])
    return Applied(True, steps, newest["version"], await _keep(write, config, asked, steps))


async def _bring_about(write: Write, pepper: bytes, config: Config, in_full: bool = True) -> tuple[Step, ...]:
    """Makes the objects what `config` says. `in_full`: the steps say also what is set of what was created."""
    start = await _newest_audit(write.conn)
    spare_ids = await _drop_limits(write, config)
    dropped = await _drop_objects(write, config)
    await _put_objects(write, pepper, config)
    await _put_limits(write, config, spare_ids)
    for kind, name in dropped:
        await references.refuse_in_use(write.conn, kind, name)
    await _refuse_strays(write.conn)
    await _drop_unused_users(write, config)
    return await _steps_since(write.conn, start, in_full)


async def _keep(write: Write, config: Config, asked: Asked, steps: tuple[Step, ...]) -> int:
    """Adds the version after `asked.base` to the history: its number, which a plan that was taken back does not use up.
    Of what was created and deleted the audit log has the pictures."""
    changes = [msgspec.to_builtins(it if it.action == "update" else Step(it.action, it.kind, it.name)) for it in steps]
    number = (asked.base or 0) + 1
    version = {
        "version": number,
        "digest": config.digest,
        "node": asked.node,
        "applied_at": write.at,
        "changes": changes,
        "how": asked.how,
        "by": write.actor,
        "restores": asked.restores,
        "content": _encoded(config),
    }
    await write.conn.execute(insert(config_versions).values(version))
    after = {name: version[name] for name in ("digest", "how", "node", "restores")} | {"changes": len(changes)}
    await record(write, asked.how, ("config", str(number)), None, after)
    return number


def _encoded(config: Config) -> str:
    return _encoder.encode(config.written).decode()


async def list_page(conn: AsyncConnection, page: Page) -> Listing:
    """The versions that were applied, the newest first: version, digest, node, applied_at, changes, how, by,
    restores."""
    query = select(*_OF_A_LISTING).order_by(config_versions.c.version.desc()).limit(page.limit + 1)
    if page.after is not None:
        query = query.where(config_versions.c.version < position(page.after))
    rows = [dict(row) for row in (await conn.execute(query)).mappings()]
    return cut([{**row, "applied_at": rfc3339(row["applied_at"])} for row in rows], page, "version")


async def show(conn: AsyncConnection, version: int) -> dict[str, Any]:
    """One version as it is listed, with `document`: the sections of the file that declared objects, None where an
    older release has not kept them. Raises NotFoundNoun."""
    row = (await conn.execute(select(config_versions).where(config_versions.c.version == version))).mappings().first()
    if row is None:
        raise NotFoundNoun(f"there is no version {version} of the configuration")
    shown = {**row, "applied_at": rfc3339(row["applied_at"])}
    content = shown.pop("content")
    return {**shown, "document": None if content is None else _decoder.decode(content)}


async def _newest(conn: AsyncConnection) -> Mapping[str, Any]:
    """Number, digest and node of the newest version; of a store that has none, number 0."""
    columns = (config_versions.c.version, config_versions.c.digest, config_versions.c.node)
    found = (await conn.execute(select(*columns).order_by(columns[0].desc()).limit(1))).mappings().first()
    return {"version": 0, "digest": "", "node": ""} if found is None else dict(found)


async def _is_due(conn: AsyncConnection, newest: Mapping[str, Any], digest: str, node: str) -> bool:
    if newest["digest"] == digest:
        return False
    seen = select(config_versions.c.version).where(config_versions.c.digest == digest).limit(1)
    return newest["node"] == node or (await conn.execute(seen)).first() is None


async def _newest_audit(conn: AsyncConnection) -> int:
    return (await conn.execute(select(audit.c.seq).order_by(audit.c.seq.desc()).limit(1))).scalar() or 0


async def _steps_since(conn: AsyncConnection, seq: int, in_full: bool = True) -> tuple[Step, ...]:
    """What was done since number `seq` of the audit log. A first file creates many thousands of objects, whose pictures
    nobody looks at."""
    after = audit.c.after if in_full else case((audit.c.action != "create", audit.c.after)).label("after")
    columns = (audit.c.action, audit.c.kind, audit.c.name, audit.c.before, after)
    query = select(*columns).where(audit.c.seq > seq).order_by(audit.c.seq)
    return tuple(
        Step(row.action, row.kind, row.name, _fields(row.before, row.after)) for row in await conn.execute(query)
    )


def _fields(before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, tuple[Any, Any]]:
    """What differs between two pictures of an object."""
    if after is None:
        return {}
    old = before or {}
    names = [name for name in after if name not in _BOOKKEEPING and old.get(name) != after[name]]
    return {name: (old.get(name), after[name]) for name in names if before or after[name] not in (None, "", [], {})}


def _declared_names(config: Config) -> dict[str, set[str]]:
    return {
        "provider": {it.name for it in config.providers},
        "model": {it.name for it in config.models},
        "organisation": {it.name for it in config.organisations},
        "team": {it.name for it in config.teams},
        "project": {it.name for it in config.projects},
        "key": {it.name for it in config.keys},
    }


async def _file_rows(conn: AsyncConnection, noun: nouns.Noun) -> list[nouns.Row]:
    of_the_file: ColumnElement[bool] = noun.table.c.origin == "file"
    query = select(noun.table).where(of_the_file).order_by(noun.table.c.name)
    return [dict(row) for row in (await conn.execute(query)).mappings()]


def _meaning(limit: Mapping[str, Any]) -> str:
    return repr([sorted(limit["match"].items()), *(limit[field] for field in limits.MEANING if field != "match")])


async def _drop_limits(write: Write, config: Config) -> dict[str, str]:
    """Deletes the limits that are gone or count something else now. Answers what they counted -> their id, so that a
    limit which only got another name goes on with its balances."""
    declared = {limit.name: _meaning(limits.columns(limit)) for limit in config.limits}
    spare_ids = {}
    for row in await _file_rows(write.conn, limits.LIMIT):
        if declared.get(row["name"]) != _meaning(row):
            await nouns.drop(write, limits.LIMIT, row)
            spare_ids[_meaning(row)] = row["id"]
    return spare_ids


async def _drop_objects(write: Write, config: Config) -> list[tuple[str, str]]:
    """Deletes what is no longer declared; whether something still uses it is looked at when all is in place."""
    declared = _declared_names(config)
    dropped = []
    for noun in reversed(_BEFORE_THEIR_USERS):
        if noun.kind not in declared:
            continue
        for row in await _file_rows(write.conn, noun):
            if row["name"] not in declared[noun.kind]:
                await nouns.drop(write, noun, row)
                dropped.append((noun.kind, row["name"]))
    return dropped


async def _put_objects(write: Write, pepper: bytes, config: Config) -> None:
    for provider in config.providers:
        await _put(write, providers.PROVIDER, providers.columns(provider))
    for model in config.models:
        await _put(write, models.MODEL, await models.columns(write.conn, model))
    for organisation in config.organisations:
        await _put(write, organisations.ORGANISATION, organisation.model_dump())
    for team in config.teams:
        await _put(write, teams.TEAM, await teams.columns(write, team))
    for project in config.projects:
        await _put(write, projects.PROJECT, project.model_dump())
    for user in sorted(_users_of(config)):
        if not await references.is_known(write.conn, "user", user):
            await users.add(write, users.User(name=user))
    for key in parents_first(config.keys):
        await _put_key(write, pepper, key)


async def _put(write: Write, noun: nouns.Noun, columns: nouns.Row) -> None:
    if await nouns.find(write.conn, noun, columns["name"]) is None:
        await nouns.add(write, noun, columns)
    else:
        row = await nouns.fetch_writable(write, noun, columns["name"])
        await nouns.alter(write, noun, row, columns)


async def _put_key(write: Write, pepper: bytes, declared: DeclaredKey) -> None:
    secret = None if declared.tokens_only else caller_secret(declared)
    key = keys.Key.model_construct(**declared.model_dump(exclude={"secret", "rotation_grace_ms"}))
    if await nouns.find(write.conn, keys.KEY, key.name) is None:
        await keys.add(write, pepper, key, secret)
        return
    if secret is not None:
        await keys.replace_secret(write, pepper, declared, secret)
    await keys.put(write, key)


async def _put_limits(write: Write, config: Config, spare_ids: dict[str, str]) -> None:
    for limit in config.limits:
        if await nouns.find(write.conn, limits.LIMIT, limit.name) is None:
            await _add_limit(write, limit, spare_ids)
        else:
            row = await nouns.fetch_writable(write, limits.LIMIT, limit.name)
            await nouns.alter(write, limits.LIMIT, row, await limits.checked_columns(write, limit))


async def _add_limit(write: Write, limit: DeclaredLimit, spare_ids: dict[str, str]) -> None:
    kept = spare_ids.pop(_meaning(limits.columns(limit)), None)
    await limits.add(write, limit, limits.new_id() if kept is None else kept)


async def _refuse_strays(conn: AsyncConnection) -> None:
    """A project that changed hands must not leave a key of the API behind, under the team that it had."""
    key, project = keys.KEY.table.c, projects.PROJECT.table.c
    query = select(key.name, key.project).join(projects.PROJECT.table, project.name == key.project)
    stray = (await conn.execute(query.where(key.team != project.team).limit(1))).first()
    if stray is not None:
        raise Conflict(
            f"project {stray.project!r} changes its team, and key {stray.name!r} still belongs to the old one"
        )


def _users_of(config: Config) -> set[str]:
    """The file's users: those of its keys and, where signed claims say who calls, of its limits."""
    return {key.user for key in config.keys if key.user} | {
        it.match["user"] for it in config.limits if "user" in it.match
    }


async def _drop_unused_users(write: Write, config: Config) -> None:
    """One that a key or a limit of the API has taken up stays."""
    wanted = _users_of(config)
    for row in await _file_rows(write.conn, users.USER):
        if row["name"] not in wanted and not await references.uses(write.conn, "user", row["name"]):
            await nouns.drop(write, users.USER, row)
