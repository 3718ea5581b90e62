"""Who may use which route: the one place where the admin listener authorises.

Each route says by its operation what it needs: a permission of `control.permissions`, or one of the two words below.
What counts is the route that matched, whatever the request's path looked like. A route that is not in the table keeps
the listener from starting, and so does a line of it without a route.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.types import Scope

from penstock.control.actor import Actor
from penstock.control.permissions import TABLE
from penstock.errors import NotAllowed

OPEN = "open"
"""For strangers too."""
SIGNED_IN = "signed in"
"""For whoever is known, whatever their roles."""
PROVISIONING = "provisioning"
"""For an identity provider's token and for nobody else."""

_SCIM = (
    *("scim_service", "scim_schemas", "scim_schema", "scim_types", "scim_type", "scim_search", "scim_nowhere"),
    *(
        f"scim_{verb}_{word}"
        for verb in ("list", "search", "create", "show", "replace", "patch", "delete")
        for word in ("users", "groups")
    ),
)

_NOUNS = (
    "organisation",
    "team",
    "project",
    "user",
    "key",
    "limit",
    "provider",
    "credential",
    "model",
    "binding",
    "token",
)

PERMISSIONS: Mapping[str, str] = {
    **{f"list_{noun}s": f"{noun}.read" for noun in _NOUNS},
    **{f"show_{noun}": f"{noun}.read" for noun in _NOUNS},
    **{f"{verb}_{noun}": f"{noun}.write" for noun in _NOUNS for verb in ("create", "update", "delete")},
    "revoke_key": "key.write",
    "rotate_credential": "credential.write",
    "show_vault": "credential.read",
    "rewrap_vault": "credential.write",
    "rotate_key": "key.write",
    "raise_limit": "limit.write",
    "end_raises": "limit.write",
    "revoke_token": "token.write",
    "list_roles": "role.read",
    "raise_kill": "kill.raise",
    "show_kill": "kill.read",
    "list_kills": "kill.read",
    "lift_kill": "kill.lift",
    "list_prices": "price.read",
    "show_effective_prices": "price.read",
    "add_prices": "price.write",
    "show_usage": "usage.read",
    "list_receipts": "receipt.read",
    "show_receipt": "receipt.read",
    "list_audit": "audit.read",
    "show_ledger": "ledger.read",
    "verify_ledger": "ledger.verify",
    "list_adjustments": "ledger.read",
    "create_adjustment": "ledger.adjust",
    "list_config": "config.read",
    "show_config": "config.read",
    "apply_config": "config.write",
    "roll_back_config": "config.write",
    "show_status": "status.read",
    "activate_user": "user.write",
    "deactivate_user": "user.write",
    "set_password": "user.write",
    **dict.fromkeys(_SCIM, PROVISIONING),
    "list_sessions": "session.read",
    "end_session": "session.write",
    **dict.fromkeys(("log_out", "show_me", "list_own_sessions", "end_own_session", "change_password"), SIGNED_IN),
    **dict.fromkeys(("log_in", "begin_oidc", "finish_oidc"), OPEN),
    "show_document": SIGNED_IN,
    "show_metrics": OPEN,
    "show_health": OPEN,
}
"""Operation -> what it needs."""

NOT_CHANGED = frozenset({"update_organisation", "update_user", "update_binding", "update_token"})
"""What these nouns say of their objects never changes."""


async def authorise(request: Request) -> Actor | None:
    """Whoever asks, with the reach of what the matched route needs; None for a stranger at an open route. Raises
    NotAllowed."""
    needed, actor = PERMISSIONS[request.scope["route"].operation_id], known(request.scope)
    if needed == OPEN or actor is None:
        if needed != OPEN:
            raise NotAllowed("nobody is signed in")
        return actor
    if (actor.kind == "provisioning") != (needed == PROVISIONING):
        raise NotAllowed("a provisioning token opens /scim/v2 and nothing else, and nothing else opens that")
    if needed == PROVISIONING:
        return actor
    return actor if needed == SIGNED_IN else actor.asking_for(needed)


async def _asker(actor: Annotated[Actor | None, Depends(authorise)]) -> Actor:
    if actor is None:
        raise NotAllowed("nobody is signed in")
    return actor


Asker = Annotated[Actor, Depends(_asker)]
"""Whoever asks, for a route that is not open."""


def known(scope: Scope) -> Actor | None:
    """Whoever the edge has recognised."""
    actor: Actor | None = scope.get("penstock.actor")
    return actor


def check(application: FastAPI) -> None:
    """Raises ValueError for a route without a permission, a permission that is not in the table, and a line without a
    route."""
    routes = list(_routes(application))
    for route in routes:
        if route.operation_id not in PERMISSIONS:
            raise ValueError(f"{route.path_format} declares no permission: name its operation in {__name__}")
        if authorise not in {dependency.call for dependency in route.dependant.dependencies}:
            raise ValueError(f"{route.path_format} does not authorise")
    if strange := sorted(set(PERMISSIONS.values()) - set(TABLE) - {OPEN, SIGNED_IN, PROVISIONING}):
        raise ValueError(f"there is no permission {strange[0]}")
    if idle := sorted(set(PERMISSIONS) - {route.operation_id for route in routes} - NOT_CHANGED):
        raise ValueError(f"there is no operation {idle[0]}")


def _routes(application: FastAPI) -> Iterator[Any]:
    """Every route, those of included routers with what these add."""
    for route in iter_route_contexts(application.routes):
        if not isinstance(route.original_route, APIRoute):
            raise ValueError(f"{route.path} is no route that could authorise")  # noqa: TRY004 - a fault of the code
        yield route
