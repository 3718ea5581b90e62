"""The admin listener's application: every path, behind the edge."""

from collections.abc import Mapping

from fastapi import Depends, FastAPI, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel

from penstock import __version__
from penstock.config.settings import (
    DeclaredLimit,
    DeclaredModel,
    DeclaredOrganisation,
    DeclaredProject,
    DeclaredProvider,
    DeclaredTeam,
)
from penstock.control import bindings, keys, limits, tokens, users, vault_entries
from penstock.control.prices import PriceUpdate
from penstock.errors import InvalidNoun
from penstock.surfaces import ops
from penstock.surfaces.admin import (
    accounts,
    authorisation,
    configurations,
    credentials,
    documents,
    objects,
    prices,
    problems,
    reports,
    roles,
    sign_in,
    stops,
)
from penstock.surfaces.admin.edge import Edge
from penstock.surfaces.admin.paths import Paths
from penstock.surfaces.admin.plane import Plane
from penstock.surfaces.admin.recognition import recognition
from penstock.surfaces.scim import routes as scim

SHAPES: Mapping[str, type[BaseModel]] = {
    "Organisation": DeclaredOrganisation,
    "Team": DeclaredTeam,
    "Project": DeclaredProject,
    "User": users.User,
    "Key": keys.Key,
    "Binding": bindings.Binding,
    "Token": tokens.Token,
    "KeyRotation": keys.Rotation,
    "Password": accounts.PasswordRequest,
    "Login": sign_in.LoginRequest,
    "PasswordChange": sign_in.PasswordChange,
    "Limit": DeclaredLimit,
    "Raise": limits.RaiseRequest,
    "Provider": DeclaredProvider,
    "Model": DeclaredModel,
    "Credential": vault_entries.Credential,
    "CredentialUpdate": vault_entries.CredentialUpdate,
    "Rotation": vault_entries.Rotation,
    "Adjustment": reports.AdjustmentRequest,
    "PriceUpdate": PriceUpdate,
    "Kill": stops.KillRequest,
    "Lift": stops.LiftRequest,
}
"""The bodies that `control` decodes, by their name in the OpenAPI document. The file's own shapes serve here too."""


async def refuse_unknown_parameters(request: Request) -> None:
    """A parameter that nothing reads is a fault of the asker's, as an unknown field is: the answer would be another
    than the one that was meant."""
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    known = {parameter.alias for parameter in route.dependant.query_params}
    for name in request.query_params:
        if name not in known:
            raise InvalidNoun(f"there is no parameter {name[:64]!r} here", name[:64])


def build(plane: Plane, operations: ops.Operations) -> Edge:
    """The ASGI application for `server.admin`."""
    application = FastAPI(
        title="Penstock admin API",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    problems.install(application)
    authorised = Depends(authorisation.authorise)
    everywhere = Paths(application, dependencies=[authorised])
    admin = Paths(
        application,
        "/admin/v1",
        dependencies=[authorised, Depends(refuse_unknown_parameters)],
        responses=documents.PROBLEMS,
    )
    for surface in (stops, reports, configurations, prices, roles, credentials, accounts, objects):
        surface.add(admin, plane)
    ops.add(everywhere, operations)
    sign_in.add(Paths(application, dependencies=[authorised], responses=documents.PROBLEMS), plane)
    scim.add(everywhere, plane)
    documents.install(application, SHAPES, [authorised])
    authorisation.check(application)
    return Edge(application, recognition(plane))
