"""Whose objects somebody may touch in the control plane: tenants, and how far a right reaches among them.

An organisation is divided into teams, a team into projects. The organisation that is there from the start, `default`,
runs the gateway: a right for it reaches over everything, what belongs to no team (providers, models, the
configuration) and the other organisations included. Whoever shall have the teams of an organisation and nothing that is
its own has a right for `teams_of` it: over each of them, and those to come. It is how one has those of `default` alone.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

from msgspec import Struct

Level = Literal["organisation", "teams_of", "team", "project"]
LEVELS: tuple[Level, ...] = get_args(Level)


class Tenant(NamedTuple):
    """To whom an object belongs. All empty: to whoever runs the gateway. `organisation`: of what belongs to an
    organisation and to no team of it."""

    team: str = ""
    project: str = ""
    organisation: str = ""


class Scope(NamedTuple):
    """A part of the gateway. `name`: of the organisation, team or project; `team`: whose project it is; `teams`: those
    of an organisation (levels `organisation` and `teams_of`), at the moment at which somebody asks."""

    level: Level
    name: str
    team: str = ""
    teams: frozenset[str] = frozenset()


class Reach(Struct, frozen=True):
    """How far a right reaches: over `everything`, or over whole `organisations`, whole `teams` (those of the
    organisations among them) and single `projects` (project -> its team)."""

    everything: bool = False
    teams: frozenset[str] = frozenset()
    projects: Mapping[str, str] = {}
    organisations: frozenset[str] = frozenset()

    def is_empty(self) -> bool:
        return not (self.everything or self.organisations or self.teams or self.projects)

    def covers(self, tenant: Tenant) -> bool:
        """Whether what belongs to `tenant` is within it."""
        if self.everything or tenant.organisation in self.organisations:
            return True
        if tenant.team in self.teams:
            return tenant.team != ""
        return tenant.project != "" and self.projects.get(tenant.project) == tenant.team

    def holds(self, scope: Scope) -> bool:
        """Whether all of `scope` is within it."""
        if self.everything:
            return True
        if scope.level in ("organisation", "teams_of"):
            return scope.name in self.organisations
        if scope.level == "team":
            return scope.name in self.teams
        return scope.level == "project" and (
            scope.team in self.teams or (scope.team != "" and self.projects.get(scope.name) == scope.team)
        )


EVERYTHING = Reach(everything=True)
NOTHING = Reach()
