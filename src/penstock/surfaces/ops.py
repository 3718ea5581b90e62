"""The open paths of the admin listener: `/metrics` for Prometheus, `/healthz` for whoever watches the process.

`/healthz` answers 200 `{"status": "ok"}`, or 503 with what is failing and since when.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Response

from penstock.records.metrics import CONTENT_TYPE, Metrics
from penstock.surfaces.admin.answers import Health
from penstock.surfaces.admin.documents import answer_of
from penstock.surfaces.admin.problems import JsonResponse


@dataclass(frozen=True)
class Operations:
    """`refresh` brings the gauges that come from the store up to date. `failing`: task -> Unix seconds since when."""

    metrics: Metrics
    refresh: Callable[[], Awaitable[None]]
    failing: Callable[[], dict[str, float]]


def routes(operations: Operations) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get(
        "/metrics",
        operation_id="show_metrics",
        response_class=Response,
        summary="Prometheus metrics",
        responses={200: {"description": "The metrics", "content": {CONTENT_TYPE: {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        await operations.refresh()
        return Response(operations.metrics.exposition(), media_type=CONTENT_TYPE)

    @router.get(
        "/healthz",
        operation_id="show_health",
        response_class=JsonResponse,
        summary="Whether the control process does its work",
        responses={**answer_of(Health), **answer_of(Health, 503)},
    )
    async def healthz() -> Response:
        failing: dict[str, Any] = {
            task: datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds")
            for task, since in operations.failing().items()
        }
        if failing:
            return JsonResponse({"status": "failing", "failing_since": failing}, 503)
        return JsonResponse({"status": "ok"})

    return router
