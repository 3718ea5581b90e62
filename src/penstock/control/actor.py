"""Who asks the control plane for something: who they are, where from, and what they may do."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.control.permissions import TABLE, Role, granted
from penstock.domain.access import EVERYTHING, NOTHING, Reach, Scope
from penstock.domain.tenancy import DEFAULT_ORGANISATION
from penstock.errors import NotAllowed

Kind = Literal["bootstrap", "user", "service", "provisioning", "system", "key", "workload"]
"""`bootstrap`: the administrator's key of the installation. `provisioning`: an identity provider's SCIM client.
`system`: the gateway itself. `key` and `workload`: who got a token on the data plane; neither comes to the admin
listener."""

ORGANISATION = Scope("organisation", DEFAULT_ORGANISATION)
"""The one that runs the gateway, and with it everything."""


class Grant(NamedTuple):
    role: Role
    scope: Scope


def reach_of(grants: Sequence[Grant], permission: str) -> Reach:
    """How far `permission` reaches by these grants. A permission that is not in the table is a KeyError."""
    scopes = [grant.scope for grant in grants if grant.role in TABLE[permission].roles]
    if ORGANISATION in scopes:
        return EVERYTHING
    named = frozenset(scope.name for scope in scopes if scope.level == "team")
    return Reach(
        teams=named.union(*(scope.teams for scope in scopes)),
        projects={scope.name: scope.team for scope in scopes if scope.level == "project"},
        organisations=frozenset(scope.name for scope in scopes if scope.level == "organisation"),
    )


@dataclass(frozen=True)
class Actor:
    """`reach`: how far `permission` reaches, under which the present request runs. `address`: the client's. `again`:
    looks up anew who comes with the same token or session, for a change that is about to be made; `seen`: the number of
    the newest change that was known when they were looked up last."""

    name: str
    kind: Kind
    grants: tuple[Grant, ...] = ()
    reach: Reach = NOTHING
    address: str = ""
    request_id: str = ""
    permission: str = ""
    again: "Callable[[AsyncConnection], Awaitable[Actor | None]] | None" = field(
        default=None, compare=False, repr=False
    )
    seen: int = field(default=0, compare=False, repr=False)

    @classmethod
    def system(cls, name: str) -> "Actor":
        """The gateway itself, or whoever has the box."""
        return cls(name, "system", (Grant("owner", ORGANISATION),), EVERYTHING)

    def asking_for(self, permission: str) -> "Actor":
        """The same, with the reach of `permission`. Raises NotAllowed where it has none, and where the permission is
        about the whole organisation and reaches over a part of it only."""
        reach, about = reach_of(self.grants, permission), TABLE[permission].about
        if reach.is_empty():
            raise NotAllowed(f"{self.name!r} has no role that permits {permission}")
        if about == "whole" and not reach.everything:
            raise NotAllowed(f"{permission} needs a role for the whole organisation")
        return replace(self, permission=permission, reach=EVERYTHING if about == "shared" else reach)

    async def at_present(self, conn: AsyncConnection) -> "Actor":
        """The same with the rights that the store has now. Raises NotAllowed where they do not suffice any more."""
        found = self if self.again is None else await self.again(conn)
        if found is None:
            raise NotAllowed(f"{self.name!r} may not come in any more")
        found = replace(found, address=self.address, request_id=self.request_id)
        return found.asking_for(self.permission) if self.permission else found

    def require_cover(self, role: Role, scope: Scope) -> None:
        """Raises NotAllowed where `role` for `scope` is more than this actor has."""
        lacking = sorted(name for name in granted(role) if not reach_of(self.grants, name).holds(scope))
        if lacking:
            raise NotAllowed(f"nobody grants more than they have: {role!r} includes {lacking[0]}")
