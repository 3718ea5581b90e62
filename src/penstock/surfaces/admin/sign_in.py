"""Signing in and out, and what somebody who is signed in can do about themselves.

POST   /auth/login {"user": "...", "password": "..."}     {"user", "expires_in_s"} and the session's cookie
POST   /auth/logout                                       204; the session is over
GET    /auth/me                                           {"name", "kind", "roles": [{"role", "scope"}], "permissions"}
GET    /auth/sessions, DELETE /auth/sessions/{name}       one's own
POST   /auth/password {"current": "...", "password": "..."}
GET    /auth/oidc/login?to=/path                          to the identity provider
GET    /auth/oidc/callback                                back from it

Whoever comes with the cookie sends `x-penstock-csrf: 1` with whatever is not a GET.
"""

from typing import Annotated, Any

from fastapi import Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import RedirectResponse

from penstock.control import sessions
from penstock.control.actor import Actor
from penstock.control.permissions import TABLE
from penstock.control.sign_in import From
from penstock.errors import NotFoundNoun, NotSignedIn
from penstock.surfaces.admin import answers, cookies
from penstock.surfaces.admin.authorisation import Asker
from penstock.surfaces.admin.bodies import read_as
from penstock.surfaces.admin.documents import answer_of, body_of
from penstock.surfaces.admin.entrance import LIFE_S, Entrance
from penstock.surfaces.admin.paths import Paths
from penstock.surfaces.admin.plane import Plane
from penstock.surfaces.admin.problems import JsonResponse, request_id

PENDING_S = 600
MAX_TARGET = 512

SessionName = Annotated[str, Path(pattern=r"^ses_[0-9a-f]{32}$")]


class LoginRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, defer_build=True)

    user: str = Field(max_length=256)
    password: str = Field(max_length=1024)


class PasswordChange(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, defer_build=True)

    current: str = Field(max_length=1024)
    password: str = Field(max_length=1024)


def add(paths: Paths, plane: Plane) -> None:
    router = paths.under("/auth", tags=["auth"])
    _add_password(router, plane.entrance)
    _add_oneself(router, plane)
    _add_oidc(router, plane.entrance)


def _origin(request: Request) -> From:
    return From(request.client.host if request.client else "", request_id(request))


def _add_password(router: Paths, entrance: Entrance) -> None:
    @router.post(
        "/login",
        operation_id="log_in",
        summary="Sign in with a password",
        responses=answer_of(answers.SignedIn),
        openapi_extra=body_of("Login"),
    )
    async def log_in(request: Request) -> Response:
        asked = await read_as(LoginRequest, request)
        secret = await entrance.sign_in.by_password(asked.user, asked.password, _origin(request))
        return entrance.let_in(request, JsonResponse({"user": asked.user, "expires_in_s": LIFE_S}), secret)

    @router.post(
        "/password",
        operation_id="change_password",
        status_code=204,
        summary="Change one's own password",
        openapi_extra=body_of("PasswordChange"),
    )
    async def change_password(asker: Asker, request: Request) -> Response:
        asked = await read_as(PasswordChange, request)
        own = request.scope.get("penstock.session", "")
        await entrance.sign_in.change_password(asker, asked.current, asked.password, own)
        return Response(status_code=204)


def _add_oneself(router: Paths, plane: Plane) -> None:
    @router.post("/logout", operation_id="log_out", status_code=204, summary="End one's session")
    async def log_out(asker: Asker, request: Request) -> Response:
        if (own := request.scope.get("penstock.session")) is not None:
            await plane.door.change(asker, sessions.end, own, "sign_out")
        response = Response(status_code=204)
        cookies.drop(response, cookies.SESSION, secure=plane.entrance.is_secure(request))
        return response

    @router.get("/me", operation_id="show_me", summary="Who one is here", responses=answer_of(answers.Me))
    async def show_me(asker: Asker) -> Response:
        return JsonResponse(_me(asker))

    @router.get(
        "/sessions",
        operation_id="list_own_sessions",
        summary="One's own sessions",
        responses=answer_of(answers.Sessions),
    )
    async def list_own_sessions(asker: Asker) -> Response:
        async with plane.door.read() as conn:
            return JsonResponse({"items": await sessions.of(conn, asker.name)})

    @router.delete(
        "/sessions/{name}", operation_id="end_own_session", status_code=204, summary="End one of one's own sessions"
    )
    async def end_own_session(asker: Asker, name: SessionName) -> Response:
        async with plane.door.read() as conn:
            if name not in {item["name"] for item in await sessions.of(conn, asker.name)}:
                raise NotFoundNoun(f"there is no session {name!r}")
        await plane.door.change(asker, sessions.end, name)
        return Response(status_code=204)


def _add_oidc(router: Paths, entrance: Entrance) -> None:
    @router.get("/oidc/login", operation_id="begin_oidc", include_in_schema=False)
    async def begin(request: Request, to: str = "/") -> Response:
        if entrance.oidc is None:
            raise NotFoundNoun("no identity provider is declared")
        where, cookie = await entrance.oidc.begin(_own_path(to))
        response = RedirectResponse(where, 303)
        cookies.put(response, cookies.PENDING, cookie, PENDING_S, secure=entrance.is_secure(request))
        return response

    @router.get("/oidc/callback", operation_id="finish_oidc", include_in_schema=False)
    async def finish(request: Request) -> Response:
        if entrance.oidc is None:
            raise NotFoundNoun("no identity provider is declared")
        parameters = dict(request.query_params)
        if len(parameters) != len(request.query_params.multi_items()):
            raise NotSignedIn("this answer says something twice")
        identity, target = await entrance.oidc.finish(parameters, cookies.of(request.scope, cookies.PENDING))
        secret = await entrance.sign_in.by_identity(identity, _origin(request))
        response = entrance.let_in(request, RedirectResponse(target, 303), secret)
        cookies.drop(response, cookies.PENDING, secure=entrance.is_secure(request))
        return response


def _own_path(to: str) -> str:
    """A path of this listener's own, and the start page for anything else: nobody is sent to another site from here."""
    is_own = to.startswith("/") and not to.startswith(("//", "/\\")) and to.isascii() and to.isprintable()
    return to if is_own and len(to) <= MAX_TARGET else "/"


def _me(asker: Actor) -> dict[str, Any]:
    roles = [{"role": role, "scope": {scope.level: scope.name}} for role, scope in asker.grants]
    held = {role for role, _ in asker.grants}
    permissions = sorted(name for name, permission in TABLE.items() if permission.roles & held)
    return {"name": asker.name, "kind": asker.kind, "roles": roles, "permissions": permissions}
