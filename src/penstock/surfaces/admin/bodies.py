"""Request bodies: one JSON object, decoded exactly (numbers with a fraction are decimals, never floats)."""

from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import msgspec
from fastapi import Request
from pydantic import BaseModel

from penstock.control import nouns
from penstock.errors import ControlError, InvalidNoun

M = TypeVar("M", bound=BaseModel)

_decoder = msgspec.json.Decoder(float_hook=Decimal)


class NotJson(ControlError):
    status, code = 400, "invalid_request"


async def read_object(request: Request) -> dict[str, Any]:
    """The body's object. Anything else is a 400 (not JSON) or a 422 (not an object)."""
    content = await request.body()
    try:
        value = _decoder.decode(content)
    except (msgspec.DecodeError, RecursionError, InvalidOperation, UnicodeDecodeError):
        raise NotJson("the body is not JSON, or nested too deep") from None
    if not isinstance(value, dict):
        raise InvalidNoun("the body is one JSON object")
    return value


async def read_as(shape: type[M], request: Request) -> M:
    """The body as `shape`. An unknown, missing or wrongly typed field is a 422 with its place."""
    return nouns.validated(shape, await read_object(request))
