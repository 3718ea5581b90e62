"""Every route of the admin listener says what it needs, or the listener does not start."""

import pytest
from fastapi import APIRouter, Depends, FastAPI

from penstock.surfaces.admin import authorisation


async def _answer() -> None:
    return None


def _application(operation: str, *, guarded: bool = True) -> FastAPI:
    application = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    inner = APIRouter()
    inner.get("/thing", operation_id=operation)(_answer)
    application.include_router(inner, dependencies=[Depends(authorisation.authorise)] if guarded else [])
    return application


def test_a_route_without_a_permission_keeps_the_listener_from_starting() -> None:
    with pytest.raises(ValueError, match="/thing declares no permission"):
        authorisation.check(_application("paint_team"))


def test_a_route_that_nobody_guards_keeps_the_listener_from_starting() -> None:
    with pytest.raises(ValueError, match="/thing does not authorise"):
        authorisation.check(_application("list_teams", guarded=False))


def test_a_route_of_another_kind_keeps_the_listener_from_starting() -> None:
    with pytest.raises(ValueError, match=r"/openapi\.json is no route that could authorise"):
        authorisation.check(FastAPI(docs_url=None, redoc_url=None))


def test_a_line_of_the_table_without_a_route_keeps_the_listener_from_starting() -> None:
    with pytest.raises(ValueError, match="there is no operation"):
        authorisation.check(_application("list_teams"))
