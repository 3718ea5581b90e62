"""Bindings: which user or group has which role, for an organisation, its teams alone, a team or a project. For the
organisation `default` is for all.

Nobody grants or takes away more than they have themselves, and the last owner stays one. The administrator's key of
the installation is an owner besides, which no binding makes.
"""

import uuid
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import ColumnElement, and_, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.config.values import Name, TagValue
from penstock.control import nouns, references
from penstock.control.actor import ORGANISATION, Grant
from penstock.control.paging import Listing, Page
from penstock.control.permissions import Role
from penstock.control.tenancy import team_of_project
from penstock.control.write import Write
from penstock.domain.access import EVERYTHING, LEVELS, Level, Reach, Scope
from penstock.domain.tenancy import DEFAULT_ORGANISATION
from penstock.errors import Conflict
from penstock.store.tables.access import members, provisioned
from penstock.store.tables.control import bindings, projects, teams, users

MAX_SUBJECT = 128
"""As long as a name in the audit log can be."""


class BindingScope(BaseModel):
    """One of them. The organisation `default` stands for everything, the other organisations included; `teams_of` it is
    for its teams alone."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)

    organisation: Name | None = None
    teams_of: Name | None = None
    team: Name | None = None
    project: Name | None = None

    @model_validator(mode="after")
    def _one(self) -> "BindingScope":
        if [getattr(self, level) for level in LEVELS].count(None) != len(LEVELS) - 1:
            raise ValueError("a scope is one of " + ", ".join(f'{{"{level}": NAME}}' for level in LEVELS))
        return self

    def named(self) -> tuple[Level, str]:
        (level,) = (level for level in LEVELS if getattr(self, level) is not None)
        return level, getattr(self, level)


class Binding(BaseModel):
    """`user` or `group`, one of them. A group is one that the identity provider knows; it need not be there yet."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)

    user: Annotated[TagValue, Field(max_length=MAX_SUBJECT)] | None = None
    group: Annotated[TagValue, Field(max_length=MAX_SUBJECT)] | None = None
    role: Role
    scope: BindingScope

    @model_validator(mode="after")
    def _one_subject(self) -> "Binding":
        if (self.user is None) == (self.group is None):
            raise ValueError("name a user or a group, one of them")
        return self


def _shown(row: nouns.Row) -> dict[str, Any]:
    subject = {row["subject_kind"]: row["subject"]}
    return {"name": row["name"], **subject, "role": row["role"], "scope": {row["scope_kind"]: row["scope"]}}


BINDING = nouns.Noun("binding", bindings, _shown)


async def create(write: Write, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields: user or group, role, scope. The name is made. Raises NotAllowed for more than the asker has."""
    asked = nouns.validated(Binding, fields)
    level, name = asked.scope.named()
    scope = await _scope(write, level, name)
    write.by.require_cover(asked.role, scope)
    kind, subject = ("user", asked.user) if asked.user is not None else ("group", asked.group)
    if asked.user is not None:
        await references.require(write.conn, "user", asked.user, "user")
    row = {"subject_kind": kind, "subject": subject, "role": asked.role, "scope_kind": level, "scope": name}
    same = and_(*(bindings.c[column] == value for column, value in row.items()))
    if (known := (await write.conn.execute(select(bindings.c.name).where(same))).scalar()) is not None:
        raise Conflict(f"this is what the binding {known!r} says already")
    return await nouns.add(write, BINDING, {"name": f"bnd_{uuid.uuid4().hex}", **row})


async def delete(write: Write, name: str) -> None:
    """Raises NotAllowed where the role is more than the asker has, Conflict for the last owner's."""
    row = await nouns.fetch_writable(write, BINDING, name)
    scope = Scope(row["scope_kind"], row["scope"], await team_of_project(write.conn, row["scope"]) or "")
    write.by.require_cover(row["role"], scope)
    await nouns.drop(write, BINDING, row)
    if row["role"] == "owner" and scope == ORGANISATION:
        await require_owner(write.conn)


async def require_owner(conn: AsyncConnection) -> None:
    """Raises Conflict where a change would leave no owner who can sign in."""
    if not (await conn.execute(select(_is_owner()))).scalar():
        raise Conflict("this is the last owner: make another one first")


async def show(conn: AsyncConnection, name: str, reach: Reach = EVERYTHING) -> dict[str, Any]:
    return await nouns.show(conn, BINDING, name, reach)


async def list_page(conn: AsyncConnection, page: Page, reach: Reach = EVERYTHING) -> Listing:
    return await nouns.list_page(conn, BINDING, page, reach)


async def grants_of(conn: AsyncConnection, user: str, groups: tuple[str, ...] = ()) -> tuple[Grant, ...]:
    """What a user is bound to, by name and by each group: those that were provisioned, and `groups`."""
    columns = (bindings.c.role, bindings.c.scope_kind, bindings.c.scope, projects.c.team)
    of_project = and_(bindings.c.scope_kind == "project", projects.c.name == bindings.c.scope)
    query = select(*columns).outerjoin(projects, of_project).where(_of_user(user, groups))
    rows = (await conn.execute(query)).all()
    divided = {row.scope for row in rows if _is_divided(row)}
    teams_of = await _teams_of(conn, divided) if divided else {}
    return tuple(_grant(row, teams_of) for row in rows)


def _grant(row: Any, teams_of: Mapping[str, frozenset[str]]) -> Grant:
    its_teams = teams_of[row.scope] if _is_divided(row) else frozenset()
    return Grant(row.role, Scope(row.scope_kind, row.scope, row.team or "", its_teams))


async def _teams_of(conn: AsyncConnection, names: set[str]) -> dict[str, frozenset[str]]:
    """Organisation -> its teams."""
    query = select(teams.c.organisation, teams.c.name).where(teams.c.organisation.in_(sorted(names)))
    found: dict[str, set[str]] = {name: set() for name in names}
    for organisation, team in await conn.execute(query):
        found[organisation].add(team)
    return {name: frozenset(its) for name, its in found.items()}


def _is_divided(row: Any) -> bool:
    """Whether it is for the teams that an organisation has, by whichever name."""
    is_one_of_several: bool = row.scope_kind == "organisation" and row.scope != DEFAULT_ORGANISATION
    return is_one_of_several or row.scope_kind == "teams_of"


def _of_user(user: str, groups: tuple[str, ...]) -> ColumnElement[bool]:
    group = provisioned.alias()
    theirs = (
        select(group.c.name)
        .join(members, members.c.group_id == group.c.id)
        .join(provisioned, provisioned.c.id == members.c.user_id)
        .where(provisioned.c.kind == "User", provisioned.c.name == user)
    )
    in_group = or_(bindings.c.subject.in_(groups), bindings.c.subject.in_(theirs))
    return or_(
        and_(bindings.c.subject_kind == "user", bindings.c.subject == user),
        and_(bindings.c.subject_kind == "group", in_group),
    )


def _is_owner() -> ColumnElement[bool]:
    """Whether there is a user who may sign in and owns everything."""
    of_all = and_(bindings.c.scope_kind == "organisation", bindings.c.scope == DEFAULT_ORGANISATION)
    owner = and_(bindings.c.role == "owner", of_all)
    named = and_(bindings.c.subject_kind == "user", bindings.c.subject == users.c.name)
    return exists().where(users.c.active == 1, owner, named)


async def _scope(write: Write, level: Level, name: str) -> Scope:
    if (level, name) == ORGANISATION[:2]:
        return ORGANISATION
    kind = "organisation" if level == "teams_of" else level
    await references.require(write.conn, kind, name, f"scope.{level}", write.by.reach)
    return Scope(level, name, await team_of_project(write.conn, name) or "" if level == "project" else "")
