"""The nouns that are created, read, updated and deleted: teams, projects, users, keys, limits, providers, models.

GET    /admin/v1/teams?limit=&after=     {"items": [...], "next": cursor or null}
POST   /admin/v1/teams                   201 and the object (a key: with its secret, this once)
GET    /admin/v1/teams/{name}            a key and a limit also by id
PATCH  /admin/v1/teams/{name}            what is given changes, the rest stays
DELETE /admin/v1/teams/{name}            204
POST   /admin/v1/keys/{name}/revoke      the key, refused from now on
POST   /admin/v1/limits/{name}/raise     the limit, with more to spend until a moment
DELETE /admin/v1/limits/{name}/raise     the limit, without its temporary increases
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.control import keys, limits, models, projects, providers, teams, users
from penstock.control.paging import MAX_PAGE, Listing, Page
from penstock.control.write import Write
from penstock.surfaces.admin.bodies import read_object
from penstock.surfaces.admin.documents import body_of, changes_of
from penstock.surfaces.admin.plane import ACTOR, Plane
from penstock.surfaces.admin.problems import JsonResponse

Shown = dict[str, Any]


@dataclass(frozen=True)
class Objects:
    """One noun's verbs, as `control` has them. `shape`: what the OpenAPI document calls its body. No `update`: there is
    nothing about it that could change."""

    path: str
    shape: str
    list_page: Callable[[AsyncConnection, Page], Awaitable[Listing]]
    show: Callable[[AsyncConnection, str], Awaitable[Shown]]
    create: Callable[[Write, Mapping[str, Any]], Awaitable[Shown]]
    update: Callable[[Write, str, Mapping[str, Any]], Awaitable[Shown]] | None
    delete: Callable[[Write, str], Awaitable[None]]

    @property
    def word(self) -> str:
        return self.path.removesuffix("s")


def _objects(noun: Any, path: str, create: Callable[[Write, Mapping[str, Any]], Awaitable[Shown]]) -> Objects:
    """The verbs of one of `control`'s modules."""
    update = getattr(noun, "update", None)
    return Objects(path, path.removesuffix("s").title(), noun.list_page, noun.show, create, update, noun.delete)


def routes(plane: Plane) -> APIRouter:
    async def create_key(write: Write, fields: Mapping[str, Any]) -> Shown:
        return await keys.create(write, plane.pepper, fields)

    router = APIRouter()
    _add_revoke(router, plane)
    _add_raise(router, plane)
    for noun in (
        _objects(teams, "teams", teams.create),
        _objects(projects, "projects", projects.create),
        _objects(users, "users", users.create),
        _objects(keys, "keys", create_key),
        _objects(limits, "limits", limits.create),
        _objects(providers, "providers", providers.create),
        _objects(models, "models", models.create),
    ):
        _add_reads(router, plane, noun)
        _add_writes(router, plane, noun)
    return router


def _add_reads(router: APIRouter, plane: Plane, noun: Objects) -> None:
    @router.get(f"/{noun.path}", tags=[noun.path], operation_id=f"list_{noun.path}", summary=f"List {noun.path}")
    async def list_objects(limit: int = Query(100, ge=1, le=MAX_PAGE), after: str | None = None) -> Response:
        async with plane.door.read() as conn:
            return JsonResponse(await noun.list_page(conn, Page(limit, after)))

    @router.get(
        f"/{noun.path}/{{name:path}}",
        tags=[noun.path],
        operation_id=f"show_{noun.word}",
        summary=f"Show one {noun.word}",
    )
    async def show_object(name: str) -> Response:
        async with plane.door.read() as conn:
            return JsonResponse(await noun.show(conn, name))


def _add_writes(router: APIRouter, plane: Plane, noun: Objects) -> None:
    @router.post(
        f"/{noun.path}",
        tags=[noun.path],
        status_code=201,
        operation_id=f"create_{noun.word}",
        summary=f"Create a {noun.word}",
        openapi_extra=body_of(noun.shape),
    )
    async def create_object(request: Request) -> Response:
        made = await plane.door.change(ACTOR, noun.create, await read_object(request))
        place = f"{request.url.path.rstrip('/')}/{quote(str(made['name']), safe='/')}"
        return JsonResponse(made, 201, {"location": place})

    if (update := noun.update) is not None:

        @router.patch(
            f"/{noun.path}/{{name:path}}",
            tags=[noun.path],
            operation_id=f"update_{noun.word}",
            summary=f"Change a {noun.word}",
            openapi_extra=changes_of(noun.shape),
        )
        async def update_object(name: str, request: Request) -> Response:
            return JsonResponse(await plane.door.change(ACTOR, update, name, await read_object(request)))

    @router.delete(
        f"/{noun.path}/{{name:path}}",
        tags=[noun.path],
        status_code=204,
        operation_id=f"delete_{noun.word}",
        summary=f"Delete a {noun.word}",
    )
    async def delete_object(name: str) -> Response:
        await plane.door.change(ACTOR, noun.delete, name)
        return Response(status_code=204)


def _add_revoke(router: APIRouter, plane: Plane) -> None:
    @router.post(
        "/keys/{name:path}/revoke",
        tags=["keys"],
        operation_id="revoke_key",
        summary="Refuse a key from now on, for good",
    )
    async def revoke_key(name: str) -> Response:
        return JsonResponse(await plane.door.change(ACTOR, keys.revoke, name))


def _add_raise(router: APIRouter, plane: Plane) -> None:
    @router.post(
        "/limits/{name:path}/raise",
        tags=["limits"],
        operation_id="raise_limit",
        summary="Raise a limit until a moment, a declared one too",
        openapi_extra=body_of("Raise"),
    )
    async def raise_limit(name: str, request: Request) -> Response:
        asked = await read_object(request)
        return JsonResponse(await plane.door.change(ACTOR, limits.raise_amount, name, asked))

    @router.delete(
        "/limits/{name:path}/raise",
        tags=["limits"],
        operation_id="end_raises",
        summary="End a limit's temporary increases now",
    )
    async def end_raises(name: str) -> Response:
        return JsonResponse(await plane.door.change(ACTOR, limits.end_raises, name))
