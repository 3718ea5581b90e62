"""The paths of SCIM 2.0.

GET    /scim/v2/ServiceProviderConfig, /Schemas, /ResourceTypes        what the service can do
GET    /scim/v2/Users?filter=&startIndex=&count=&attributes=...        a page of users; `/Groups` likewise
POST   /scim/v2/Users/.search                                          the same, asked in a body
POST   /scim/v2/Users                                                  201 and the user
GET, PUT, PATCH, DELETE /scim/v2/Users/{id}
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import msgspec
from fastapi import Request, Response

from penstock.control import directory
from penstock.control.actor import Actor
from penstock.control.directory import Entry, Kind
from penstock.control.write import Write
from penstock.domain.access import EVERYTHING
from penstock.errors import ControlError, NotFoundNoun, NotServed
from penstock.surfaces.admin.authorisation import Asker
from penstock.surfaces.admin.paths import Paths
from penstock.surfaces.admin.plane import Plane

PREFIX = "/scim/v2"
MEDIA_TYPE = "application/scim+json"


async def _language() -> Any:
    """The module `protocol`, loaded with the first request: most gateways never need it."""
    if find_spec("scim2_models") is None:
        raise NotServed("SCIM needs an extra that is not installed: pip install 'penstock[sso]'")
    return await asyncio.to_thread(import_module, "penstock.surfaces.scim.protocol")


class Service:
    """One request's view of the service."""

    def __init__(self, plane: Plane, request: Request, language: Any) -> None:
        self._door = plane.door
        self._request = request
        self._language = language
        self._protocol = language.Protocol(str(request.base_url).rstrip("/") + PREFIX)

    def described(self, what: str, one: str | None) -> Response:
        """Schemas, types, or the one of them whose id is `one`; or the service's configuration."""
        if what == "service":
            return _json(self._protocol.service())
        items = getattr(self._protocol, what)()
        if one is None:
            return _json(self._language.list_of(items))
        found = next((item for item in items if item["id"].lower() == one.lower()), None)
        if found is None:
            raise NotFoundNoun(f"there is no {one[:128]!r}")
        return _json(found)

    async def list(self, kind: Kind) -> Response:
        if self._request.method == "POST":
            asked = self._protocol.searched(kind, await self._request.body())
        else:
            asked = self._protocol.asked(kind, self._request.query_params)
        async with self._door.read() as conn:
            entries = await directory.list_all(conn, kind, self._language.wanted(asked))
        return _json(self._protocol.listed(kind, entries, asked))

    async def show(self, kind: Kind, id: str) -> Response:
        async with self._door.read() as conn:
            entry = await directory.find(conn, kind, id)
        return _json(self._protocol.shown(entry, self._request.query_params))

    async def create(self, asker: Actor, kind: Kind) -> Response:
        told = self._protocol.created(kind, await self._request.body())
        entry = await self._door.change(asker, directory.create, told)
        shown = self._protocol.shown(entry)
        return _json(shown, 201, {"location": shown["meta"]["location"]})

    async def change(self, asker: Actor, kind: Kind, id: str) -> Response:
        """PUT or PATCH. What is there is read in the transaction that changes it."""
        content = await self._request.body()
        read = self._protocol.replaced if self._request.method == "PUT" else self._protocol.patched

        async def change(write: Write) -> Entry:
            before = await directory.find(write.conn, kind, id)
            return await directory.replace(write, id, read(content, before))

        return _json(self._protocol.shown(await self._door.change(asker, change)))

    async def remove(self, asker: Actor, kind: Kind, id: str) -> Response:
        await self._door.change(asker, directory.remove, kind, id)
        return Response(status_code=204)


def add(paths: Paths, plane: Plane) -> None:
    """SCIM describes itself: the OpenAPI document leaves it out."""
    router = paths.under(PREFIX, in_document=False)

    async def answered(request: Request, work: Callable[[Service], Awaitable[Response]]) -> Response:
        language = await _language()
        try:
            return await work(Service(plane, request, language))
        except (ControlError, ValueError, language.scim.SCIMException) as error:
            status, body = language.refusal(error)
            return _json(body, status)

    _add_descriptions(router, answered)
    _add_resources(router, answered, "User", "users")
    _add_resources(router, answered, "Group", "groups")

    @router.post("/.search", operation_id="scim_search")
    async def search(request: Request) -> Response:
        async def work(_service: Service) -> Response:
            raise NotServed("several kinds at once cannot be searched: ask /Users/.search or /Groups/.search")

        return await answered(request, work)

    @router.get("/{rest:path}", operation_id="scim_nowhere")
    async def nowhere(request: Request, rest: str) -> Response:
        async def work(_service: Service) -> Response:
            raise NotFoundNoun(f"there is no /{rest[:128]}")

        return await answered(request, work)


Answered = Callable[[Request, Callable[[Service], Awaitable[Response]]], Awaitable[Response]]


def _add_descriptions(router: Paths, answered: Answered) -> None:
    async def described(request: Request, what: str, one: str | None = None) -> Response:
        async def work(service: Service) -> Response:
            return service.described(what, one)

        return await answered(request, work)

    @router.get("/ServiceProviderConfig", operation_id="scim_service")
    async def service(request: Request) -> Response:
        return await described(request, "service")

    @router.get("/Schemas", operation_id="scim_schemas")
    async def schemas(request: Request) -> Response:
        return await described(request, "schemas")

    @router.get("/Schemas/{one}", operation_id="scim_schema")
    async def schema(request: Request, one: str) -> Response:
        return await described(request, "schemas", one)

    @router.get("/ResourceTypes", operation_id="scim_types")
    async def types(request: Request) -> Response:
        return await described(request, "types")

    @router.get("/ResourceTypes/{one}", operation_id="scim_type")
    async def type_(request: Request, one: str) -> Response:
        return await described(request, "types", one)


def _add_resources(router: Paths, answered: Answered, kind: Kind, word: str) -> None:
    path = f"/{kind}s"

    @router.get(path, operation_id=f"scim_list_{word}")
    async def list_all(request: Request) -> Response:
        return await answered(request, lambda service: service.list(kind))

    @router.post(path + "/.search", operation_id=f"scim_search_{word}")
    async def search(request: Request) -> Response:
        return await answered(request, lambda service: service.list(kind))

    @router.post(path, operation_id=f"scim_create_{word}")
    async def create(asker: Asker, request: Request) -> Response:
        return await answered(request, lambda service: service.create(_trusted(asker), kind))

    @router.get(path + "/{id}", operation_id=f"scim_show_{word}")
    async def show(request: Request, id: str) -> Response:
        return await answered(request, lambda service: service.show(kind, id))

    @router.put(path + "/{id}", operation_id=f"scim_replace_{word}")
    async def put(asker: Asker, request: Request, id: str) -> Response:
        return await answered(request, lambda service: service.change(_trusted(asker), kind, id))

    @router.patch(path + "/{id}", operation_id=f"scim_patch_{word}")
    async def patch(asker: Asker, request: Request, id: str) -> Response:
        return await answered(request, lambda service: service.change(_trusted(asker), kind, id))

    @router.delete(path + "/{id}", operation_id=f"scim_delete_{word}")
    async def delete(asker: Asker, request: Request, id: str) -> Response:
        return await answered(request, lambda service: service.remove(_trusted(asker), kind, id))


def _trusted(asker: Actor) -> Actor:
    """An identity provider's word counts for every user."""
    return replace(asker, reach=EVERYTHING)


def _json(value: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, MEDIA_TYPE)
