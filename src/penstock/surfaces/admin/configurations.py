"""The declared configuration: its history, a file that is put in force, and the way back.

    GET  /admin/v1/config                                   the versions, the newest first
    GET  /admin/v1/config/{version}                         one, with what it declared
    POST /admin/v1/config/apply?dry_run=&base=              the body is the file: {"base", "version", "steps", ...}
    POST /admin/v1/config/{version}/rollback?dry_run=&base= the same of a version of the history

A step is `{"action", "kind", "name", "fields": {field: [before, after]}}`. `base` is the newest version at the
time of the plan: where it is another by now, the answer is 409.
"""

from typing import Annotated, Any

import msgspec
from fastapi import Path, Query, Request, Response

from penstock.control import declared
from penstock.control.configuration import Terms
from penstock.control.paging import MAX_PAGE, Page
from penstock.surfaces.admin import answers
from penstock.surfaces.admin.authorisation import Asker
from penstock.surfaces.admin.documents import answer_of, page_of
from penstock.surfaces.admin.paths import Paths
from penstock.surfaces.admin.plane import Plane
from penstock.surfaces.admin.problems import JsonResponse

Version = Annotated[int, Path(ge=1, lt=2**31)]
Base = Annotated[int | None, Query(ge=0, lt=2**31)]

_FILE: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/yaml": {"schema": {"type": "string"}}}}
}
_exact = msgspec.json.Encoder(decimal_format="number")


def add(paths: Paths, plane: Plane) -> None:
    router = paths.under(tags=["config"])

    @router.get(
        "/config",
        operation_id="list_config",
        summary="The versions of the declared configuration",
        responses=page_of(answers.ConfigVersion),
    )
    async def list_config(limit: int = Query(100, ge=1, le=MAX_PAGE), after: str | None = None) -> Response:
        async with plane.door.read() as conn:
            return JsonResponse(await declared.list_page(conn, Page(limit, after)))

    @router.get(
        "/config/{version:int}",
        operation_id="show_config",
        summary="One version, with what it declared",
        responses=answer_of(answers.ConfigVersionWithDocument),
    )
    async def show_config(asker: Asker, version: Version) -> Response:
        await plane.exports.record(asker, "config", f"version {version}")
        async with plane.door.read() as conn:
            found = await declared.show(conn, version)
        # As numbers, and not as the text that other answers write: it can be applied as it is.
        return Response(_exact.encode(found), media_type="application/json")

    @router.post(
        "/config/apply",
        operation_id="apply_config",
        summary="Put a configuration file in force, or say what would change",
        responses=answer_of(answers.ConfigChange),
        openapi_extra=_FILE,
    )
    async def apply_config(asker: Asker, request: Request, dry_run: bool = False, base: Base = None) -> Response:
        content = await request.body()
        return JsonResponse(await plane.configuration.apply(asker, content, Terms(dry_run, base)))

    @router.post(
        "/config/{version:int}/rollback",
        operation_id="roll_back_config",
        summary="Put a version of the history in force again",
        responses=answer_of(answers.ConfigChange),
    )
    async def roll_back_config(asker: Asker, version: Version, dry_run: bool = False, base: Base = None) -> Response:
        return JsonResponse(await plane.configuration.roll_back(asker, version, Terms(dry_run, base)))
