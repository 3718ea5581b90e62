"""Models: the names that callers use (aliases), the targets that answer to them, and what they cost."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.config.checks import circle_from
from penstock.config.settings import DeclaredModel, DeclaredTarget
from penstock.control import nouns, references
from penstock.control.paging import Listing, Page
from penstock.control.write import Write
from penstock.domain.access import EVERYTHING, Reach
from penstock.errors import InvalidNoun
from penstock.store.tables.control import models


def _shown(row: nouns.Row) -> dict[str, Any]:
    body = row["body"]
    return {
        "name": row["name"],
        **{field: body[field] for field in ("targets", "strategy", "price", "max_output")},
        **{field: body.get(field) for field in ("replaced_by", "warn_at", "end_at")},
    }


MODEL = nouns.Noun("model", models, _shown)


async def create(write: Write, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields: name, targets, strategy, price (USD per million tokens), max_output, replaced_by, warn_at, end_at; as in
    the configuration file."""
    model = _given(fields)
    await _check_replacement(write.conn, model)
    return await nouns.add(write, MODEL, await columns(write.conn, model))


async def update(write: Write, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    row = await nouns.fetch_writable(write, MODEL, name)
    model = _given(nouns.merged(_shown(row), changes))
    await _check_replacement(write.conn, model)
    return await nouns.alter(write, MODEL, row, await columns(write.conn, model))


async def delete(write: Write, name: str) -> None:
    await nouns.remove(write, MODEL, name)


async def show(conn: AsyncConnection, name: str, reach: Reach = EVERYTHING) -> dict[str, Any]:
    return await nouns.show(conn, MODEL, name, reach)


async def list_page(conn: AsyncConnection, page: Page, reach: Reach = EVERYTHING) -> Listing:
    return await nouns.list_page(conn, MODEL, page, reach)


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
        "targets": [_target(target) for target in model.targets],
        "strategy": model.strategy,
        "price": price,
        "max_output": model.max_output,
    }
    if model.replaced_by is not None:
        body |= {"replaced_by": model.replaced_by, "warn_at": _text(model.warn_at), "end_at": _text(model.end_at)}
    return {"name": model.name, "body": body}


def _target(target: DeclaredTarget) -> dict[str, Any]:
    lacks = {"lacks": target.lacks} if target.lacks else {}
    return {"provider": target.provider, "model": target.model, "weight": target.weight, **lacks}


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


async def _check_replacement(conn: AsyncConnection, model: DeclaredModel) -> None:
    """Refuses a replacement that is no alias, or that leads back to where it came from."""
    if model.replaced_by is None:
        return
    await references.require(conn, "model", model.replaced_by, "replaced_by")
    rows = await conn.execute(select(models.c.name, models.c.body))
    successors = {name: body["replaced_by"] for name, body in rows if body.get("replaced_by")}
    if circle := circle_from(model.name, {**successors, model.name: model.replaced_by}):
        raise InvalidNoun(f"leads in a circle: {circle}", "replaced_by")


def _given(fields: Mapping[str, Any]) -> DeclaredModel:
    price = fields.get("price")
    if isinstance(price, Mapping):
        fields = {**fields, "price": {meter: nouns.exact(usd, f"price.{meter}") for meter, usd in price.items()}}
    return nouns.validated(DeclaredModel, fields)
