"""The paths of the admin listener that need no administrator: `/metrics` for Prometheus, with a token of its own where
one is set, and `/healthz` for whoever watches the process.

`/healthz` answers 200 `{"status": "ok"}`, or 503 with what is failing and since when.
"""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import HTTPException, Request, Response

from penstock.domain.snapshot import Secret
from penstock.records.families import CONTENT_TYPE, exposition
from penstock.records.metrics import Metrics
from penstock.surfaces.admin.answers import Health
from penstock.surfaces.admin.documents import answer_of
from penstock.surfaces.admin.paths import Paths
from penstock.surfaces.admin.problems import JsonResponse

_ASK = {"www-authenticate": "Bearer"}


@dataclass(frozen=True)
class Operations:
    """`refresh` brings the gauges that come from the store up to date. `failing`: task -> Unix seconds since when.
    `token`: what `/metrics` asks for; None: nothing."""

    metrics: Metrics
    refresh: Callable[[], Awaitable[None]]
    failing: Callable[[], dict[str, float]]
    token: Secret | None = None


def add(paths: Paths, operations: Operations) -> None:
    router = paths.under(tags=["operations"])

    @router.get(
        "/metrics",
        operation_id="show_metrics",
        response_class=Response,
        summary="Prometheus metrics",
        responses={200: {"description": "The metrics", "content": {CONTENT_TYPE: {"schema": {"type": "string"}}}}},
    )
    async def metrics(request: Request) -> Response:
        if operations.token is not None and not _brings(request, operations.token):
            raise HTTPException(401, "send the token of server.metrics_token as Authorization: Bearer ...", _ASK)
        await operations.refresh()
        return Response(exposition(operations.metrics), media_type=CONTENT_TYPE)

    @router.get(
        "/healthz",
        operation_id="show_health",
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


def _brings(request: Request, token: Secret) -> bool:
    """Whether the request has the token, once; compared whole and in constant time."""
    given = request.headers.getlist("authorization")
    scheme, _, value = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    return scheme.lower() == "bearer" and hmac.compare_digest(value.strip().encode(), token.reveal().encode())
