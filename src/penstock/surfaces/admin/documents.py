"""The OpenAPI document: FastAPI's own, with the bodies that `control` decodes, the `answers`, and the problems.

The shapes of bodies are read from `control`'s values, so that the document cannot disagree with the code; those of
answers are `answers`'. It is made when it is first asked for.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from fastapi import FastAPI, Response
from fastapi.params import Depends
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, JsonSchemaWarningKind

from penstock.surfaces.admin import answers
from penstock.surfaces.admin.examples import EXAMPLES

Responses = dict[int | str, dict[str, Any]]

PATH = "/admin/openapi.json"
_REF = "#/components/schemas/{name}"
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"place": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}

PROBLEMS: Responses = {
    "default": {
        "description": "A problem, in words for a person",
        "content": {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}},
    }
}


_ETAG = {"ETag": {"description": "the edition of the object, for If-Match", "schema": {"type": "string"}}}


class _Schemas(GenerateJsonSchema):
    """A field that only its own validator understands may hold anything, as far as the document is concerned, and a
    default that JSON does not have is left out."""

    ignored_warning_kinds: ClassVar[set[JsonSchemaWarningKind]] = {"skipped-choice", "non-serializable-default"}  # type: ignore[misc]

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}


def body_of(name: str) -> dict[str, Any]:
    """What a route says of its body, when that has the shape which the document knows as `name`."""
    media: dict[str, Any] = {"schema": {"$ref": _REF.format(name=name)}}
    if name in EXAMPLES:
        media["examples"] = {"example": {"value": EXAMPLES[name]}}
    return {"requestBody": {"required": True, "content": {"application/json": media}}}


def changes_of(name: str) -> dict[str, Any]:
    """As `body_of`, for a route that takes any of the fields."""
    return body_of(f"{name}Changes")


def answer_of(shape: type[BaseModel], status: int = 200) -> Responses:
    """What a route says of its answer, when that is one value."""
    return _answer(status, {"$ref": _REF.format(name=shape.__name__)})


def object_of(shape: type[BaseModel], status: int = 200) -> Responses:
    """As `answer_of`, for an object with an ETag, which a `GET` that knows it need not carry again."""
    described = answer_of(shape, status)
    described[status]["headers"] = _ETAG
    return described


def created_of(shape: type[BaseModel], status: int, links: Sequence[str], by: str = "name") -> Responses:
    """As `object_of`, for what a route creates. `links`: the operations on it, which name it by its field `by`."""
    described = object_of(shape, status)
    described[status]["links"] = {
        operation: {"operationId": operation, "parameters": {by: f"$response.body#/{by}"}} for operation in links
    }
    return described


def read_of(shape: type[BaseModel]) -> Responses:
    """As `object_of`, for a route that obeys If-None-Match."""
    return {**object_of(shape), 304: {"description": "The object is the one that If-None-Match names"}}


def page_of(shape: type[BaseModel]) -> Responses:
    """As `answer_of`, for a page of a listing."""
    items = {"type": "array", "items": {"$ref": _REF.format(name=shape.__name__)}}
    following = {
        "anyOf": [{"type": "string"}, {"type": "null"}],
        "description": "the cursor of the page after this one (`after`), null at the end",
    }
    page = {"type": "object", "required": ["items", "next"], "properties": {"items": items, "next": following}}
    return _answer(200, page)


def _answer(status: int, schema: dict[str, Any]) -> Responses:
    return {status: {"description": "The answer", "content": {"application/json": {"schema": schema}}}}


def install(application: FastAPI, shapes: Mapping[str, type[BaseModel]], dependencies: Sequence[Depends]) -> None:
    """Makes `application.openapi()` answer the whole document, with a schema for each of `shapes`, and serves it behind
    `dependencies`."""
    plain = application.openapi

    def openapi() -> dict[str, Any]:
        if application.openapi_schema is None:
            application.openapi_schema = _completed(plain(), shapes)
        return application.openapi_schema

    application.openapi = openapi  # type: ignore[method-assign]

    @application.get(PATH, include_in_schema=False, operation_id="show_document", dependencies=dependencies)
    async def show_document() -> Response:
        return JSONResponse(application.openapi())


def _completed(document: dict[str, Any], shapes: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    schemas: dict[str, Any] = {"Problem": _PROBLEM}
    for each in vars(answers).values():
        if isinstance(each, type) and issubclass(each, BaseModel) and each.__module__ == answers.__name__:
            schemas[each.__name__] = _schema(each, schemas)
    for name, shape in shapes.items():
        schema = _schema(shape, schemas)
        schemas[name] = {**schema, "title": name}
        schemas[f"{name}Changes"] = {key: value for key, value in schema.items() if key not in {"required", "title"}}
    components = document.setdefault("components", {})
    components["schemas"] = schemas
    components["securitySchemes"] = {"admin_key": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            # FastAPI's own form of a validation error is not what this surface answers.
            operation["responses"].pop("422", None)
            if path.startswith("/admin"):
                operation["security"] = [{"admin_key": []}]
    return document


def _schema(shape: type[BaseModel], others: dict[str, Any]) -> dict[str, Any]:
    """The schema of `shape`; what it refers to is added to `others`."""
    schema = shape.model_json_schema(ref_template=_REF.replace("{name}", "{model}"), schema_generator=_Schemas)
    others.update(schema.pop("$defs", {}))
    # The description is the code's own, of the value as it is kept and not as it is written.
    schema.pop("description", None)
    return schema
