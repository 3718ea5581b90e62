"""Where a surface puts its routes: straight into the application.

FastAPI works a route out anew for each router that it is included through; at a hundred routes that was half of the
time that the listener took to be ready.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

from fastapi import FastAPI
from fastapi.params import Depends

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


class Paths:
    """The paths below `prefix`. What is given here holds for every route that is added: `dependencies`, `responses`,
    `tags`, and whether the OpenAPI document names it."""

    def __init__(
        self,
        application: FastAPI,
        prefix: str = "",
        *,
        dependencies: Sequence[Depends] = (),
        responses: Mapping[int | str, dict[str, Any]] | None = None,
        tags: Sequence[str] = (),
        in_document: bool = True,
    ) -> None:
        self._application = application
        self._prefix = prefix
        self._dependencies = [*dependencies]
        self._in_document = in_document
        self._responses = responses or {}
        self._tags = [*tags]

    def under(self, prefix: str = "", *, tags: Sequence[str] = (), in_document: bool = True) -> Self:
        """Those below a longer prefix, with more tags."""
        return type(self)(
            self._application,
            self._prefix + prefix,
            dependencies=self._dependencies,
            responses=self._responses,
            tags=[*self._tags, *tags],
            in_document=in_document,
        )

    def get(self, path: str, **route: Any) -> Callable[[Endpoint], Endpoint]:
        return self._add("GET", path, route)

    def post(self, path: str, **route: Any) -> Callable[[Endpoint], Endpoint]:
        return self._add("POST", path, route)

    def put(self, path: str, **route: Any) -> Callable[[Endpoint], Endpoint]:
        return self._add("PUT", path, route)

    def patch(self, path: str, **route: Any) -> Callable[[Endpoint], Endpoint]:
        return self._add("PATCH", path, route)

    def delete(self, path: str, **route: Any) -> Callable[[Endpoint], Endpoint]:
        return self._add("DELETE", path, route)

    def _add(self, method: str, path: str, route: Mapping[str, Any]) -> Callable[[Endpoint], Endpoint]:
        """`route` as FastAPI's own decorators take it."""
        tags = [*self._tags, *route.get("tags", ())]
        responses = {**self._responses, **route.get("responses", {})}
        shown = self._in_document and route.get("include_in_schema", True)
        given = {**route, "tags": tags, "responses": responses, "include_in_schema": shown}
        return self._application.api_route(
            self._prefix + path, methods=[method], dependencies=self._dependencies, **given
        )
