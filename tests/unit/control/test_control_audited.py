"""No audit, no change: what cannot be recorded does not happen, and what is taken away is recorded first."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from penstock.control import accounts, audit, bindings, keys, kills, limits, sessions, teams, tokens, users
from penstock.control.actor import Actor
from penstock.control.exports import AGAIN_S, Exports
from penstock.control.paging import Page
from penstock.store.tables import access
from penstock.store.tables import control as tables

_REFUSE = {
    "sqlite": ["CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'the log is full'); END"],
    "postgresql": [
        "CREATE FUNCTION refuse() RETURNS trigger AS 'BEGIN RAISE EXCEPTION ''the log is full''; END' LANGUAGE plpgsql",
        "CREATE TRIGGER fully BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION refuse()",
    ],
}
_ALLOW = {"sqlite": "DROP TRIGGER full", "postgresql": "DROP FUNCTION refuse CASCADE"}
WHOLE = {"organisation": "default"}


async def _rows(plane: Any) -> dict[str, int]:
    """How many rows each table has that a change could touch, and what stands in them."""
    watched = (
        *(tables.teams, tables.keys, tables.limits, tables.kills, tables.bindings, tables.admin_tokens, tables.users),
        access.sessions,
    )
    async with plane.door.read() as conn:
        return {table.name: hash(str((await conn.execute(select(table))).all())) for table in watched}


@pytest.fixture
async def full_log(plane: Any) -> AsyncIterator[Any]:
    """A seeded plane whose audit log takes nothing more."""
    await plane.seed()
    async with plane.door.engine.begin() as conn:
        for statement in _REFUSE[conn.dialect.name]:
            await conn.execute(text(statement))
    yield plane
    async with plane.door.engine.begin() as conn:
        await conn.execute(text(_ALLOW[conn.dialect.name]))


@pytest.mark.parametrize(
    "change",
    [
        lambda plane: plane.change(teams.create, {"name": "quiet"}),
        lambda plane: plane.change(teams.update, "growth", {"required_tags": []}),
        lambda plane: plane.change(users.delete, "ada"),
        lambda plane: plane.change(keys.create, plane.pepper, {"name": "quiet", "team": "growth"}),
        lambda plane: plane.change(
            limits.create, {"match": {"team": "growth"}, "unit": "usd", "amount": 1, "per": "day"}
        ),
        lambda plane: plane.change(kills.raise_kill, {"team": "growth"}, "quietly"),
        lambda plane: plane.change(bindings.create, {"user": "ada", "role": "owner", "scope": WHOLE}),
        lambda plane: plane.change(tokens.create, plane.pepper, {"name": "quiet", "user": "ada"}),
        lambda plane: plane.change(sessions.begin, plane.pepper, "ada", "password", []),
        lambda plane: plane.change(accounts.deactivate, "ada"),
    ],
)
async def test_a_change_that_cannot_be_recorded_does_not_happen(
    full_log: Any, change: Callable[[Any], Awaitable[Any]]
) -> None:
    before, published = await _rows(full_log), len(full_log.changes)
    with pytest.raises(DBAPIError, match="the log is full"):
        await change(full_log)
    assert await _rows(full_log) == before
    assert len(full_log.changes) == published


async def test_an_export_is_recorded_once_a_minute_for_each_who_and_what(plane: Any) -> None:
    now = [0.0]
    exports = Exports(plane.door, lambda: now[0])
    ada, bob = (Actor(name, "user") for name in ("ada", "bob"))
    for asker, kind, later in (
        (ada, "usage", 0.0),
        (ada, "usage", AGAIN_S / 2),
        (ada, "receipts", 0.0),
        (bob, "usage", 0.0),
        (ada, "usage", AGAIN_S),
    ):
        now[0] += later
        await exports.record(asker, kind, "by=team")
    async with plane.door.read() as conn:
        rows = (await audit.list_page(conn, Page())).items
    assert [(row["actor"], row["action"], row["kind"], row["name"]) for row in reversed(rows)] == [
        ("ada", "export", "usage", "by=team"),
        ("ada", "export", "receipts", "by=team"),
        ("bob", "export", "usage", "by=team"),
        ("ada", "export", "usage", "by=team"),
    ]
