"""Editions: which state of an object somebody has seen, so that of two people's edits neither undoes the other unseen.

An edition is a digest of the object as it is shown, so it changes with the object and with nothing else, and needs no
column. What calls change and no administrator (when a key was last used) is not a part of it.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.control.write import Write
from penstock.domain.access import Reach
from penstock.errors import ChangedMeanwhile

P = ParamSpec("P")
T = TypeVar("T")

ANY = "*"
_CHANGED_BY_CALLS = frozenset({"last_used_at"})
_SHOWN_ONCE = frozenset({"secret"})
_encoder = msgspec.json.Encoder(order="sorted")


class Seen(NamedTuple):
    """What whoever asks for a change has seen of `name`: one of `editions` (`ANY`: whatever it is), or None, which
    asks for no comparison. `show` reads the object."""

    show: Callable[[AsyncConnection, str, Reach], Awaitable[dict[str, Any]]]
    name: str
    editions: frozenset[str] | None


def edition(shown: Mapping[str, Any]) -> str:
    """Of an object in its public form: 32 hex digits."""
    left_out = _CHANGED_BY_CALLS | _SHOWN_ONCE
    kept = {name: value for name, value in shown.items() if name not in left_out}
    return hashlib.sha256(_encoder.encode(kept)).hexdigest()[:32]


async def if_unchanged(
    write: Write,
    seen: Seen,
    verb: Callable[Concatenate[Write, P], Awaitable[T]],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """What `verb(write, ...)` returns, if the object is still in an edition that was seen; else ChangedMeanwhile.
    The look and the change are one transaction."""
    if seen.editions is not None and ANY not in seen.editions:
        present = edition(await seen.show(write.conn, seen.name, write.by.reach))
        if present not in seen.editions:
            raise ChangedMeanwhile(
                f"{seen.name!r} was changed since you read it: read it again, and make your change to what it is now"
            )
    return await verb(write, *args, **kwargs)
