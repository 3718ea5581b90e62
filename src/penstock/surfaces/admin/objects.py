"""The nouns that are created, read, updated and deleted: organisations, teams, projects, users, keys, limits,
providers, models, bindings, tokens.

GET    /admin/v1/teams?limit=&after=     {"items": [...], "next": cursor or null}
POST   /admin/v1/teams                   201 and the object (a key: with its secret, this once)
GET    /admin/v1/teams/{name}            a key and a limit also by id
PATCH  /admin/v1/teams/{name}            what is given changes, the rest stays
DELETE /admin/v1/teams/{name}            204
POST   /admin/v1/keys/{name}/revoke      the key, refused from now on
POST   /admin/v1/keys/{name}/rotate      the key, with another secret, this once
POST   /admin/v1/limits/{name}/raise     the limit, with more to spend until a moment
DELETE /admin/v1/limits/{name}/raise     the limit, without its temporary increases

Each answer that is an object has its ETag. Changes obey If-Match, `GET` If-None-Match, creations Idempotency-Key.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import Query, Request, Response
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.control import (
    bindings,
    keys,
    limits,
    models,
    organisations,
    projects,
    providers,
    replays,
    teams,
    tokens,
    users,
)
from penstock.control.editions import if_unchanged
from penstock.control.paging import MAX_PAGE, Listing, Page
from penstock.control.write import Write
from penstock.domain.access import Reach
from penstock.surfaces.admin import answers
from penstock.surfaces.admin.authorisation import Asker
from penstock.surfaces.admin.bodies import read_object
from penstock.surfaces.admin.conditions import (
    IdempotencyKey,
    IfMatch,
    IfNoneMatch,
    created,
    repeatable,
    seen,
    shown,
)
from penstock.surfaces.admin.documents import body_of, changes_of, created_of, object_of, page_of, read_of
from penstock.surfaces.admin.paths import Paths
from penstock.surfaces.admin.plane import Plane
from penstock.surfaces.admin.problems import JsonResponse

Shown = dict[str, Any]


@dataclass(frozen=True)
class Objects:
    """One noun's verbs, as `control` has them. `shape`: what the OpenAPI document calls its body. `shown` and `made`:
    the object in answers, and in the one that creates it. No `update`: there is nothing about it that could change."""

    path: str
    shape: str
    shown: type[BaseModel]
    made: type[BaseModel]
    list_page: Callable[[AsyncConnection, Page, Reach], Awaitable[Listing]]
    show: Callable[[AsyncConnection, str, Reach], Awaitable[Shown]]
    create: Callable[[Write, Mapping[str, Any]], Awaitable[Shown]]
    update: Callable[[Write, str, Mapping[str, Any]], Awaitable[Shown]] | None
    delete: Callable[[Write, str], Awaitable[None]]

    @property
    def name(self) -> str:
        """The name in its path: those of models and users may have slashes."""
        return "{name:path}" if self.path in ("models", "users") else "{name}"

    @property
    def links(self) -> list[str]:
        """The operations on one of them."""
        verbs = ["show", "delete"] if self.update is None else ["show", "update", "delete"]
        return [f"{verb}_{self.word}" for verb in verbs]

    @property
    def word(self) -> str:
        return self.path.removesuffix("s")


def _objects(
    noun: Any,
    create: Callable[[Write, Mapping[str, Any]], Awaitable[Shown]],
    shown: type[BaseModel],
    made: type[BaseModel] | None = None,
) -> Objects:
    """The verbs of one of `control`'s modules."""
    path = noun.__name__.rpartition(".")[2]
    shape, update = path.removesuffix("s").title(), getattr(noun, "update", None)
    return Objects(path, shape, shown, made or shown, noun.list_page, noun.show, create, update, noun.delete)


def add(router: Paths, plane: Plane) -> None:
    async def create_key(write: Write, fields: Mapping[str, Any]) -> Shown:
        return await keys.create(write, plane.pepper, fields)

    async def create_token(write: Write, fields: Mapping[str, Any]) -> Shown:
        return await tokens.create(write, plane.pepper, fields)

    _add_revoke(router, plane)
    _add_rotate(router, plane)
    _add_raise(router, plane)
    for noun in (
        _objects(organisations, organisations.create, answers.ShownOrganisation),
        _objects(teams, teams.create, answers.ShownTeam),
        _objects(projects, projects.create, answers.ShownProject),
        _objects(users, users.create, answers.ShownUser),
        _objects(keys, create_key, answers.ShownKey, answers.CreatedKey),
        _objects(limits, limits.create, answers.ShownLimit),
        _objects(providers, providers.create, answers.ShownProvider),
        _objects(models, models.create, answers.ShownModel),
        _objects(bindings, bindings.create, answers.ShownBinding),
        _objects(tokens, create_token, answers.ShownToken, answers.CreatedToken),
    ):
        _add_reads(router, plane, noun)
        _add_writes(router, plane, noun)


def _add_reads(router: Paths, plane: Plane, noun: Objects) -> None:
    @router.get(
        f"/{noun.path}",
        tags=[noun.path],
        operation_id=f"list_{noun.path}",
        summary=f"List {noun.path}",
        responses=page_of(noun.shown),
    )
    async def list_objects(
        asker: Asker, limit: int = Query(100, ge=1, le=MAX_PAGE), after: str | None = None
    ) -> Response:
        async with plane.door.read() as conn:
            return JsonResponse(await noun.list_page(conn, Page(limit, after), asker.reach))

    @router.get(
        f"/{noun.path}/{noun.name}",
        tags=[noun.path],
        operation_id=f"show_{noun.word}",
        summary=f"Show one {noun.word}",
        responses=read_of(noun.shown),
    )
    async def show_object(asker: Asker, name: str, if_none_match: IfNoneMatch = None) -> Response:
        async with plane.door.read() as conn:
            return shown(await noun.show(conn, name, asker.reach), if_none_match)


def _add_writes(router: Paths, plane: Plane, noun: Objects) -> None:
    @router.post(
        f"/{noun.path}",
        tags=[noun.path],
        status_code=201,
        operation_id=f"create_{noun.word}",
        summary=f"Create a {noun.word}",
        responses=created_of(noun.made, 201, noun.links),
        openapi_extra=body_of(noun.shape),
    )
    async def create_object(asker: Asker, request: Request, idempotency_key: IdempotencyKey = None) -> Response:
        asked = await repeatable(request, idempotency_key, plane.pepper)
        made = await plane.door.change(asker, replays.once, asked, noun.create, await read_object(request))
        return created(made, f"{request.url.path.rstrip('/')}/{quote(str(made.value['name']), safe='/')}")

    if (update := noun.update) is not None:

        @router.patch(
            f"/{noun.path}/{noun.name}",
            tags=[noun.path],
            operation_id=f"update_{noun.word}",
            summary=f"Change a {noun.word}",
            responses=object_of(noun.shown),
            openapi_extra=changes_of(noun.shape),
        )
        async def update_object(asker: Asker, name: str, request: Request, if_match: IfMatch = None) -> Response:
            known, asked = seen(noun.show, name, if_match), await read_object(request)
            return shown(await plane.door.change(asker, if_unchanged, known, update, name, asked))

    @router.delete(
        f"/{noun.path}/{noun.name}",
        tags=[noun.path],
        status_code=204,
        operation_id=f"delete_{noun.word}",
        summary=f"Delete a {noun.word}",
    )
    async def delete_object(asker: Asker, name: str, if_match: IfMatch = None) -> Response:
        await plane.door.change(asker, if_unchanged, seen(noun.show, name, if_match), noun.delete, name)
        return Response(status_code=204)


def _add_revoke(router: Paths, plane: Plane) -> None:
    @router.post(
        "/keys/{name}/revoke",
        tags=["keys"],
        operation_id="revoke_key",
        summary="Refuse a key from now on, for good",
        responses=object_of(answers.ShownKey),
    )
    async def revoke_key(asker: Asker, name: str, if_match: IfMatch = None) -> Response:
        known = seen(keys.show, name, if_match)
        return shown(await plane.door.change(asker, if_unchanged, known, keys.revoke, name))


def _add_rotate(router: Paths, plane: Plane) -> None:
    @router.post(
        "/keys/{name:path}/rotate",
        tags=["keys"],
        operation_id="rotate_key",
        summary="Give a key another secret; the old one is good until its grace is over",
        responses=object_of(answers.CreatedKey),
        openapi_extra=body_of("KeyRotation"),
    )
    async def rotate_key(asker: Asker, name: str, request: Request, if_match: IfMatch = None) -> Response:
        known, asked = seen(keys.show, name, if_match), await read_object(request)
        return shown(await plane.door.change(asker, if_unchanged, known, keys.rotate, plane.pepper, name, asked))


def _add_raise(router: Paths, plane: Plane) -> None:
    @router.post(
        "/limits/{name}/raise",
        tags=["limits"],
        operation_id="raise_limit",
        summary="Raise a limit until a moment, a declared one too",
        responses=object_of(answers.ShownLimit),
        openapi_extra=body_of("Raise"),
    )
    async def raise_limit(
        asker: Asker, name: str, request: Request, idempotency_key: IdempotencyKey = None
    ) -> Response:
        again, asked = await repeatable(request, idempotency_key, plane.pepper), await read_object(request)
        made = await plane.door.change(asker, replays.once, again, limits.raise_amount, name, asked)
        return created(made, request.url.path.removesuffix("/raise"), 200)

    @router.delete(
        "/limits/{name}/raise",
        tags=["limits"],
        operation_id="end_raises",
        summary="End a limit's temporary increases now",
        responses=object_of(answers.ShownLimit),
    )
    async def end_raises(asker: Asker, name: str, if_match: IfMatch = None) -> Response:
        known = seen(limits.show, name, if_match)
        return shown(await plane.door.change(asker, if_unchanged, known, limits.end_raises, name))
