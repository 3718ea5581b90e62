"""Kills: raised, confirmed by every node, lifted with a reason.

POST   /admin/v1/kill {"scope": {"team": "growth"}, "reason": "..."}    202 {"generation": 7}
GET    /admin/v1/kill/7                                                 {"generation": 7, "nodes": [...], ...}
DELETE /admin/v1/kill/7 {"reason": "..."}                               the kill, lifted
GET    /admin/v1/kills?limit=&after=                                    {"items": [...], "next": ...}
"""

from typing import Annotated, Any

from fastapi import Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from penstock.control import kills, replays
from penstock.control.paging import MAX_PAGE, Page
from penstock.control.write import Write
from penstock.surfaces.admin import answers
from penstock.surfaces.admin.authorisation import Asker
from penstock.surfaces.admin.bodies import read_as
from penstock.surfaces.admin.conditions import IdempotencyKey, IfNoneMatch, created, repeatable, shown
from penstock.surfaces.admin.documents import answer_of, body_of, created_of, page_of, read_of
from penstock.surfaces.admin.paths import Paths
from penstock.surfaces.admin.plane import Plane
from penstock.surfaces.admin.problems import JsonResponse

Generation = Annotated[int, Path(ge=1, lt=2**63)]


class KillRequest(BaseModel):
    """`scope`: one of key, team, project, user, organisation, customer, tag, provider, model with its value, or
    `{"all": true}`."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)

    scope: dict[str, Any]
    reason: str


class LiftRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)

    reason: str


def add(paths: Paths, plane: Plane) -> None:
    router = paths.under(tags=["kills"])

    @router.post(
        "/kill",
        status_code=202,
        operation_id="raise_kill",
        summary="Stop calls: durable when answered, confirmed per node afterwards",
        responses=created_of(answers.RaisedKill, 202, ["show_kill", "lift_kill"], "generation"),
        openapi_extra=body_of("Kill"),
    )
    async def raise_kill(asker: Asker, request: Request, idempotency_key: IdempotencyKey = None) -> Response:
        again, asked = await repeatable(request, idempotency_key, plane.pepper), await read_as(KillRequest, request)
        made = await plane.door.change(asker, replays.once, again, _raise, asked)
        return created(made, f"/admin/v1/kill/{made.value['generation']}", 202)

    @router.get(
        "/kill/{generation}",
        operation_id="show_kill",
        summary="Show a kill and which nodes obey it",
        responses=read_of(answers.KillWithNodes),
    )
    async def show_kill(asker: Asker, generation: Generation, if_none_match: IfNoneMatch = None) -> Response:
        async with plane.door.read() as conn:
            kill = await kills.show(conn, generation, asker.reach)
        return shown({**kill, "nodes": await plane.kill_nodes(generation)}, if_none_match)

    @router.delete(
        "/kill/{generation}",
        operation_id="lift_kill",
        summary="Lift a kill; it needs a reason",
        responses=answer_of(answers.ShownKill),
        openapi_extra=body_of("Lift"),
    )
    async def lift_kill(asker: Asker, generation: Generation, request: Request) -> Response:
        asked = await read_as(LiftRequest, request)
        return JsonResponse(await plane.door.change(asker, kills.lift, generation, asked.reason))

    @router.get(
        "/kills",
        operation_id="list_kills",
        summary="List kills, lifted ones included",
        responses=page_of(answers.ShownKill),
    )
    async def list_kills(
        asker: Asker, limit: int = Query(100, ge=1, le=MAX_PAGE), after: str | None = None
    ) -> Response:
        async with plane.door.read() as conn:
            return JsonResponse(await kills.list_page(conn, Page(limit, after), asker.reach))


async def _raise(write: Write, asked: KillRequest) -> dict[str, Any]:
    return {"generation": await kills.raise_kill(write, asked.scope, asked.reason)}
