"""Keys under keys, in the store. What a key may ask for under another is in `config.lineage`."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.config.document import dotted
from penstock.config.lineage import INHERITED, wider
from penstock.control import nouns, references
from penstock.control.write import Write
from penstock.domain.tenancy import MAX_ANCESTORS
from penstock.errors import Conflict, InvalidNoun
from penstock.store.tables.control import keys


async def parent_of(write: Write, name: str) -> nouns.Row:
    """The row of the key that is to be a parent. Raises InvalidNoun where it cannot be one."""
    await references.require(write.conn, "key", name, "parent", write.by.reach)
    conn, at = write.conn, write.at
    line: list[nouns.Row] = []
    while name:
        found = (await conn.execute(select(keys).where(keys.c.name == name))).mappings().first()
        if found is None:
            raise InvalidNoun(f"there is no key {name!r}", "parent")
        if found["revoked_at"] is not None or (found["expires_at"] is not None and found["expires_at"] <= at):
            raise InvalidNoun(f"key {name!r} has come to its end", "parent")
        line.append(dict(found))
        name = found["parent"]
    if len(line) > MAX_ANCESTORS:
        raise InvalidNoun(f"at most {MAX_ANCESTORS} keys stand over another", "parent")
    return line[0]


def refuse_wider(child: nouns.Row, parent: nouns.Row) -> None:
    """Raises InvalidNoun where the key asks for what the one above it does not have."""
    for place, sentence in wider(child, parent):
        raise InvalidNoun(sentence, dotted(place))


async def refuse_strays(conn: AsyncConnection, after: nouns.Row) -> None:
    """Raises Conflict where a key below would no longer be of the same team, project and user."""
    below = select(keys).where(keys.c.parent == after["name"]).order_by(keys.c.name)
    for row in (await conn.execute(below)).mappings():
        for field in INHERITED:
            if after[field] and row[field] != after[field]:
                raise Conflict(f"key {row['name']!r} stands under it, and its {field} is {row[field]!r}", field)
