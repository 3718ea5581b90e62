"""What every box on one database must agree on: the root secret.

The database keeps a digest that only the same root secret gives. A box with another would take every key for a
stranger's, and what it made would be strange to the others.

The root secret can be replaced. What callers are known by must not change with it, because nobody has their keys to
hash them again: so from the first replacement on the pepper lies in the database, sealed under the root secret.
"""

from dataclasses import dataclass, field

from sqlalchemy import delete, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.control import audit
from penstock.control.write import Write
from penstock.errors import ConfigError, Conflict
from penstock.identity.secret import Root, pepper, vault_key, verifier
from penstock.store.tables.boxes import boxes, installation
from penstock.vault import envelope

_NAME = "root_secret"
_PEPPER = "pepper"
_OF_BOX = "root:"
_KEEP = text("INSERT INTO installation (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING")


@dataclass(frozen=True)
class Agreed:
    """`is_current`: the store is under the root secret of now; else under the one before, until it is rewrapped."""

    pepper: bytes = field(repr=False)
    is_current: bool


async def agree(conn: AsyncConnection, root: Root, box: str = "") -> Agreed:
    """The pepper of this installation, which `root` gives where it is the first that this store sees. `box` is noted as
    one that has `root`. Raises ConfigError when the store is under another root secret."""
    ours = _verifier(root.value.reveal())
    # One question where all is as it was: calls wait for a start.
    names = (_NAME, _PEPPER, _OF_BOX + box)
    asked = select(installation.c.name, installation.c.value).where(installation.c.name.in_(names))
    found: dict[str, str] = {row.name: row.value for row in await conn.execute(asked)}
    kept, under = found.get(_NAME), root.value
    if kept is None:
        await conn.execute(_KEEP, {"name": _NAME, "value": ours})
        kept = await _kept(conn, _NAME)
    if kept != ours:
        if root.previous is None or kept != _verifier(root.previous.reveal()):
            raise ConfigError(
                "the root secret is not the one that this store's keys were made with: "
                "give PENSTOCK_SECRET (or the file `secret` in the data directory) the value that every other start "
                "had; where it was replaced, give the one before as PENSTOCK_SECRET_PREVIOUS"
            )
        under = root.previous
    if box and found.get(_OF_BOX + box) != ours:
        await _put(conn, _OF_BOX + box, ours)
    sealed = found.get(_PEPPER)
    if sealed is None:
        return Agreed(pepper(under.reveal()), kept == ours)
    return Agreed(envelope.unseal(vault_key(under.reveal()), bytes.fromhex(sealed), (_PEPPER,)), kept == ours)


async def move(write: Write, root: Root, agreed: bytes) -> None:
    """Puts the store under `root`, with the pepper `agreed`. Raises Conflict while a box lives that has another."""
    ours = _verifier(root.value.reveal())
    if await _kept(write.conn, _NAME) == ours:
        return
    live = select(boxes.c.id, boxes.c.node).where(boxes.c.state == "live")
    for box, node in await write.conn.execute(live):
        if await _kept(write.conn, _OF_BOX + box) != ours:
            raise Conflict(f"box {node} has not been started with the new root secret yet")
    sealed = envelope.seal(vault_key(root.value.reveal()), agreed, (_PEPPER,))
    await _put(write.conn, _PEPPER, sealed.hex())
    await _put(write.conn, _NAME, ours)
    await audit.record(write, "rewrap", ("root_secret", "installation"), None, None)


def _verifier(root: str) -> str:
    return verifier(pepper(root))


async def _kept(conn: AsyncConnection, name: str) -> str | None:
    found: str | None = (
        await conn.execute(select(installation.c.value).where(installation.c.name == name))
    ).scalar_one_or_none()
    return found


async def _put(conn: AsyncConnection, name: str, value: str) -> None:
    await conn.execute(delete(installation).where(installation.c.name == name))
    await conn.execute(insert(installation).values(name=name, value=value))
