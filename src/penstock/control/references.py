"""Who refers to whom, both ways: a name that refers to nothing is refused, and so is deleting what is referred to."""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.control.tenancy import visible
from penstock.domain.access import EVERYTHING, Level, Reach
from penstock.errors import Conflict, InvalidNoun
from penstock.store.tables.access import provisioned
from penstock.store.tables.control import (
    admin_tokens,
    bindings,
    credentials,
    keys,
    limits,
    models,
    organisations,
    projects,
    providers,
    teams,
    users,
)

TABLES: Mapping[str, Table] = {
    "organisation": organisations,
    "team": teams,
    "project": projects,
    "user": users,
    "key": keys,
    "provider": providers,
    "credential": credentials,
    "model": models,
    "limit": limits,
}
_COLUMNS: Mapping[str, tuple[tuple[str, ColumnElement[Any]], ...]] = {
    "organisation": (("team", teams.c.organisation),),
    "team": (("project", projects.c.team), ("key", keys.c.team), ("credential", credentials.c.team)),
    "project": (("key", keys.c.project),),
    "user": (("key", keys.c.user), ("token", admin_tokens.c.user), ("provisioned user", provisioned.c.name)),
    "key": (("key", keys.c.parent),),
}
"""Kind -> the columns that hold its names, with the kind of whoever has them."""
_SCOPED_BY: Mapping[str, tuple[Level, ...]] = {"organisation": ("organisation", "teams_of")}
"""Kind -> the scopes of bindings that name one, where it is not that of the same name alone."""
_SHOWN = 5
"""How many users of an object a refusal names."""


async def is_known(conn: AsyncConnection, kind: str, name: str, reach: Reach = EVERYTHING) -> bool:
    """Whether there is one of that name within `reach`."""
    known = exists().where(TABLES[kind].c.name == name, visible(kind, reach))
    return bool((await conn.execute(select(known))).scalar())


async def require(conn: AsyncConnection, kind: str, name: str, place: str, reach: Reach = EVERYTHING) -> None:
    """InvalidNoun at `place` unless there is a `kind` of that name within `reach`: nobody learns of others' names."""
    if not await is_known(conn, kind, name, reach):
        raise InvalidNoun(f"there is no {kind} {name!r}", place)


async def refuse_in_use(conn: AsyncConnection, kind: str, name: str) -> None:
    """Conflict, naming what refers to the object."""
    users = await uses(conn, kind, name)
    if users:
        more = " and others" if len(users) > _SHOWN else ""
        raise Conflict(f"{kind} {name!r} is used by {', '.join(users[:_SHOWN])}{more}")


async def uses(conn: AsyncConnection, kind: str, name: str) -> list[str]:
    """What refers to the object, as a sentence would say it: `project 'search'`. Not all when there are many."""
    return [use async for use in _uses(conn, kind, name)]


async def _uses(conn: AsyncConnection, kind: str, name: str) -> AsyncIterator[str]:
    for user_kind, column in _COLUMNS.get(kind, ()):
        named = select(column.table.c.name).where(column == name).order_by(column.table.c.name).limit(_SHOWN + 1)
        for (user,) in await conn.execute(named):
            yield f"{user_kind} {user!r}"
    of_it = or_(
        and_(bindings.c.subject_kind == kind, bindings.c.subject == name),
        and_(bindings.c.scope_kind.in_(_SCOPED_BY.get(kind, (kind,))), bindings.c.scope == name),
    )
    for (binding,) in await conn.execute(select(bindings.c.name).where(of_it).limit(_SHOWN + 1)):
        yield f"binding {binding!r}"
    if kind == "credential":
        for provider, terms in await conn.execute(select(providers.c.name, providers.c.credential_terms)):
            if any(term.get("vault") == name for term in terms.values()):
                yield f"provider {provider!r}"
    if kind in {"provider", "model"}:
        async for use in _uses_of_upstream(conn, kind, name):
            yield use
    columns = (limits.c.name, limits.c.match, limits.c.downgrade)
    for limit, match, downgrade in await conn.execute(select(*columns).order_by(limits.c.name)):
        if match.get(kind) == name or (kind == "model" and downgrade == name):
            yield f"limit {limit!r}"


async def _uses_of_upstream(conn: AsyncConnection, kind: str, name: str) -> AsyncIterator[str]:
    if kind == "provider":
        for model, body in await conn.execute(select(models.c.name, models.c.body).order_by(models.c.name)):
            if model == f"{name}/*" or any(target["provider"] == name for target in body["targets"]):
                yield f"model {model!r}"
        return
    for model, body in await conn.execute(select(models.c.name, models.c.body).order_by(models.c.name)):
        if body.get("replaced_by") == name:
            yield f"model {model!r}"
    allowing = select(keys.c.name, keys.c.models).order_by(keys.c.name)
    for key, allowed in await conn.execute(allowing):
        if name in allowed:
            yield f"key {key!r}"


def covered(name: str, declared: Iterable[str]) -> bool:
    """Whether a key may name the model `name`: a declared alias, a pattern under which declared aliases fall
    (`openai/*`), or a `provider/model` that a declared wildcard admits."""
    for alias in declared:
        if name == alias or (alias.endswith("/*") and name.startswith(alias[:-1])):
            return True
        if name.endswith("/*") and alias.startswith(name[:-1]):
            return True
    return False


async def is_callable(conn: AsyncConnection, name: str) -> bool:
    """Whether callers can write `name` as the model of a call: an alias, or what a wildcard admits."""
    return not name.endswith("/*") and covered(name, await model_names(conn))


async def serving(conn: AsyncConnection, name: str) -> set[str]:
    """The providers to which calls for the model `name` can go, those of what replaces it too."""
    rows = await conn.execute(select(models.c.name, models.c.body))
    bodies = {row.name: row.body for row in rows}
    if name not in bodies:
        return {name.partition("/")[0]}
    found: set[str] = set()
    while (body := bodies.pop(name, None)) is not None:
        found |= {target["provider"] for target in body["targets"]}
        name = body.get("replaced_by") or ""
    return found


async def model_names(conn: AsyncConnection) -> list[str]:
    return list((await conn.execute(select(models.c.name))).scalars())
