"""The OpenAPI document: FastAPI's own, with the bodies that `control` decodes and the problems that it refuses with.

The shapes are read from `control`'s values, so that the document cannot disagree with the code. It is made when it is
first asked for.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, JsonSchemaWarningKind

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

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A problem, in words for a person",
        "content": {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}},
    }
}


class _Schemas(GenerateJsonSchema):
    """A field that only its own validator understands may hold anything, as far as the document is concerned, and a
    default that JSON does not have is left out."""

    ignored_warning_kinds: ClassVar[set[JsonSchemaWarningKind]] = {"skipped-choice", "non-serializable-default"}  # type: ignore[misc]

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}


def body_of(name: str) -> dict[str, Any]:
    """What a route says of its body, when that has the shape which the document knows as `name`."""
    content = {"application/json": {"schema": {"$ref": _REF.format(name=name)}}}
    return {"requestBody": {"required": True, "content": content}}


def changes_of(name: str) -> dict[str, Any]:
    """As `body_of`, for a route that takes any of the fields."""
    return body_of(f"{name}Changes")


def install(application: FastAPI, shapes: Mapping[str, type[BaseModel]]) -> None:
    """Makes `application.openapi()` answer the whole document, with a schema for each of `shapes`."""
    plain = application.openapi

    def openapi() -> dict[str, Any]:
        if application.openapi_schema is None:
            application.openapi_schema = _completed(plain(), shapes)
        return application.openapi_schema

    application.openapi = openapi  # type: ignore[method-assign]


def _completed(document: dict[str, Any], shapes: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    schemas: dict[str, Any] = {"Problem": _PROBLEM}
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
