"""The books and what is only looked at: usage, receipts, audit log, ledger, the status.

    GET  /admin/v1/usage?by=team,model&since=&until=    {"rows": [...], "total": {...}}
    GET  /admin/v1/receipts, /receipts/{request_id}
    GET  /admin/v1/audit?kind=&name=
    GET  /admin/v1/ledger                               {"limits": [...]}
    GET  /admin/v1/ledger/adjustments                   the adjustments of balances, the newest first
    POST /admin/v1/ledger/adjustments                   201, one more: {"limit", "amount", "reason", ...}
    POST /admin/v1/ledger/verify                        {"faults": [{"kind", "detail"}]}
    GET  /admin/v1/status                               the process, its workers, what waits in the journals

What the journals still hold is brought into the store before usage, receipts and ledger are read.
"""

import re
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from fastapi import Query, Request, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.control import adjustments, audit, limits
from penstock.control.adjustments import Correction
from penstock.control.paging import MAX_PAGE, Page
from penstock.domain.access import Reach
from penstock.errors import InvalidNoun, NotFoundNoun
from penstock.records.receipts import receipt
from penstock.records.recent import recent
from penstock.records.usage import usage
from penstock.surfaces.admin import answers
from penstock.surfaces.admin.authorisation import Asker
from penstock.surfaces.admin.bodies import read_as
from penstock.surfaces.admin.conditions import IdempotencyKey, IfNoneMatch, created, repeatable, shown
from penstock.surfaces.admin.documents import answer_of, body_of, object_of, page_of, read_of
from penstock.surfaces.admin.paths import Paths
from penstock.surfaces.admin.plane import Plane
from penstock.surfaces.admin.problems import JsonResponse

_AGO = re.compile(r"(\d{1,6})([mhd])")
_AGO_NS = {"m": 60 * 10**9, "h": 3600 * 10**9, "d": 86_400 * 10**9}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)


class AdjustmentRequest(BaseModel):
    """`amount`: in dollars for a limit in usd (a number, or decimal text as answers have it), else a whole number;
    below 0 it gives back. `window_start`: a moment of the window that is meant; left out: the present one."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)

    limit: str
    amount: int | Decimal | str
    reason: str
    value: str = ""
    window_start: str | None = None


def add(router: Paths, plane: Plane) -> None:
    _add_records(router, plane)
    _add_ledger(router, plane)
    _add_history(router, plane)

    @router.get(
        "/status",
        tags=["status"],
        operation_id="show_status",
        summary="The process and its workers",
        responses=answer_of(answers.Status),
    )
    async def show_status() -> Response:
        return JsonResponse(plane.status())


def _add_records(router: Paths, plane: Plane) -> None:
    @router.get(
        "/usage",
        tags=["usage"],
        operation_id="show_usage",
        summary="Calls, tokens and money by any dimension",
        responses=answer_of(answers.Usage),
    )
    async def show_usage(asker: Asker, by: str = "", since: str | None = None, until: str | None = None) -> Response:
        dimensions = [name.strip() for name in by.split(",") if name.strip()]
        span = (instant(since, "since"), instant(until, "until"))
        await plane.exports.record(asker, "usage", f"by={by} since={since or ''} until={until or ''}")
        await plane.drain()
        async with plane.door.read() as conn:
            return JsonResponse(await usage(conn, dimensions, *span, asker.reach))

    @router.get(
        "/receipts",
        tags=["receipts"],
        operation_id="list_receipts",
        summary="Calls, the newest first",
        responses=page_of(answers.Receipt),
    )
    async def list_receipts(
        asker: Asker, limit: int = Query(100, ge=1, le=MAX_PAGE), after: str | None = None
    ) -> Response:
        await plane.exports.record(asker, "receipts", f"limit={limit}")
        await plane.drain()
        async with plane.door.read() as conn:
            items, following = await recent(conn, limit, after, asker.reach)
            await _keep_own_limits(conn, items, asker.reach)
        return JsonResponse({"items": items, "next": following})

    @router.get(
        "/receipts/{request_id}",
        tags=["receipts"],
        operation_id="show_receipt",
        summary="One call",
        responses=read_of(answers.Receipt),
    )
    async def show_receipt(asker: Asker, request_id: str, if_none_match: IfNoneMatch = None) -> Response:
        await plane.drain()
        async with plane.door.read() as conn:
            found = await receipt(conn, request_id, asker.reach)
            await _keep_own_limits(conn, [found] if found else [], asker.reach)
        if found is None:
            raise NotFoundNoun(f"there is no receipt {request_id[:128]!r}")
        return shown(found, if_none_match)


def _add_ledger(router: Paths, plane: Plane) -> None:
    @router.get(
        "/ledger",
        tags=["ledger"],
        operation_id="show_ledger",
        summary="What every limit has settled and held",
        responses=answer_of(answers.Ledger),
    )
    async def show_ledger(asker: Asker) -> Response:
        await plane.drain()
        rows = await plane.ledger()
        async with plane.door.read() as conn:
            own = await limits.names_within(conn, asker.reach)
        return JsonResponse({"limits": rows if own is None else [row for row in rows if row["limit"] in own]})

    @router.post(
        "/ledger/verify",
        tags=["ledger"],
        operation_id="verify_ledger",
        summary="Whether the ledger agrees with itself",
        responses=answer_of(answers.Faults),
    )
    async def verify_ledger() -> Response:
        await plane.drain()
        return JsonResponse({"faults": await plane.verify()})

    @router.get(
        "/ledger/adjustments",
        tags=["ledger"],
        operation_id="list_adjustments",
        summary="Who moved which balance and why, the newest first",
        responses=page_of(answers.ShownAdjustment),
    )
    async def list_adjustments(
        asker: Asker, limit: int = Query(100, ge=1, le=MAX_PAGE), after: str | None = None
    ) -> Response:
        async with plane.door.read() as conn:
            return JsonResponse(await adjustments.list_page(conn, Page(limit, after), asker.reach))

    @router.post(
        "/ledger/adjustments",
        tags=["ledger"],
        status_code=201,
        operation_id="create_adjustment",
        summary="Move a balance, with a reason",
        responses=object_of(answers.CreatedAdjustment, 201),
        openapi_extra=body_of("Adjustment"),
    )
    async def create_adjustment(asker: Asker, request: Request, idempotency_key: IdempotencyKey = None) -> Response:
        again = await repeatable(request, idempotency_key, plane.pepper)
        asked = await read_as(AdjustmentRequest, request)
        at = instant(asked.window_start, "window_start")
        correction = Correction(asked.limit, asked.amount, asked.reason, asked.value, at)
        return created(await plane.adjust(asker, correction, again), request.url.path)


def _add_history(router: Paths, plane: Plane) -> None:
    @router.get(
        "/audit",
        tags=["audit"],
        operation_id="list_audit",
        summary="Who changed what, the newest first",
        responses=page_of(answers.AuditRecord),
    )
    async def list_audit(
        asker: Asker,
        limit: int = Query(100, ge=1, le=MAX_PAGE),
        after: str | None = None,
        kind: str | None = None,
        name: str | None = None,
    ) -> Response:
        await plane.exports.record(asker, "audit", f"kind={kind or ''} name={name or ''}")
        async with plane.door.read() as conn:
            return JsonResponse(await audit.list_page(conn, Page(limit, after), kind, name, reach=asker.reach))


async def _keep_own_limits(conn: AsyncConnection, receipts: list[dict[str, Any]], reach: Reach) -> None:
    """A call is charged to limits of the whole organisation, too; what these are is not for every tenant to see."""
    own = await limits.names_within(conn, reach)
    if own is None:
        return
    for found in receipts:
        found["limits_charged"] = [charged for charged in found["limits_charged"] if charged["limit"] in own]


def instant(text: str | None, place: str) -> int | None:
    """Unix nanoseconds of `2026-01-31`, `2026-01-31T12:00:00Z` (without a zone: UTC), or `24h` ago (m, h, d).
    Raises InvalidNoun at `place`."""
    if text is None:
        return None
    if ago := _AGO.fullmatch(text):
        return max(0, time.time_ns() - int(ago[1]) * _AGO_NS[ago[2]])
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidNoun("write a date, an RFC 3339 time, or 90m, 24h, 7d for how long ago", place) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if not _EPOCH <= moment <= _LATEST:
        raise InvalidNoun("a time lies between the years 1970 and 2200", place)
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000
