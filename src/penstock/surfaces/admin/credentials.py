"""The credentials that the vault keeps for providers. Their values go in and are in no answer.

GET    /admin/v1/credentials?limit=&after=     the entries, each with its version and when it is due
POST   /admin/v1/credentials                   201, one more: {"name", "value", "provider" or "kind", ...}
GET    /admin/v1/credentials/{name}
PATCH  /admin/v1/credentials/{name}            {"rotate_every"}: all that can be changed without the value
POST   /admin/v1/credentials/{name}/rotate     {"value", "active_from"}: the next version
DELETE /admin/v1/credentials/{name}            204; 409 while a provider uses it
GET    /admin/v1/vault                         who wraps the data keys, and which there are
POST   /admin/v1/vault/rewrap                  wraps them again: under a new root secret, or by another wrapper

ETags and Idempotency-Keys as those of all objects.
"""

from urllib.parse import quote

from fastapi import Query, Request, Response

from penstock.control import vault_entries
from penstock.control.editions import if_unchanged
from penstock.control.paging import MAX_PAGE, Page
from penstock.surfaces.admin.answers import Rewrapped, ShownCredential, ShownVault
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
from penstock.surfaces.admin.documents import answer_of, body_of, object_of, page_of, read_of
from penstock.surfaces.admin.paths import Paths
from penstock.surfaces.admin.plane import Plane
from penstock.surfaces.admin.problems import JsonResponse

PATH = "/credentials/{name:path}"


def add(paths: Paths, plane: Plane) -> None:
    router = paths.under(tags=["credentials"])
    _add_writes(router, plane)
    _add_vault(router, plane)

    @router.get(
        "/credentials",
        operation_id="list_credentials",
        summary="List credentials",
        responses=page_of(ShownCredential),
    )
    async def list_credentials(
        asker: Asker, limit: int = Query(100, ge=1, le=MAX_PAGE), after: str | None = None
    ) -> Response:
        async with plane.door.read() as conn:
            return JsonResponse(await vault_entries.list_page(conn, Page(limit, after), asker.reach))

    @router.get(
        PATH,
        operation_id="show_credential",
        summary="Show one credential, without its value",
        responses=read_of(ShownCredential),
    )
    async def show_credential(asker: Asker, name: str, if_none_match: IfNoneMatch = None) -> Response:
        async with plane.door.read() as conn:
            return shown(await vault_entries.show(conn, name, asker.reach), if_none_match)


def _add_writes(router: Paths, plane: Plane) -> None:
    @router.post(
        "/credentials",
        status_code=201,
        operation_id="create_credential",
        summary="Put a provider's credential into the vault",
        responses=object_of(ShownCredential, 201),
        openapi_extra=body_of("Credential"),
    )
    async def create_credential(asker: Asker, request: Request, idempotency_key: IdempotencyKey = None) -> Response:
        again = await repeatable(request, idempotency_key, plane.pepper)
        made = await plane.vault.create(asker, await read_object(request), again)
        return created(made, f"{request.url.path}/{quote(made.value['name'])}")

    @router.post(
        f"{PATH}/rotate",
        operation_id="rotate_credential",
        summary="Give a credential its next value",
        responses=object_of(ShownCredential),
        openapi_extra=body_of("Rotation"),
    )
    async def rotate_credential(
        asker: Asker, name: str, request: Request, idempotency_key: IdempotencyKey = None
    ) -> Response:
        again = await repeatable(request, idempotency_key, plane.pepper)
        made = await plane.vault.rotate(asker, name, await read_object(request), again)
        return created(made, request.url.path.removesuffix("/rotate"), 200)

    @router.patch(
        PATH,
        operation_id="update_credential",
        summary="Change when a credential is due",
        responses=object_of(ShownCredential),
        openapi_extra=body_of("CredentialUpdate"),
    )
    async def update_credential(asker: Asker, name: str, request: Request, if_match: IfMatch = None) -> Response:
        known, changes = seen(vault_entries.show, name, if_match), await read_object(request)
        return shown(await plane.door.change(asker, if_unchanged, known, vault_entries.update, name, changes))

    @router.delete(PATH, status_code=204, operation_id="delete_credential", summary="Delete a credential")
    async def delete_credential(asker: Asker, name: str, if_match: IfMatch = None) -> Response:
        known = seen(vault_entries.show, name, if_match)
        await plane.door.change(asker, if_unchanged, known, vault_entries.delete, name)
        return Response(status_code=204)


def _add_vault(router: Paths, plane: Plane) -> None:
    @router.get("/vault", operation_id="show_vault", summary="Who wraps the data keys", responses=answer_of(ShownVault))
    async def show_vault() -> Response:
        root = plane.status()["credentials"]["root_secret"]
        return JsonResponse({**await plane.vault.shown(), "root": root})

    @router.post(
        "/vault/rewrap",
        operation_id="rewrap_vault",
        summary="Wrap every data key again",
        responses=answer_of(Rewrapped),
    )
    async def rewrap_vault(asker: Asker) -> Response:
        return JsonResponse(await plane.rewrap(asker))
