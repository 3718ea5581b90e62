"""Whose objects somebody may touch in the control plane: tenants, and how far a right reaches among them.

The organisation is divided into teams, a team into projects. What belongs to no team (providers, models, the
configuration) is the organisation's own.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from msgspec import Struct

Level = Literal["organisation", "team", "project"]
LEVELS: tuple[Level, ...] = ("organisation", "team", "project")


class Tenant(NamedTuple):
    """To whom an object belongs. Both empty: to the organisation itself."""

    team: str = ""
    project: str = ""


class Scope(NamedTuple):
    """A part of the organisation. `name`: of the team or project; `team`: whose project it is."""

    level: Level
    name: str
    team: str = ""


class Reach(Struct, frozen=True):
    """How far a right reaches: over `everything`, or over whole `teams` and single `projects` (project -> its team)."""

    everything: bool = False
    teams: frozenset[str] = frozenset()
    projects: Mapping[str, str] = {}

    def is_empty(self) -> bool:
        return not (self.everything or self.teams or self.projects)

    def covers(self, tenant: Tenant) -> bool:
        """Whether what belongs to `tenant` is within it."""
        if self.everything:
            return True
        if tenant.team in self.teams:
            return tenant.team != ""
        return tenant.project != "" and self.projects.get(tenant.project) == tenant.team

    def holds(self, scope: Scope) -> bool:
        """Whether all of `scope` is within it."""
        if self.everything:
            return True
        if scope.level == "team":
            return scope.name in self.teams
        return scope.level == "project" and (
            scope.team in self.teams or (scope.team != "" and self.projects.get(scope.name) == scope.team)
        )


EVERYTHING = Reach(everything=True)
NOTHING = Reach()
