"""Admin tokens: with which machines, and people at a command line, come to the admin API.

A token has the rights that its user has at the moment it is used, and ends with them. Whoever makes one for somebody
else must have all that these have. A provisioning token is an identity provider's: it opens `/scim/v2` alone.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.config.values import Moment, Name, TagValue
from penstock.control import nouns, references
from penstock.control.actor import Actor, reach_of
from penstock.control.bindings import MAX_SUBJECT, grants_of
from penstock.control.paging import Listing, Page
from penstock.control.write import Write
from penstock.domain.access import EVERYTHING, Reach
from penstock.errors import InvalidNoun, NotAllowed
from penstock.identity import admin_tokens as secrets
from penstock.identity import virtual_keys
from penstock.records.receipts import rfc3339
from penstock.store.tables.control import admin_tokens, users

USUAL_LIFE_NS = int(timedelta(days=90).total_seconds()) * 10**9
LONGEST_LIFE_NS = int(timedelta(days=366).total_seconds()) * 10**9

Purpose = Literal["admin", "provisioning"]


class Token(BaseModel):
    """`user`: whose rights it has; left out: the asker's own. `expires_at`: within a year; left out: in 90 days."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, defer_build=True)

    name: Name
    user: Annotated[TagValue, Field(max_length=MAX_SUBJECT)] | Literal[""] = ""
    purpose: Purpose = "admin"
    expires_at: Moment | None = None


def _shown(row: nouns.Row) -> dict[str, Any]:
    shown = {column: row[column] for column in ("name", "user", "purpose", "prefix")}
    for moment in ("expires_at", "revoked_at"):
        shown[moment] = None if row[moment] is None else rfc3339(row[moment])
    return shown


TOKEN = nouns.Noun("token", admin_tokens, _shown)


async def create(write: Write, pepper: bytes, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields: name, user, purpose, expires_at. The token as it is shown, and `secret`, this once."""
    asked = nouns.validated(Token, fields)
    user = await _owner_of(write, asked)
    expires_at = write.at + USUAL_LIFE_NS
    if asked.expires_at is not None:
        expires_at = int(asked.expires_at.timestamp()) * 10**9
    if not write.at < expires_at <= write.at + LONGEST_LIFE_NS:
        raise InvalidNoun("must be in the future, and within a year", "expires_at")
    secret = secrets.mint(secrets.ADMIN if asked.purpose == "admin" else secrets.PROVISIONING)
    row = {"name": asked.name, "user": user, "purpose": asked.purpose, "expires_at": expires_at, "revoked_at": None}
    kept = {"digest": virtual_keys.digest(pepper, secret), "prefix": secrets.shown(secret)}
    return {**await nouns.add(write, TOKEN, {**row, **kept}), "secret": secret}


async def revoke(write: Write, name: str) -> dict[str, Any]:
    """From now on the token is refused, for good; it stays listed. Revoking it again changes nothing."""
    row = await nouns.fetch_writable(write, TOKEN, name)
    if row["revoked_at"] is not None:
        return nouns.public(TOKEN, row)
    return await nouns.alter(write, TOKEN, row, {"revoked_at": write.at}, "revoke")


async def revoke_all_of(write: Write, user: str) -> None:
    """Every token of a user."""
    query = select(admin_tokens).where(admin_tokens.c.user == user, admin_tokens.c.revoked_at.is_(None))
    for row in (await write.conn.execute(query)).mappings().all():
        await nouns.alter(write, TOKEN, dict(row), {"revoked_at": write.at}, "revoke")


async def delete(write: Write, name: str) -> None:
    await nouns.remove(write, TOKEN, name)


async def show(conn: AsyncConnection, name: str, reach: Reach = EVERYTHING) -> dict[str, Any]:
    return await nouns.show(conn, TOKEN, name, reach)


async def list_page(conn: AsyncConnection, page: Page, reach: Reach = EVERYTHING) -> Listing:
    return await nouns.list_page(conn, TOKEN, page, reach)


async def bearer(conn: AsyncConnection, digest: str, now: int) -> Actor | None:
    """Whose token has this digest; None for one that is unknown, revoked, expired, or of a user who may not sign in."""
    row = (await conn.execute(select(admin_tokens).where(admin_tokens.c.digest == digest))).mappings().first()
    if row is None or row["revoked_at"] is not None or row["expires_at"] <= now:
        return None
    if row["purpose"] == "provisioning":
        return Actor(row["name"], "provisioning")
    return await actor_of(conn, row["user"])


async def actor_of(conn: AsyncConnection, user: str, groups: tuple[str, ...] = ()) -> Actor | None:
    """A user as whoever asks, in `groups` besides those that were provisioned; None for one who may not sign in."""
    kind = (await conn.execute(select(users.c.kind).where(users.c.name == user, users.c.active == 1))).scalar()
    if kind is None:
        return None
    return Actor(user, "service" if kind == "service" else "user", await grants_of(conn, user, groups))


async def _owner_of(write: Write, asked: Token) -> str:
    """Whose token it becomes."""
    if asked.purpose == "provisioning":
        if asked.user:
            raise InvalidNoun("a provisioning token is nobody's: leave the user out", "user")
        if not reach_of(write.by.grants, "provisioning.write").everything:
            raise NotAllowed("only an owner makes provisioning tokens: with one, groups are filled")
        return ""
    if not asked.user and write.by.kind not in {"user", "service"}:
        raise InvalidNoun("name the user whose token it is: a person's or a service's", "user")
    user = asked.user or write.by.name
    await references.require(write.conn, "user", user, "user")
    for grant in await grants_of(write.conn, user):
        write.by.require_cover(*grant)
    return user
