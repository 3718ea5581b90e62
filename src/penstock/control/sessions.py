"""Sessions: who is signed in, on the server's side, where it can be seen and ended.

A browser has a random secret in a cookie; the store has its digest. A session ends when its time is over, when its user
signs out, when somebody ends it, and with the user.
"""

import secrets
import uuid
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.control import audit
from penstock.control.actor import Actor
from penstock.control.paging import Listing, Page, cut
from penstock.control.tokens import actor_of
from penstock.control.write import Write
from penstock.errors import NotFoundNoun
from penstock.identity import virtual_keys
from penstock.records.receipts import rfc3339
from penstock.store.tables.access import sessions

LIFE_NS = int(timedelta(hours=12).total_seconds()) * 10**9
MAX_GROUPS = 500

_SHOWN = ("name", "user", "how", "address")


async def begin(write: Write, pepper: bytes, user: str, how: str, groups: list[str]) -> str:
    """Signs `user` in; the secret for the cookie. `write.by`: whoever signs in, from where."""
    secret = secrets.token_urlsafe(32)
    row: dict[str, Any] = {
        "name": f"ses_{uuid.uuid4().hex}",
        "digest": virtual_keys.digest(pepper, secret),
        "user": user,
        "how": how,
        "groups": groups[:MAX_GROUPS],
        "address": write.by.address,
        "created_at": write.at,
        "expires_at": write.at + LIFE_NS,
    }
    await write.conn.execute(delete(sessions).where(sessions.c.expires_at <= write.at))
    await write.conn.execute(insert(sessions).values(row))
    await audit.record(write, "sign_in", ("session", row["name"]), None, _shown(row))
    return secret


async def bearer(conn: AsyncConnection, digest: str, now: int) -> tuple[str, Actor] | None:
    """The session of a cookie and whose it is; None for one that is over, or whose user may not sign in."""
    row = (await conn.execute(select(sessions).where(sessions.c.digest == digest))).mappings().first()
    if row is None or row["expires_at"] <= now:
        return None
    actor = await actor_of(conn, row["user"], tuple(row["groups"]))
    return None if actor is None else (row["name"], actor)


async def end(write: Write, name: str, action: str = "end") -> None:
    """Ends one session. `action`: end, sign_out."""
    row = (await write.conn.execute(select(sessions).where(sessions.c.name == name))).mappings().first()
    if row is None:
        raise NotFoundNoun(f"there is no session {name!r}")
    await write.conn.execute(delete(sessions).where(sessions.c.name == name))
    await audit.record(write, action, ("session", name), _shown(dict(row)), None)


async def end_all_of(write: Write, user: str, but: str = "") -> None:
    """Ends every session of a user, but for the one named `but`."""
    query = select(sessions.c.name).where(sessions.c.user == user, sessions.c.name != but)
    for name in (await write.conn.execute(query)).scalars().all():
        await end(write, name)


async def list_page(conn: AsyncConnection, page: Page, now: int) -> Listing:
    """Those that are not over: name, user, how, address, created_at, expires_at."""
    query = select(sessions).where(sessions.c.expires_at > now).order_by(sessions.c.name).limit(page.limit + 1)
    if page.after is not None:
        query = query.where(sessions.c.name > page.after)
    return cut([_shown(dict(row)) for row in (await conn.execute(query)).mappings()], page, "name")


async def of(conn: AsyncConnection, user: str) -> list[dict[str, Any]]:
    """A user's own."""
    query = select(sessions).where(sessions.c.user == user).order_by(sessions.c.created_at)
    return [_shown(dict(row)) for row in (await conn.execute(query)).mappings()]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    times = {moment: rfc3339(row[moment]) for moment in ("created_at", "expires_at")}
    return {**{column: row[column] for column in _SHOWN}, **times}
