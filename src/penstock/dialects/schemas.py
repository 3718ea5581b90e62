"""JSON Schemas as vendors take them.

    described(schema, what)   the schema with what it is for, where it does not say that itself
    of_function(schema)   the parameters of a function: an object with properties, and lists that say of what
    closed(schema)        what Anthropic and Bedrock hold an answer to; None where they cannot be told of it
    is_strict(schema)     whether OpenAI holds a model to it
    asks_for_something(schema)   whether Cohere does

Sources, read 2026-11: OpenAI, "Structured model outputs" (supported schemas) and "Function calling"; Anthropic,
"Structured outputs" (JSON Schema limitations; what its SDKs do with what is not supported); Amazon Bedrock User Guide,
"Structured output"; Cohere, "Structured outputs"; Gemini API reference, `Schema`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import Raw

MAX_DEPTH = 32
"""Levels of a schema that are looked at; what is deeper is passed as it is."""

_Schema = dict[str, Any]
_object = msgspec.json.Decoder(dict[str, Any]).decode
_members = msgspec.json.Decoder(dict[str, Raw]).decode

_OBJECT, _PROPERTIES = Raw(b'"object"'), Raw(b"{}")
_MAPS = ("properties", "$defs", "definitions", "patternProperties")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")


def described(schema: Raw, what: str) -> Raw:
    try:
        members = _members(schema)
    except (msgspec.DecodeError, RecursionError):
        return schema
    return Raw(msgspec.json.encode({**members, "description": what})) if "description" not in members else schema


def of_function(schema: Raw) -> Raw:
    """The parameters of a function as every vendor takes them, saying the same. Without a fault in it: itself."""
    try:
        members = _members(schema)
    except (msgspec.DecodeError, RecursionError):
        return schema  # the vendor says what is wrong with it
    if "type" not in members or "properties" not in members:
        if "$ref" in members or bytes(members.get("type", _OBJECT)) != b'"object"':
            return schema
        schema = Raw(msgspec.json.encode({"type": _OBJECT, "properties": _PROPERTIES, **members}))
    text = bytes(schema)
    if text.count(b'"array"') <= text.count(b'"items"'):
        return schema
    return _changed(schema, _with_items)


def _with_items(schema: _Schema) -> None:
    """Lists of anything."""
    kind = schema.get("type")
    is_list = kind == "array" or (isinstance(kind, list) and "array" in kind)
    if is_list and "items" not in schema and "prefixItems" not in schema:
        schema["items"] = {}


def _changed(schema: Raw, change: Callable[[_Schema], None]) -> Raw:
    try:
        whole = _object(schema)
    except (msgspec.DecodeError, RecursionError):
        return schema
    for part in list(_parts(whole)):
        change(part)
    return Raw(msgspec.json.encode(whole))


def _parts(schema: Any, depth: int = 0) -> Iterator[_Schema]:
    """A schema and the schemas in it."""
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return
    yield schema
    for name in _MAPS:
        parts = schema.get(name)
        for part in parts.values() if isinstance(parts, dict) else ():
            yield from _parts(part, depth + 1)
    for name in _LISTS:
        parts = schema.get(name)
        for part in parts if isinstance(parts, list) else ():
            yield from _parts(part, depth + 1)
    for name in ("items", "additionalProperties"):
        yield from _parts(schema.get(name), depth + 1)


# -- Anthropic and Bedrock --------------------------------------------------------------------------------------------

_KEPT = frozenset(
    (
        *("type", "properties", "required", "items", "anyOf", "allOf", "$ref", "$defs", "definitions", "enum", "const"),
        *("description", "title", "default", "additionalProperties", "$schema", "$id"),
    )
)
_FORMATS = frozenset(("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"))
_REMARKS = ("examples", "discriminator", "$comment")
"""What holds nobody to anything."""


def closed(schema: Raw) -> tuple[Raw, bool] | None:
    """The schema with closed objects, and whether all of it is held; a bound that the vendor does not hold to is told
    in the description, as Anthropic's own SDKs do. None: it has objects of any keys, or refers to itself, or its root
    is no object."""
    try:
        whole = _object(schema)
    except (msgspec.DecodeError, RecursionError):
        return None
    if _is_cyclic(whole) or any(_is_open(part) for part in _parts(whole)):
        return None
    is_whole = True
    for part in list(_parts(whole)):
        is_whole = _close(part) and is_whole
    return Raw(msgspec.json.encode(whole)), is_whole


def _is_object(schema: _Schema) -> bool:
    kind = schema.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema


def _is_open(schema: _Schema) -> bool:
    """Whether it takes objects whose keys are not told, or anything at all."""
    if schema.get("patternProperties") or isinstance(schema.get("prefixItems"), list):
        return True
    if _is_object(schema):
        return not schema.get("properties") and schema.get("additionalProperties") is not False
    return isinstance(schema.get("additionalProperties"), dict)


def _close(schema: _Schema) -> bool:
    """Whether nothing had to be told in words."""
    if "oneOf" in schema and "anyOf" not in schema:
        schema["anyOf"] = schema.pop("oneOf")
    told = {}
    for name in [name for name in schema if name not in _KEPT]:
        value = schema[name]
        is_held = (name == "minItems" and value in (0, 1)) or (name == "format" and value in _FORMATS)
        if not is_held:
            told[name] = schema.pop(name)
    if _is_object(schema):
        schema["additionalProperties"] = False
    told = {name: value for name, value in told.items() if name not in _REMARKS}
    if not told:
        return True
    bounds = ", ".join(f"{name}: {msgspec.json.encode(value).decode()}" for name, value in told.items())
    said = schema.get("description")
    schema["description"] = f"{said}\n\n{{{bounds}}}" if isinstance(said, str) and said else f"{{{bounds}}}"
    return False


def _is_cyclic(whole: _Schema) -> bool:
    """Whether a definition leads to itself, or a reference leads elsewhere."""
    definitions: dict[str, set[str]] = {}
    for place in ("$defs", "definitions"):
        found = whole.get(place)
        for name, definition in (found if isinstance(found, dict) else {}).items():
            definitions[f"#/{place}/{name}"] = _references(definition)
    if not _references(whole) <= definitions.keys():
        return True
    seen: set[str] = set()

    def leads_back(name: str, path: frozenset[str]) -> bool:
        if name in path:
            return True
        if name in seen:
            return False
        seen.add(name)
        return any(leads_back(other, path | {name}) for other in definitions.get(name, ()))

    return any(leads_back(name, frozenset()) for name in list(definitions))


def _references(schema: Any) -> set[str]:
    return {part["$ref"] for part in _parts(schema) if isinstance(part.get("$ref"), str)}


# -- OpenAI -----------------------------------------------------------------------------------------------------------

_STRICT = frozenset(
    (
        *("type", "properties", "required", "items", "anyOf", "$ref", "$defs", "definitions", "enum", "const"),
        *("description", "title", "additionalProperties", "pattern", "format", "multipleOf", "$schema"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems"),
        *("minLength", "maxLength"),
    )
)


def is_strict(schema: Raw) -> bool:
    """Whether every object in it is closed, and asks for all that it has."""
    try:
        whole = _object(schema)
    except (msgspec.DecodeError, RecursionError):
        return False
    return _is_object(whole) and all(map(_is_strict, _parts(whole)))


def _is_strict(schema: _Schema) -> bool:
    if not schema.keys() <= _STRICT:
        return False
    if not _is_object(schema):
        return True
    required, properties = schema.get("required", []), schema.get("properties", {})
    is_told = isinstance(required, list) and isinstance(properties, dict) and set(required) == properties.keys()
    return schema.get("additionalProperties") is False and is_told


# -- Cohere -----------------------------------------------------------------------------------------------------------


def asks_for_something(schema: Raw) -> bool:
    """Whether every object in it has a member that must be there."""
    try:
        whole = _object(schema)
    except (msgspec.DecodeError, RecursionError):
        return False
    return all(part.get("required") for part in _parts(whole) if _is_object(part))
