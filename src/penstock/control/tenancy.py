"""To whom an object belongs, and which objects a reach covers: as conditions for the database, and for one object.

A limit belongs to the organisation, team, project or key that its `match` names, a kill to that of its scope, a binding
to the part that it is for. What names none of them belongs to whoever runs the gateway.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, and_, false, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.access import Reach, Tenant
from penstock.store.tables.control import audit, bindings, keys, kills, limits, organisations, projects, teams, users
from penstock.store.tenancy import within

_SHARED = frozenset({"provider", "model"})


def visible(kind: str, reach: Reach) -> ColumnElement[bool]:
    """The rows of `kind`'s table that `reach` covers."""
    if reach.everything or kind in _SHARED:
        return true()
    match kind:
        case "organisation":
            return organisations.c.name.in_(sorted(reach.organisations))
        case "team":
            own = sorted(reach.organisations)
            return or_(teams.c.name.in_(sorted(reach.teams)), teams.c.organisation.in_(own))
        case "project":
            return within(reach, projects.c.team, projects.c.name)
        case "key":
            return within(reach, keys.c.team, keys.c.project)
        case "limit":
            return _named_in(limits.c.match, reach)
        case "kill":
            return _named_in(kills.c.scope, reach)
        case "binding":
            return _of_binding(reach)
        case "user":
            members = select(bindings.c.subject).where(bindings.c.subject_kind == "user", _of_binding(reach))
            return users.c.name.in_(members)
        case "audit":
            of_them = audit.c.organisation.in_(sorted(reach.organisations))
            return or_(within(reach, audit.c.team, audit.c.project), of_them)
    return false()


async def tenant_of(conn: AsyncConnection, kind: str, row: Mapping[str, Any]) -> Tenant:
    """To whom the object of `row` belongs."""
    match kind:
        case "organisation":
            return Tenant(organisation=row["name"])
        case "team":
            return Tenant(row["name"])
        case "project":
            return Tenant(row["team"], row["name"])
        case "key":
            return Tenant(row["team"], row["project"])
        case "limit":
            return await _tenant_named(conn, row["match"])
        case "kill":
            return await _tenant_named(conn, row["scope"])
        case "binding":
            kind = "organisation" if row["scope_kind"] == "teams_of" else row["scope_kind"]
            return await _tenant_named(conn, {kind: row["scope"]})
    return Tenant()


async def team_of_project(conn: AsyncConnection, name: str) -> str | None:
    """Whose project it is; None: there is none."""
    return (await conn.execute(select(projects.c.team).where(projects.c.name == name))).scalar()


async def _tenant_named(conn: AsyncConnection, dimensions: Mapping[str, Any]) -> Tenant:
    if key := dimensions.get("key"):
        row = (await conn.execute(select(keys.c.team, keys.c.project).where(keys.c.name == key))).first()
        return Tenant() if row is None else Tenant(row.team, row.project)
    if project := dimensions.get("project"):
        return Tenant(await team_of_project(conn, project) or "", project)
    if team := dimensions.get("team"):
        return Tenant(team)
    return Tenant(organisation=dimensions.get("organisation", ""))


def _named_in(dimensions: Any, reach: Reach) -> ColumnElement[bool]:
    """The rows whose JSON `dimensions` name an organisation, team, project or key that `reach` covers."""
    own_projects = select(projects.c.name).where(visible("project", reach))
    own_keys = select(keys.c.name).where(visible("key", reach))
    return or_(
        dimensions["organisation"].as_string().in_(sorted(reach.organisations)),
        dimensions["team"].as_string().in_(sorted(reach.teams)),
        dimensions["project"].as_string().in_(own_projects),
        dimensions["key"].as_string().in_(own_keys),
    )


def _of_binding(reach: Reach) -> ColumnElement[bool]:
    own_projects = select(projects.c.name).where(visible("project", reach))
    return or_(
        and_(
            bindings.c.scope_kind.in_(("organisation", "teams_of")), bindings.c.scope.in_(sorted(reach.organisations))
        ),
        and_(bindings.c.scope_kind == "team", bindings.c.scope.in_(sorted(reach.teams))),
        and_(bindings.c.scope_kind == "project", bindings.c.scope.in_(own_projects)),
    )
