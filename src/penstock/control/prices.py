"""The price book: what a provider's model costs from a moment on, over the catalogue.

Entries are added and never changed or deleted, so that the entry which a receipt names stays to be looked up. Of those
of one model that have begun, the one that began last counts, and of those that began together the newest. An entry
without a price says that the catalogue's counts again. A model's own `price` in its alias goes before the book.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.config.settings import DeclaredPrice
from penstock.config.values import Day, ModelName, Name
from penstock.control import audit, nouns, references
from penstock.control.paging import Listing, Page, cut, position
from penstock.control.write import Write
from penstock.domain.money import PriceOverride, RateCard, usd
from penstock.domain.snapshot import Deployment, Snapshot
from penstock.errors import InvalidNoun
from penstock.records.receipts import rfc3339
from penstock.store.tables.control import prices

KIND = "price"
MAX_ENTRIES = 5_000
MAX_NOTE = 500
_MAX_NAME = 256
_FIRST_YEAR, _LAST_YEAR = 2000, 2200

Place = tuple[str, str]
"""A provider, and its own name for the model."""


class PriceEntry(BaseModel):
    """`model`: the provider's name for it. `effective_from`: left out, from now on. `price`: as in an alias, USD per
    million tokens; null: the catalogue's again."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, defer_build=True)

    provider: Name
    model: ModelName
    effective_from: Day | None = None
    price: DeclaredPrice | None
    note: Annotated[str, Field(max_length=MAX_NOTE)] = ""


class PriceUpdate(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, defer_build=True)

    entries: list[PriceEntry]


class Entry(Struct, frozen=True):
    """As it is published. `starts_at`: Unix nanoseconds. `price` None: the catalogue's."""

    starts_at: int
    number: int
    price: PriceOverride | None


Book = Mapping[Place, Sequence[Entry]]
"""The entries of each model, in the order in which they begin."""


async def add(write: Write, fields: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`{"entries": those that were added, "unchanged": how many the book said already}`. All or none."""
    if not 1 <= len(fields) <= MAX_ENTRIES:
        raise InvalidNoun(f"one update has 1 to {MAX_ENTRIES} entries", "entries")
    known = await read_book(write.conn)
    providers = {name for (name,) in await write.conn.execute(select(references.TABLES["provider"].c.name))}
    made = []
    for index, given in enumerate(fields):
        entry = _given(given, index)
        if entry.provider not in providers:
            raise InvalidNoun(f"there is no provider {entry.provider!r}", f"entries[{index}].provider")
        price = None if entry.price is None else _text(entry.price)
        starts_at = write.at if entry.effective_from is None else int(entry.effective_from.timestamp()) * 10**9
        if not _says(known.get((entry.provider, entry.model), ()), starts_at, price, entry.effective_from is None):
            made.append(await _insert(write, entry, starts_at, price))
    return {"entries": made, "unchanged": len(fields) - len(made)}


async def list_page(conn: AsyncConnection, page: Page, now_ns: int) -> Listing:
    """The newest first: number, provider, model, effective_from, price, note, created_at, created_by, and `state`:
    in_force, coming or past."""
    query = select(prices).order_by(prices.c.number.desc()).limit(page.limit + 1)
    if page.after is not None:
        query = query.where(prices.c.number < position(page.after))
    book = await read_book(conn)
    current = {entry.number for entries in book.values() if (entry := in_force(entries, now_ns)) is not None}
    rows = [dict(row) for row in (await conn.execute(query)).mappings()]
    return cut([{**_shown(row), "state": _state(row, current, now_ns)} for row in rows], page, "number")


async def read_book(conn: AsyncConnection) -> dict[Place, tuple[Entry, ...]]:
    """The whole book."""
    found: dict[Place, list[Entry]] = {}
    query = select(prices).order_by(prices.c.effective_from, prices.c.number)
    for row in await conn.execute(query):
        price = None if row.price is None else msgspec.convert(row.price, PriceOverride)
        found.setdefault((row.provider, row.model), []).append(Entry(row.effective_from, row.number, price))
    return {place: tuple(entries) for place, entries in found.items()}


def in_force(entries: Sequence[Entry], now_ns: int) -> Entry | None:
    """The entry that counts at this moment; None when none has begun."""
    return next((entry for entry in reversed(entries) if entry.starts_at <= now_ns), None)


def beginning(book: Book, after_ns: int, until_ns: int) -> set[str]:
    """The models, as the audit log names them, of which an entry begins after one moment and up to the other."""
    return {
        audited(place)
        for place, entries in book.items()
        if any(after_ns < entry.starts_at <= until_ns for entry in entries)
    }


def audited(place: Place) -> str:
    """How the audit log and the publisher name a model of the book."""
    return "/".join(place)


def priced(deployment: Deployment, entry: Entry) -> Deployment:
    """A deployment that was resolved with the entry's price, with the entry on its receipts."""
    assert deployment.price is not None
    return msgspec.structs.replace(
        deployment, price=msgspec.structs.replace(deployment.price, version=f"book:{entry.number}")
    )


def effective(snapshot: Snapshot) -> list[dict[str, Any]]:
    """What each alias's targets cost now, and which source says so: model, provider, target, price_version, and
    `price` in USD per million units, None where nobody knows it."""
    return [
        {
            "model": alias.name,
            "provider": target.provider,
            "target": target.model,
            "price": None if target.price is None else _rates(target.price),
            "price_version": target.price.version if target.price else "",
        }
        for alias in sorted(snapshot.aliases.values(), key=lambda alias: alias.name)
        for target in alias.targets
    ]


def _rates(card: RateCard) -> dict[str, str]:
    """The first step of each rate, and the charge per call where there is one."""
    rates = {meter: usd(rate.base) for meter, rate in sorted(card.rates.items())}
    return {**rates, "request": usd(card.request_nanousd)} if card.request_nanousd else rates


def _given(fields: Mapping[str, Any], index: int) -> PriceEntry:
    price = fields.get("price")
    if isinstance(price, Mapping):
        exact = {meter: nouns.exact(amount, f"entries[{index}].price.{meter}") for meter, amount in price.items()}
        fields = {**fields, "price": exact}
    try:
        entry = nouns.validated(PriceEntry, fields)
    except InvalidNoun as error:
        raise InvalidNoun(error.message, ".".join(filter(None, (f"entries[{index}]", error.place)))) from None
    if len(audited((entry.provider, entry.model))) > _MAX_NAME:
        raise InvalidNoun(f"provider and model together are longer than {_MAX_NAME} characters", f"entries[{index}]")
    start: datetime | None = entry.effective_from
    if start is not None and not _FIRST_YEAR <= start.year < _LAST_YEAR:
        raise InvalidNoun(
            f"a time lies between the years {_FIRST_YEAR} and {_LAST_YEAR}", f"entries[{index}].effective_from"
        )
    return entry


def _text(price: DeclaredPrice) -> dict[str, str]:
    return {meter: format(amount, "f") for meter, amount in price.model_dump(exclude_none=True).items()}


def _says(entries: Sequence[Entry], starts_at: int, price: Mapping[str, str] | None, is_now: bool) -> bool:
    """Whether the book says already what an entry would add, so that an update can be made twice."""
    override = None if price is None else msgspec.convert(price, PriceOverride)
    if is_now:
        current = in_force(entries, starts_at)
        return current is not None and current.price == override
    same = [entry for entry in entries if entry.starts_at == starts_at]
    return bool(same) and same[-1].price == override


async def _insert(write: Write, entry: PriceEntry, starts_at: int, price: Mapping[str, str] | None) -> dict[str, Any]:
    row = {
        "provider": entry.provider,
        "model": entry.model,
        "effective_from": starts_at,
        "price": price,
        "note": entry.note,
        "created_at": write.at,
        "created_by": write.actor,
    }
    number = (await write.conn.execute(insert(prices).values(row).returning(prices.c.number))).scalar_one()
    shown = _shown({**row, "number": number})
    await audit.record(write, "create", (KIND, audited((entry.provider, entry.model))), None, shown)
    return shown


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    moments = {name: rfc3339(row[name]) for name in ("effective_from", "created_at")}
    return {"number": row["number"], "price_version": f"book:{row['number']}", **dict(row), **moments}


def _state(row: Mapping[str, Any], current: Iterable[int], now_ns: int) -> str:
    if row["number"] in current:
        return "in_force"
    return "coming" if row["effective_from"] > now_ns else "past"
