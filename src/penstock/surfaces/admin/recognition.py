"""Who it is that comes with a token or a cookie, as the store knows it."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.control import sessions, tokens
from penstock.control.actor import Actor
from penstock.control.strangers import Strangers
from penstock.identity import admin_tokens, virtual_keys
from penstock.surfaces.admin.edge import Recognition
from penstock.surfaces.admin.plane import Plane

Found = TypeVar("Found")


def recognition(plane: Plane) -> Recognition:
    """Whoever is recognised can be looked up again: a change asks for the rights of its own moment."""
    strangers = Strangers(plane.door)

    async def bearer(secret: str) -> Actor | None:
        if not admin_tokens.well_formed(secret):
            return None
        digest = virtual_keys.digest(plane.pepper, secret)

        async def look_up(conn: AsyncConnection) -> Actor | None:
            return await tokens.bearer(conn, digest, time.time_ns())

        found = await first_look(digest, look_up)
        return None if found is None else replace(found[0], again=look_up, seen=found[1])

    async def session(secret: str) -> tuple[str, Actor] | None:
        digest = virtual_keys.digest(plane.pepper, secret)

        async def look_up(conn: AsyncConnection) -> tuple[str, Actor] | None:
            return await sessions.bearer(conn, digest, time.time_ns())

        async def whose(conn: AsyncConnection) -> Actor | None:
            again = await look_up(conn)
            return None if again is None else again[1]

        found = await first_look(digest, look_up)
        return None if found is None else (found[0][0], replace(found[0][1], again=whose, seen=found[1]))

    async def first_look(
        digest: str, look_up: Callable[[AsyncConnection], Awaitable[Found | None]]
    ) -> tuple[Found, int] | None:
        """What is found, and the number of a change that it has seen for certain."""
        if await strangers.has(digest):
            return None
        seen = plane.door.seen
        async with plane.door.read() as conn:
            found = await look_up(conn)
        if found is None:
            strangers.failed()
            return None
        return found, seen

    return Recognition(plane.admin_key, bearer, session)
