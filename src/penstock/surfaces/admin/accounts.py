"""What administrators do about accounts.

POST   /admin/v1/users/{name}/deactivate      the user: sessions and tokens ended, virtual keys stopped
POST   /admin/v1/users/{name}/activate        the user, who may come in again
PUT    /admin/v1/users/{name}/password        204 {"password": "..."}
GET    /admin/v1/sessions                     who is signed in
DELETE /admin/v1/sessions/{name}              204
"""

import time

from fastapi import Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from penstock.control import accounts, sessions
from penstock.control.paging import MAX_PAGE, Page
from penstock.surfaces.admin import answers
from penstock.surfaces.admin.authorisation import Asker
from penstock.surfaces.admin.bodies import read_as
from penstock.surfaces.admin.conditions import shown
from penstock.surfaces.admin.documents import body_of, object_of, page_of
from penstock.surfaces.admin.paths import Paths
from penstock.surfaces.admin.plane import Plane
from penstock.surfaces.admin.problems import JsonResponse
from penstock.surfaces.admin.sign_in import SessionName


class PasswordRequest(BaseModel):
    """12 to 256 characters, five of them different, without the user's name."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, defer_build=True)

    password: str = Field(max_length=1024)


def add(router: Paths, plane: Plane) -> None:

    @router.post(
        "/users/{name:path}/deactivate",
        tags=["users"],
        operation_id="deactivate_user",
        summary="Keep a user out: sessions, tokens and virtual keys at once",
        responses=object_of(answers.ShownUser),
    )
    async def deactivate_user(asker: Asker, name: str) -> Response:
        return shown(await plane.door.change(asker, accounts.deactivate, name))

    @router.post(
        "/users/{name:path}/activate",
        tags=["users"],
        operation_id="activate_user",
        summary="Let a user in again",
        responses=object_of(answers.ShownUser),
    )
    async def activate_user(asker: Asker, name: str) -> Response:
        return shown(await plane.door.change(asker, accounts.activate, name))

    @router.put(
        "/users/{name:path}/password",
        tags=["users"],
        status_code=204,
        operation_id="set_password",
        summary="Give a user a password, which ends the user's sessions",
        openapi_extra=body_of("Password"),
    )
    async def set_password(asker: Asker, name: str, request: Request) -> Response:
        asked = await read_as(PasswordRequest, request)
        await plane.entrance.sign_in.set_password(asker, name, asked.password)
        return Response(status_code=204)

    @router.get(
        "/sessions",
        tags=["sessions"],
        operation_id="list_sessions",
        summary="Who is signed in",
        responses=page_of(answers.Session),
    )
    async def list_sessions(limit: int = Query(100, ge=1, le=MAX_PAGE), after: str | None = None) -> Response:
        async with plane.door.read() as conn:
            return JsonResponse(await sessions.list_page(conn, Page(limit, after), time.time_ns()))

    @router.delete(
        "/sessions/{name}", tags=["sessions"], status_code=204, operation_id="end_session", summary="End a session"
    )
    async def end_session(asker: Asker, name: SessionName) -> Response:
        await plane.door.change(asker, sessions.end, name)
        return Response(status_code=204)
