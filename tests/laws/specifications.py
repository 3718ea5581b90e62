"""Values that a vendor's published specification allows, made from its schemas: OpenAPI's, and Google's discovery
document. They are optional material: see `tests.conformance.stage`.

Each value has one thing that the smallest has not: a member, a word of an enumeration, a branch of a choice, a null, an
empty list. Texts are marks, by which they are found again.
"""

import json
import random
import re
from collections.abc import Iterator
from typing import Any

from tests.conformance.stage import MATERIAL

Schema = dict[str, Any]
MARK = re.compile(r"zq\d+q")
MAX_DEPTH = 9


def schemas(file: str) -> dict[str, Schema]:
    document = json.loads((MATERIAL / "specs" / file).read_bytes())
    found: dict[str, Schema] = document["schemas"] if "schemas" in document else document["components"]["schemas"]
    return found


class Walk:
    """The values of one document's schemas."""

    def __init__(self, schemas: dict[str, Schema]) -> None:
        self._schemas = schemas
        self._marks = 0

    def values(self, name: str) -> Iterator[tuple[str, Any]]:
        """`(place, value)` for everything that the schema of this name has."""
        return self._variants({"$ref": name}, "", ())

    def _mark(self) -> str:
        self._marks += 1
        return f"zq{self._marks}q"

    def _resolved(self, schema: Schema) -> Schema:
        name = ""
        while "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            schema = self._schemas.get(name, {"type": "object"})
        whole = {**schema, "name": name}
        if "allOf" not in schema:
            return whole
        properties: Schema = dict(schema.get("properties", {}))
        required = list(schema.get("required", ()))
        for one in map(self._resolved, schema["allOf"]):
            properties |= one.get("properties", {})
            required += one.get("required", ())
            whole = {**one, **{key: value for key, value in whole.items() if value}}
        return {**whole, "properties": properties, "required": required}

    def _smallest(self, schema: Schema, within: tuple[str, ...] = ()) -> Any:
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if words := schema.get("enum"):
            return next((word for word in words if word is not None and "UNSPECIFIED" not in str(word)), None)
        if (branches := _branches(schema)) is not None:
            open_ones = [one for one in map(self._resolved, branches) if one["name"] not in within or not one["name"]]
            is_free = not open_ones or any(one.get("type") == "null" for one in open_ones)
            return None if is_free else self._smallest(open_ones[0], within)
        return self._plain(schema, within)

    def _plain(self, schema: Schema, within: tuple[str, ...]) -> Any:
        kind, inside = _kind(schema), (*within, schema["name"])
        if kind == "object":
            properties = schema.get("properties", {})
            needed = [name for name in schema.get("required", ()) if name in properties]
            return {name: self._smallest(properties[name], inside) for name in needed}
        if kind == "array":
            items = schema.get("items", {})
            is_within = self._resolved(items)["name"] in within
            return [] if is_within else [self._smallest(items, within)]
        if kind == "string":
            return {"byte": "QUJD", "int64": "7", "uri": f"https://e.com/{self._mark()}"}.get(
                schema.get("format", ""), self._mark()
            )
        if kind in ("integer", "number"):
            most = schema.get("maximum")
            return max(schema.get("minimum") or 0, 7) if most is None or most > 7 else most
        return {"boolean": True, "null": None}.get(str(kind), {self._mark(): self._mark()})

    def _variants(self, schema: Schema, place: str, within: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        schema = self._resolved(schema)
        if place.count(".") > MAX_DEPTH or (schema["name"] and schema["name"] in within):
            return
        if words := schema.get("enum"):
            yield from ((f"{place}={word}", word) for word in words)
        elif (branches := _branches(schema)) is not None:
            for number, one in enumerate(branches):
                yield from self._variants(one, f"{place}<{self._resolved(one)['name'] or number}>", within)
        elif _kind(schema) == "object":
            yield place, self._smallest(schema, within)
            for name, inner in schema.get("properties", {}).items():
                for where, value in self._variants(inner, f"{place}.{name}", (*within, schema["name"])):
                    yield where, {**self._smallest(schema, within), name: value}
        elif _kind(schema) == "array":
            yield f"{place}[]", []
            for where, value in self._variants(schema.get("items", {}), f"{place}[]", within):
                yield where, [value]
        else:
            yield place, self._smallest(schema, within)
        if schema.get("nullable"):
            yield f"{place}=null", None


def _branches(schema: Schema) -> list[Schema] | None:
    return None if "properties" in schema else schema.get("oneOf") or schema.get("anyOf")


def _kind(schema: Schema) -> str | None:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), None)
    return "object" if kind is None and "properties" in schema else kind


ODD = (7, 1.5, True, None, "", "odd", [], {}, [7], [[]], {"a": 1}, "\ud800")


def altered(value: Any, dice: random.Random) -> Any:
    """The value with something odd in one place, or instead of it."""
    if not isinstance(value, dict | list) or not value or dice.random() < 0.1:
        return dice.choice(ODD)
    if isinstance(value, list):
        at = dice.randrange(len(value))
        return [*value[:at], altered(value[at], dice), *value[at + 1 :]]
    name = dice.choice(list(value))
    return {**value, name: altered(value[name], dice)}


def marks_of(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """`(place, mark)` for each mark in a value; members whose names are made up are `*`."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from marks_of(inner, f"{place}.{'*' if MARK.fullmatch(name) else name}")
    elif isinstance(value, list):
        for inner in value:
            yield from marks_of(inner, f"{place}[]")
    elif isinstance(value, str):
        yield from ((place, mark) for mark in MARK.findall(value))
