"""Whether a user may come in: what ends when one is deactivated, and what comes back.

Deactivating ends, in one transaction, the user's sessions and admin tokens, and raises a kill on the user, so that
every virtual key of theirs is stopped as by any kill: pushed to the workers, streams cut, confirmed per node.
"""

from typing import Any

from sqlalchemy import select

from penstock.control import kills, nouns, sessions, tokens, users
from penstock.control.bindings import grants_of, require_owner
from penstock.control.write import Write
from penstock.store.tables.control import kills as raised

REASON = "the user was deactivated"
AGAIN = "the user is active again"


async def deactivate(write: Write, name: str) -> dict[str, Any]:
    """The user, who may not come in any more. Raises NotAllowed for somebody with more rights than the asker, Conflict
    for the last owner. An identity provider's word counts for everybody."""
    row = await nouns.fetch(write.conn, users.USER, name, write.by.reach)
    if not row["active"]:
        return nouns.public(users.USER, row)
    is_told = write.by.kind == "provisioning"
    held = await grants_of(write.conn, name)
    for grant in () if is_told else held:
        write.by.require_cover(*grant)
    generation = await kills.raise_kill(write, {"user": name}, REASON)
    shown = await nouns.alter(write, users.USER, row, {"active": 0, "stopped_by": generation}, "deactivate")
    await tokens.revoke_all_of(write, name)
    await sessions.end_all_of(write, name)
    if not is_told and any(grant.role == "owner" for grant in held):
        await require_owner(write.conn)
    return shown


async def activate(write: Write, name: str) -> dict[str, Any]:
    """The user, who may come in again; the kill is lifted. Tokens stay revoked."""
    row = await nouns.fetch(write.conn, users.USER, name, write.by.reach)
    if row["active"]:
        return nouns.public(users.USER, row)
    for grant in () if write.by.kind == "provisioning" else await grants_of(write.conn, name):
        write.by.require_cover(*grant)
    in_force = select(raised.c.generation).where(raised.c.generation == row["stopped_by"], raised.c.lifted_at.is_(None))
    if (generation := (await write.conn.execute(in_force)).scalar()) is not None:
        await kills.lift(write, generation, AGAIN)
    return await nouns.alter(write, users.USER, row, {"active": 1, "stopped_by": None}, "activate")
