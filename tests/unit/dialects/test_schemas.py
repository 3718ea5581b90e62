"""JSON Schemas, as each vendor takes them, say what the caller's schema says."""

import json
from typing import Any

import pytest
from msgspec import Raw

from penstock.dialects import schemas


def raw(schema: Any) -> Raw:
    return Raw(json.dumps(schema).encode())


def read(schema: Raw) -> Any:
    return json.loads(bytes(schema))


WHOLE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def test_parameters_without_a_fault_pass_as_they_are() -> None:
    given = raw(WHOLE)
    assert schemas.of_function(given) is given


@pytest.mark.parametrize("given", [{}, {"type": "object"}, {"properties": {}}, {"description": "Nothing to tell."}])
def test_parameters_are_an_object_with_properties(given: dict[str, Any]) -> None:
    assert read(schemas.of_function(raw(given))) == {"type": "object", "properties": {}} | given


@pytest.mark.parametrize("given", [{"type": "string"}, {"$ref": "#/$defs/x"}, [1], "text"])
def test_what_is_no_object_is_left_to_the_vendor(given: Any) -> None:
    assert read(schemas.of_function(raw(given))) == given


def test_a_list_says_of_what_also_deep_inside() -> None:
    nested = {"type": "object", "properties": {"rows": {"type": "array", "items": {"type": ["array", "null"]}}}}
    assert read(schemas.of_function(raw(nested)))["properties"]["rows"]["items"] == {
        "type": ["array", "null"],
        "items": {},
    }


def test_a_closed_schema_has_closed_objects_everywhere() -> None:
    given = {
        "type": "object",
        "properties": {"leaf": {"$ref": "#/$defs/Leaf"}, "either": {"oneOf": [WHOLE, {"type": "null"}]}},
        "$defs": {"Leaf": WHOLE},
    }
    form = schemas.closed(raw(given))
    assert form is not None
    schema, is_whole = read(form[0]), form[1]
    assert is_whole
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Leaf"]["additionalProperties"] is False
    assert schema["properties"]["either"]["anyOf"][0]["additionalProperties"] is False
    assert "required" not in schema  # what is optional stays so


def test_bounds_that_nobody_holds_a_model_to_are_told_in_the_description() -> None:
    score = {"type": "integer", "minimum": 0, "maximum": 10, "description": "Of ten."}
    tags = {"type": "array", "items": {"type": "string", "format": "email"}, "minItems": 1}
    form = schemas.closed(raw({"type": "object", "properties": {"score": score, "tags": tags}}))
    assert form is not None
    schema, is_whole = read(form[0]), form[1]
    assert not is_whole
    assert schema["properties"]["score"] == {
        "type": "integer",
        "description": "Of ten.\n\n{minimum: 0, maximum: 10}",
    }
    assert schema["properties"]["tags"] == tags


@pytest.mark.parametrize(
    "given",
    [
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "object", "properties": {"by_city": {"type": "object"}}},
        {
            "type": "object",
            "properties": {"next": {"$ref": "#/$defs/Node"}},
            "$defs": {"Node": {"$ref": "#/$defs/Node"}},
        },
        {"type": "object", "properties": {"next": {"$ref": "#"}}},
        {"type": "object", "properties": {"pair": {"type": "array", "prefixItems": [{"type": "string"}]}}},
        {"type": "object", "properties": {"other": {"$ref": "https://example.org/schema.json"}}},
    ],
)
def test_what_cannot_be_closed_is_not(given: dict[str, Any]) -> None:
    assert schemas.closed(raw(given)) is None


def test_the_same_definition_may_be_used_twice() -> None:
    both = {"a": {"$ref": "#/$defs/Leaf"}, "b": {"$ref": "#/$defs/Leaf"}}
    assert schemas.closed(raw({"type": "object", "properties": both, "$defs": {"Leaf": WHOLE}})) is not None


def test_only_closed_objects_whose_members_are_all_asked_for_are_strict() -> None:
    strict = {**WHOLE, "additionalProperties": False}
    assert schemas.is_strict(raw(strict))
    assert not schemas.is_strict(raw(WHOLE))
    assert not schemas.is_strict(raw({**strict, "required": []}))
    assert not schemas.is_strict(raw({**strict, "properties": {"city": {"type": "string", "default": "Oslo"}}}))
    assert not schemas.is_strict(raw({**strict, "properties": {"city": WHOLE}}))


def test_a_schema_without_an_end_is_not_followed_to_it() -> None:
    deep: dict[str, Any] = {"type": "array"}
    for _ in range(500):
        deep = {"type": "array", "items": deep}
    given = raw({"type": "object", "properties": {"deep": deep}})
    assert schemas.of_function(given)
    schemas.closed(given)
    schemas.is_strict(given)
