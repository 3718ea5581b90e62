"""The price book.

GET  /admin/v1/prices?limit=&after=      its entries, the newest first, each with its `state`
POST /admin/v1/prices {"entries": [...]} 201 {"entries": those that were added, "unchanged": n}; all or none
GET  /admin/v1/prices/effective          {"prices": [...]}: what each alias's targets cost now, and who says so
"""

import time

from fastapi import Query, Request, Response

from penstock.control import prices, replays
from penstock.control.paging import MAX_PAGE, Page
from penstock.errors import InvalidNoun
from penstock.surfaces.admin import answers
from penstock.surfaces.admin.authorisation import Asker
from penstock.surfaces.admin.bodies import read_object
from penstock.surfaces.admin.conditions import IdempotencyKey, created, repeatable
from penstock.surfaces.admin.documents import answer_of, body_of, object_of, page_of
from penstock.surfaces.admin.paths import Paths
from penstock.surfaces.admin.plane import Plane
from penstock.surfaces.admin.problems import JsonResponse


def add(paths: Paths, plane: Plane) -> None:
    router = paths.under(tags=["prices"])

    @router.get(
        "/prices",
        operation_id="list_prices",
        summary="The entries of the price book, the newest first",
        responses=page_of(answers.ShownPriceEntry),
    )
    async def list_prices(limit: int = Query(100, ge=1, le=MAX_PAGE), after: str | None = None) -> Response:
        async with plane.door.read() as conn:
            return JsonResponse(await prices.list_page(conn, Page(limit, after), time.time_ns()))

    @router.post(
        "/prices",
        status_code=201,
        operation_id="add_prices",
        summary="Add entries to the price book",
        responses=object_of(answers.AddedPrices, 201),
        openapi_extra=body_of("PriceUpdate"),
    )
    async def add_prices(asker: Asker, request: Request, idempotency_key: IdempotencyKey = None) -> Response:
        again = await repeatable(request, idempotency_key, plane.pepper)
        asked = await read_object(request)
        entries = asked.pop("entries", None)
        if asked:
            raise InvalidNoun("there is no such field", str(next(iter(asked)))[:64])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise InvalidNoun("must be a list of entries", "entries")
        made = await plane.door.change(asker, replays.once, again, prices.add, entries)
        return created(made, request.url.path)

    @router.get(
        "/prices/effective",
        operation_id="show_effective_prices",
        summary="What each alias's targets cost now",
        responses=answer_of(answers.EffectivePrices),
    )
    async def show_effective() -> Response:
        return JsonResponse({"prices": prices.effective(plane.door.publisher.snapshot)})
