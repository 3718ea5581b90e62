"""Models: the names that callers use (aliases), the targets that answer to them, and what they cost."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.config.settings import DeclaredModel
from penstock.control import nouns, references
from penstock.control.paging import Listing, Page
from penstock.control.write import Write
from penstock.store.tables.control import models


def _shown(row: nouns.Row) -> dict[str, Any]:
    body = row["body"]
    return {"name": row["name"], **{field: body[field] for field in ("targets", "strategy", "price", "max_output")}}


MODEL = nouns.Noun("model", models, _shown)


async def create(write: Write, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields: name, targets, strategy, price (USD per million tokens), max_output; as in the configuration file."""
    return await nouns.add(write, MODEL, await columns(write.conn, _given(fields)))


async def update(write: Write, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    row = await nouns.fetch_writable(write, MODEL, name)
    model = _given(nouns.merged(_shown(row), changes))
    return await nouns.alter(write, MODEL, row, await columns(write.conn, model))


async def delete(write: Write, name: str) -> None:
    await nouns.remove(write, MODEL, name)


async def show(conn: AsyncConnection, name: str) -> dict[str, Any]:
    return await nouns.show(conn, MODEL, name)


async def list_page(conn: AsyncConnection, page: Page) -> Listing:
    return await nouns.list_page(conn, MODEL, page)


async def columns(conn: AsyncConnection, model: DeclaredModel) -> nouns.Row:
    """Prices are kept as decimal text: a float would not be what the operator wrote."""
    if model.wildcard is not None:
        await references.require(conn, "provider", model.wildcard, "name")
    for index, target in enumerate(model.targets):
        await references.require(conn, "provider", target.provider, f"targets[{index}].provider")
    price = None
    if model.price is not None:
        price = {meter: format(usd, "f") for meter, usd in model.price.model_dump(exclude_none=True).items()}
    body = {
        "targets": [target.model_dump() for target in model.targets],
        "strategy": model.strategy,
        "price": price,
        "max_output": model.max_output,
    }
    return {"name": model.name, "body": body}


def _given(fields: Mapping[str, Any]) -> DeclaredModel:
    price = fields.get("price")
    if isinstance(price, Mapping):
        fields = {**fields, "price": {meter: nouns.exact(usd, f"price.{meter}") for meter, usd in price.items()}}
    return nouns.validated(DeclaredModel, fields)
