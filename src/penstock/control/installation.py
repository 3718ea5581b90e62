"""What every box on one database must agree on: the root secret.

The database keeps a digest that only the same root secret gives. A box with another would take every key for a
stranger's, and what it made would be strange to the others.
"""

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.errors import ConfigError
from penstock.store.tables.boxes import installation

_NAME = "root_secret"
_KEEP = text("INSERT INTO installation (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING")


async def agree(conn: AsyncConnection, verifier: str) -> None:
    """Keeps `verifier` where there is none yet. Raises ConfigError when the one that is kept differs."""
    await conn.execute(_KEEP, {"name": _NAME, "value": verifier})
    kept = (await conn.execute(select(installation.c.value).where(installation.c.name == _NAME))).scalar_one()
    if kept != verifier:
        raise ConfigError(
            "the root secret is not the one that this store's keys were made with: "
            "give PENSTOCK_SECRET (or the file `secret` in the data directory) the value that every other start had"
        )
