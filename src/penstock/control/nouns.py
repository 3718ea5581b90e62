"""What all nouns have in common: decoding what is asked for, one row per object, provenance, audit, pages.

A noun is a table whose rows have a unique `name` and a provenance, and a public form. A noun's file says what its
fields are and which rules they obey; here is how its rows are written and read.
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError
from sqlalchemy import Table, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.config.document import dotted
from penstock.config.loading import place_of, sentence_of
from penstock.control import audit, references
from penstock.control.paging import Listing, Page, cut
from penstock.control.tenancy import tenant_of, visible
from penstock.control.write import Write
from penstock.domain.access import EVERYTHING, Reach, Tenant
from penstock.errors import Conflict, Declared, InvalidNoun, NotAllowed, NotFoundNoun
from penstock.records.receipts import rfc3339

Row = dict[str, Any]
S = TypeVar("S", bound=msgspec.Struct)
M = TypeVar("M", bound=BaseModel)
MAX_DIGITS = 30
MAX_REASON = 1_000

_DECIMAL = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,2})?", re.ASCII)


class Noun(msgspec.Struct, frozen=True):
    """`kind`: the word for it in sentences and in the audit log. `shown`: its own fields in public form."""

    kind: str
    table: Table
    shown: Callable[[Row], dict[str, Any]]


def decode(shape: type[S], fields: Mapping[str, Any]) -> S:
    """`fields` as `shape`. An unknown, missing or wrongly typed field is InvalidNoun with its place."""
    try:
        return msgspec.convert(dict(fields), shape)
    except msgspec.ValidationError as error:
        sentence, _, place = str(error).partition(" - at `")
        raise InvalidNoun(sentence, place.rstrip("`").removeprefix("$").removeprefix(".")) from None


def validated(shape: type[M], fields: Mapping[str, Any]) -> M:
    """`fields` as one of the configuration file's own shapes, so that file and API obey the same rules."""
    try:
        return shape.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        sentence = "there is no such field" if first["type"] == "extra_forbidden" else sentence_of(first)
        raise InvalidNoun(sentence, dotted(place_of(first))) from None


def exact(amount: Any, place: str) -> Any:
    """An amount as the number it says, also where it came as decimal text, which is how answers write money."""
    if isinstance(amount, str) and _DECIMAL.fullmatch(amount):
        return Decimal(amount)
    if isinstance(amount, Decimal) and not (amount.is_finite() and abs(amount.adjusted()) <= MAX_DIGITS):
        raise InvalidNoun("must be a number such as 5 or 0.25", place)
    return amount


def checked_reason(reason: str) -> str:
    """Why somebody did it, for whoever reads it later."""
    reason = reason.strip()
    if not 1 <= len(reason) <= MAX_REASON or "\x00" in reason:
        raise InvalidNoun(f"say why, in 1 to {MAX_REASON} characters", "reason")
    return reason


def merged(current: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`current` with `changes` over it. The name of an object never changes: others refer to it."""
    if "name" in changes and changes["name"] != current["name"]:
        raise InvalidNoun("a name cannot be changed, because others refer to it: create another", "name")
    return {**current, **changes}


def public(noun: Noun, row: Row) -> dict[str, Any]:
    """The object as every answer, listing and audit row shows it."""
    provenance = {
        "origin": row["origin"],
        "created_at": rfc3339(row["created_at"]),
        "created_by": row["created_by"],
        "updated_at": rfc3339(row["updated_at"]),
    }
    return {**noun.shown(row), **provenance}


async def find(conn: AsyncConnection, noun: Noun, name: str, reach: Reach = EVERYTHING) -> Row | None:
    """The row of that name, or of that id where the noun has ids, as far as `reach` covers it."""
    table = noun.table
    query = select(table).where(visible(noun.kind, reach))
    row = (await conn.execute(query.where(table.c.name == name))).mappings().first()
    if row is None and "id" in table.c:
        row = (await conn.execute(query.where(table.c.id == name))).mappings().first()
    return dict(row) if row is not None else None


async def fetch(conn: AsyncConnection, noun: Noun, name: str, reach: Reach = EVERYTHING) -> Row:
    """The row of that name or id, or NotFoundNoun: what `reach` does not cover might as well not exist."""
    row = await find(conn, noun, name, reach)
    if row is None:
        raise NotFoundNoun(f"there is no {noun.kind} {name!r}")
    return row


async def fetch_writable(write: Write, noun: Noun, name: str) -> Row:
    """The row, for a change of `write.origin`: what the file declares is changed in the file alone."""
    row = await fetch(write.conn, noun, name, write.by.reach)
    if row["origin"] != write.origin:
        if write.origin == "api":
            raise Declared(f"{noun.kind} {name!r} is declared in the configuration file; change it there")
        raise Conflict(f"{noun.kind} {name!r} exists already and was not made by the configuration file")
    return row


async def add(write: Write, noun: Noun, row: Row) -> dict[str, Any]:
    """Inserts `row` (without its provenance) and answers its public form. A taken name is Conflict."""
    if await find(write.conn, noun, row["name"]) is not None:
        raise Conflict(f"there is a {noun.kind} {row['name']!r} already", "name")
    whole = {**row, "origin": write.origin, "created_at": write.at, "created_by": write.actor, "updated_at": write.at}
    await write.conn.execute(insert(noun.table).values(whole))
    await _require_reach(write, noun, row["name"])
    shown = public(noun, whole)
    tenant = await tenant_of(write.conn, noun.kind, whole)
    await audit.record(write, "create", audit.About(noun.kind, row["name"], tenant), None, shown)
    return shown


async def alter(write: Write, noun: Noun, before: Row, changes: Row, action: str = "update") -> dict[str, Any]:
    """Writes `changes` over the row `before`; the new public form. Nothing is written where nothing differs."""
    if all(before[column] == value for column, value in changes.items()):
        return public(noun, before)
    after = {**before, **changes, "updated_at": write.at}
    was = await tenant_of(write.conn, noun.kind, before)
    where = noun.table.c.name == before["name"]
    await write.conn.execute(update(noun.table).where(where).values({**changes, "updated_at": write.at}))
    await _require_reach(write, noun, before["name"])
    shown = public(noun, after)
    tenant = was if was == await tenant_of(write.conn, noun.kind, after) else Tenant()
    await audit.record(write, action, audit.About(noun.kind, before["name"], tenant), public(noun, before), shown)
    return shown


async def _require_reach(write: Write, noun: Noun, name: str) -> None:
    """What was written must lie where the asker may write; nothing of it stays otherwise."""
    reach = write.by.reach
    if not reach.everything and await find(write.conn, noun, name, reach) is None:
        raise NotAllowed(f"this {noun.kind} would be outside of what your roles cover: name a team or project of yours")


async def remove(write: Write, noun: Noun, name: str) -> None:
    """Deletes the object, or raises Conflict with what uses it."""
    row = await fetch_writable(write, noun, name)
    await references.refuse_in_use(write.conn, noun.kind, row["name"])
    await drop(write, noun, row)


async def drop(write: Write, noun: Noun, row: Row) -> None:
    """Deletes the row without a look at what uses it: for whoever checks that at the end of a larger change."""
    tenant = await tenant_of(write.conn, noun.kind, row)
    await write.conn.execute(delete(noun.table).where(noun.table.c.name == row["name"]))
    await audit.record(write, "delete", audit.About(noun.kind, row["name"], tenant), public(noun, row), None)


async def show(conn: AsyncConnection, noun: Noun, name: str, reach: Reach) -> dict[str, Any]:
    return public(noun, await fetch(conn, noun, name, reach))


async def list_page(conn: AsyncConnection, noun: Noun, page: Page, reach: Reach) -> Listing:
    """By name, in ascending order, as far as `reach` covers them."""
    query = select(noun.table).where(visible(noun.kind, reach)).order_by(noun.table.c.name).limit(page.limit + 1)
    if page.after is not None:
        query = query.where(noun.table.c.name > page.after)
    rows = [dict(row) for row in (await conn.execute(query)).mappings()]
    return cut([public(noun, row) for row in rows], page, "name")
