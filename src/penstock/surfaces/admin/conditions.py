"""Conditional and repeated requests: ETag, If-Match, If-None-Match (RFC 9110, sections 8.8.3, 13.1); Idempotency-Key.

An ETag is the edition of an object, see `control.editions`.
"""

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

from fastapi import Header, Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.control.editions import ANY, Seen, edition
from penstock.control.replays import Answer
from penstock.control.replays import Request as Repeatable
from penstock.domain.access import Reach
from penstock.errors import ControlError
from penstock.surfaces.admin.problems import JsonResponse

_TAG = re.compile(r'\s*(W/)?"([\x21\x23-\x7e]*)"\s*', re.ASCII)
_IDEMPOTENCY_KEY = r"^[\x21-\x7e]{1,255}$"
_TAGS = r'^\s*(\*|(W/)?"[\x21\x23-\x7e]*"(\s*,\s*(W/)?"[\x21\x23-\x7e]*")*)\s*$'

IfMatch = Annotated[
    str | None,
    Header(
        description="ETags: the change is made only while the object is still one of these, else it is a 412",
        pattern=_TAGS,
        max_length=4_096,
    ),
]
IfNoneMatch = Annotated[
    str | None,
    Header(description="ETags: while the object is one of these, the answer is 304", pattern=_TAGS, max_length=4_096),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        description="a word for this request: sent again within 24 hours, it is not done again and is answered alike",
        pattern=_IDEMPOTENCY_KEY,
    ),
]


class InvalidHeader(ControlError):
    status, code = 400, "invalid_request"


def seen(
    show: Callable[[AsyncConnection, str, Reach], Awaitable[dict[str, Any]]], name: str, if_match: str | None
) -> Seen:
    """What the request says it has seen of the object. Weak tags are good for no change (RFC 9110, section 13.1.1)."""
    return Seen(show, name, None if if_match is None else _editions(if_match, weak_too=False))


def shown(value: Mapping[str, Any], if_none_match: str | None = None) -> Response:
    """The object with its ETag, or 304 where the request has it already."""
    tag = {"etag": f'"{edition(value)}"'}
    if if_none_match is not None:
        known = _editions(if_none_match, weak_too=True)
        if ANY in known or edition(value) in known:
            return Response(status_code=304, headers=tag)
    return JsonResponse(value, headers=tag)


def created(answer: Answer, place: str, status: int = 201) -> Response:
    """What a creation answers, with the ETag of what was created at `place`."""
    headers = {"location": place, "etag": f'"{edition(answer.value)}"'}
    if answer.replayed:
        headers["idempotency-replayed"] = "true"
    return JsonResponse(answer.value, status, headers)


async def repeatable(request: Request, name: str | None, pepper: bytes) -> Repeatable | None:
    """The request as one that may come again; None without an Idempotency-Key, whose value is `name`."""
    if name is None:
        return None
    if len(request.headers.getlist("idempotency-key")) > 1:
        raise InvalidHeader("send one Idempotency-Key", "idempotency-key")
    # Keyed: a body may hold what must not be guessed.
    asked = f"{request.method} {request.url.path}?{request.url.query}\n".encode() + await request.body()
    content = hmac.new(pepper, asked, hashlib.sha256).hexdigest()
    return Repeatable(hashlib.sha256(name.encode()).hexdigest(), content)


def _editions(field: str, *, weak_too: bool) -> frozenset[str]:
    """The tags of a field, whose pattern was checked."""
    if field.strip() == ANY:
        return frozenset({ANY})
    return frozenset(tag for weak, tag in _TAG.findall(field) if weak_too or not weak)
