"""Limits: which calls count, in what unit, up to what amount, over which window."""

import uuid
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.config.settings import DeclaredLimit
from penstock.config.values import Moment, amount_in
from penstock.control import nouns, references
from penstock.control.paging import Listing, Page
from penstock.control.tenancy import tenant_of, visible
from penstock.control.write import Write
from penstock.domain.access import EVERYTHING, Reach
from penstock.domain.money import MAX_NANOUSD, usd
from penstock.domain.policy import Limit
from penstock.domain.tenancy import DEFAULT_ORGANISATION
from penstock.errors import Conflict, InvalidNoun, NotAllowed
from penstock.records.receipts import rfc3339
from penstock.store.tables.control import keys, limits, projects, teams

MEANING = ("match", "each", "unit", "per", "window", "timezone")
"""What a limit counts. Its balances go with it, so it stays as it is for the life of the limit."""

MAX_RAISES = 20
"""Temporary increases of one limit at a time."""
MAX_RAISE_NS = 366 * 86_400 * 1_000_000_000

_TAG = "tag:"
_NAMED = ("organisation", "team", "project", "key", "provider")
_WIDTHS = {
    "organisation": "the whole organisation",
    "member": "one organisation among several",
    "team": "the whole team",
    "project": "the whole project",
}
"""By how wide a right a limit was set, the widest first, as the store has it and as a sentence says it. The first is
that of whoever runs the gateway."""


def _shown(row: nouns.Row) -> dict[str, Any]:
    """As in the configuration file: dollars as decimal text, tags in a mapping of their own."""
    match: dict[str, Any] = {name: value for name, value in row["match"].items() if not name.startswith(_TAG)}
    tags = {name.removeprefix(_TAG): value for name, value in row["match"].items() if name.startswith(_TAG)}
    shown = {
        column: row[column]
        for column in ("id", "name", "each", "unit", "per", "window", "timezone", "mode", "alert_at", "max_values")
    }
    money = row["unit"] == "usd"
    shown["match"] = {**match, "tag": tags} if tags else match
    shown["on_exceeded"] = {"downgrade": row["downgrade"]} if row["downgrade"] else "refuse"
    shown["amount"] = usd(row["amount"]) if money else row["amount"]
    shown["raises"] = [
        {
            **it,
            "amount": usd(it["amount"]) if money else it["amount"],
            "at": rfc3339(it["at"]),
            "until": rfc3339(it["until"]),
        }
        for it in row["raises"]
    ]
    return {**shown, "amount_nanousd": row["amount"]} if money else shown


LIMIT = nouns.Noun("limit", limits, _shown)


async def create(write: Write, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields: name (made from the rest when left out), match, each, unit, amount (dollars for `usd`), per, window,
    timezone, mode, alert_at, on_exceeded; as in the configuration file. A new limit begins with empty balances."""
    return await add(write, _given(fields), new_id())


def new_id() -> str:
    return f"lim_{uuid.uuid4().hex}"


async def add(write: Write, limit: DeclaredLimit, id: str) -> dict[str, Any]:
    """A limit under an id, whose balances it goes on with when there are any."""
    row = {"id": id, "raises": [], **await checked_columns(write, limit)}
    return await nouns.add(write, LIMIT, {**row, "level": await _level(write, row)})


async def update(write: Write, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes amount, mode, alert_at or on_exceeded; the balances stay. What a limit counts cannot be changed."""
    row = await nouns.fetch_writable(write, LIMIT, name)
    await _require_level(write, row)
    current = {field: value for field, value in _shown(row).items() if field in DeclaredLimit.model_fields}
    limit = _given(nouns.merged(current, changes))
    changed = columns(limit)
    for field in MEANING:
        if changed[field] != row[field]:
            raise InvalidNoun("what a limit counts cannot be changed: create another limit", field)
    await _require_downgrade(write, limit)
    return await nouns.alter(write, LIMIT, row, changed)


class RaiseRequest(BaseModel):
    """A temporary increase. `by`: how much more, in the limit's unit (dollars for `usd`)."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)

    by: Any
    until: Moment
    reason: str


async def raise_amount(write: Write, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Raises a limit until a moment, also one that the file declares: the limit with its `raises`. They add up. Fields
    of `RaiseRequest`."""
    asked = nouns.validated(RaiseRequest, {**fields, "by": nouns.exact(fields.get("by"), "by")})
    row = await fetch_adjustable(write, name)
    until = int(asked.until.timestamp() * 1_000_000) * 1_000
    if not write.at < until <= write.at + MAX_RAISE_NS:
        raise InvalidNoun("must be in the future, and within a year", "until")
    try:
        by = amount_in(row["unit"], asked.by)
    except ValueError as error:
        raise InvalidNoun(str(error), "by") from None
    current = raises_in_force(row, write.at)
    if len(current) == MAX_RAISES:
        raise Conflict(f"limit {name!r} has {MAX_RAISES} temporary increases already")
    if amount_in_force(row, write.at) + by > MAX_NANOUSD:
        raise InvalidNoun(f"the limit would be over the highest amount there is, {MAX_NANOUSD}", "by")
    reason = nouns.checked_reason(asked.reason)
    made = {"amount": by, "until": until, "reason": reason, "by": write.actor, "at": write.at}
    return await nouns.alter(write, LIMIT, row, {"raises": [*current, made]}, "raise")


async def end_raises(write: Write, name: str) -> dict[str, Any]:
    """Ends every temporary increase of a limit now; the limit."""
    row = await fetch_adjustable(write, name)
    return await nouns.alter(write, LIMIT, row, {"raises": []}, "end_raises")


def raises_in_force(row: nouns.Row, at: int) -> list[dict[str, Any]]:
    """The temporary increases that are not over. `at`: Unix nanoseconds."""
    return [it for it in row["raises"] if it["until"] > at]


def amount_in_force(row: nouns.Row, at: int) -> int:
    """The amount that counts at this moment, temporary increases included."""
    return min(int(row["amount"]) + sum(int(it["amount"]) for it in raises_in_force(row, at)), MAX_NANOUSD)


async def fetch_adjustable(write: Write, name: str) -> nouns.Row:
    """The limit whose balances the asker may move."""
    row = await nouns.fetch(write.conn, LIMIT, name, write.by.reach)
    await _require_level(write, row)
    return row


async def delete(write: Write, name: str) -> None:
    await fetch_adjustable(write, name)
    await nouns.remove(write, LIMIT, name)


async def show(conn: AsyncConnection, name: str, reach: Reach = EVERYTHING) -> dict[str, Any]:
    return await nouns.show(conn, LIMIT, name, reach)


async def names_within(conn: AsyncConnection, reach: Reach) -> frozenset[str] | None:
    """The names of the limits that `reach` covers; None for all."""
    if reach.everything:
        return None
    return frozenset((await conn.execute(select(limits.c.name).where(visible("limit", reach)))).scalars())


async def list_page(conn: AsyncConnection, page: Page, reach: Reach = EVERYTHING) -> Listing:
    return await nouns.list_page(conn, LIMIT, page, reach)


def domain_limit(row: nouns.Row, at: int) -> Limit:
    """The limit as workers hold calls against it at this moment, in Unix nanoseconds."""
    return Limit(
        id=row["id"],
        name=row["name"],
        unit=row["unit"],
        amount=amount_in_force(row, at),
        per=row["per"],
        match=tuple(sorted(row["match"].items())),
        each=row["each"],
        mode=row["mode"],
        alert_at=tuple(row["alert_at"]),
        origin=row["origin"],
        timezone=row["timezone"],
        window=row["window"],
        downgrade=row["downgrade"],
        max_values=row["max_values"],
    )


def columns(limit: DeclaredLimit) -> nouns.Row:
    fields = ("name", "match", "each", "unit", "amount", "per", "window", "timezone", "mode", "alert_at", "max_values")
    return {**{field: getattr(limit, field) for field in fields}, "downgrade": limit.on_exceeded}


async def checked_columns(write: Write, limit: DeclaredLimit) -> nouns.Row:
    """The columns of `limit`, once everything that it refers to is there."""
    await _check_match(write, limit.match)
    await _require_downgrade(write, limit)
    return columns(limit)


async def _require_downgrade(write: Write, limit: DeclaredLimit) -> None:
    if limit.on_exceeded and not await references.is_callable(write.conn, limit.on_exceeded):
        raise InvalidNoun(f"there is no model {limit.on_exceeded!r}", "on_exceeded.downgrade")


def _given(fields: Mapping[str, Any]) -> DeclaredLimit:
    fields = dict(fields)
    if "amount" in fields:
        fields["amount"] = nouns.exact(fields["amount"], "amount")
    match = fields.get("match")
    if isinstance(match, Mapping) and isinstance(match.get("tag", {}), Mapping):
        # A tag may also be written as the one word that the rest of the product uses for it, `tag:feature`.
        words = {name[len(_TAG) :]: value for name, value in match.items() if str(name).startswith(_TAG)}
        rest = {name: value for name, value in match.items() if not str(name).startswith(_TAG)}
        fields["match"] = {**rest, "tag": {**match.get("tag", {}), **words}} if words else rest
    return nouns.validated(DeclaredLimit, fields)


async def _level(write: Write, row: nouns.Row) -> str:
    """How wide the rights are by which somebody sets this limit: one of _WIDTHS."""
    reach = write.by.reach
    if reach.everything:
        return "organisation"
    tenant = await tenant_of(write.conn, "limit", row)
    if tenant.organisation in reach.organisations:
        return "member"
    if tenant.team not in reach.teams:
        return "project"
    whose = (await write.conn.execute(select(teams.c.organisation).where(teams.c.name == tenant.team))).scalar()
    return "member" if whose in reach.organisations else "team"


async def _require_level(write: Write, row: nouns.Row) -> None:
    """A limit that was set over somebody's head is not theirs to change: a team's own finance cannot widen what the
    organisation gave the team."""
    widths = list(_WIDTHS)
    if widths.index(await _level(write, row)) > widths.index(row["level"]):
        raise NotAllowed(f"limit {row['name']!r} was set for {_WIDTHS[row['level']]}: only its finance changes it")


async def _check_match(write: Write, match: Mapping[str, str]) -> None:
    """Refuses a limit that refers to nothing, and one that no call could ever fall under."""
    conn = write.conn
    for kind in _NAMED:
        if kind in match and not (kind == "team" and await _is_of_own_project(write, match)):
            await references.require(conn, kind, match[kind], f"match.{kind}", write.by.reach)
    if "user" in match and not await _is_users_key(write, match["user"]):
        await references.require(conn, "user", match["user"], "match.user", write.by.reach)
    if "environment" in match:
        known = select(exists().where(projects.c.environment == match["environment"]))
        if not (await conn.execute(known)).scalar():
            raise InvalidNoun(f"no project is in the environment {match['environment']!r}", "match.environment")
    if {"team", "environment"} <= match.keys():
        known = select(exists().where(projects.c.environment == match["environment"], projects.c.team == match["team"]))
        if not (await conn.execute(known)).scalar():
            sentence = f"no call can match: team {match['team']!r} has no project in {match['environment']!r}"
            raise InvalidNoun(sentence, "match.environment")
    if "model" in match and not await references.is_callable(conn, match["model"]):
        raise InvalidNoun(f"there is no model {match['model']!r}", "match.model")
    if {"model", "provider"} <= match.keys() and match["provider"] not in await references.serving(
        conn, match["model"]
    ):
        sentence = f"no call can match: provider {match['provider']!r} serves no model {match['model']!r}"
        raise InvalidNoun(sentence, "match.provider")
    if "team" in match:
        query = select(teams.c.organisation).where(teams.c.name == match["team"])
        facts = dict((await conn.execute(query)).mappings().one())
        _refuse_contradiction(match, f"team {match['team']!r}", facts)
    if "project" in match:
        columns = (projects.c.team, projects.c.environment, teams.c.organisation)
        query = select(*columns).join(teams, teams.c.name == projects.c.team).where(projects.c.name == match["project"])
        facts = dict((await conn.execute(query)).mappings().one())
        _refuse_contradiction(match, f"project {match['project']!r}", facts)
    if "key" in match:
        _refuse_contradiction(match, f"key {match['key']!r}", await _facts_of_key(conn, match["key"]))
        query = select(keys.c.allowed_tags, keys.c.models).where(keys.c.name == match["key"])
        rights = (await conn.execute(query)).one()
        if "model" in match and rights.models and not references.covered(match["model"], rights.models):
            sentence = f"no call can match: key {match['key']!r} may not use the model {match['model']!r}"
            raise InvalidNoun(sentence, "match.model")
        for tag, values in rights.allowed_tags.items():
            if match.get(_TAG + tag, values[0]) not in values:
                sentence = f"no call can match: key {match['key']!r} does not allow that value of the tag {tag!r}"
                raise InvalidNoun(sentence, f"match.{_TAG}{tag}")


async def _is_users_key(write: Write, user: str) -> bool:
    """Whether a key within reach is of this user, who is then no news."""
    known = select(exists().where(keys.c.user == user, visible("key", write.by.reach)))
    return bool((await write.conn.execute(known)).scalar())


async def _is_of_own_project(write: Write, match: Mapping[str, str]) -> bool:
    """Whether the team is that of the project or key that is named as well: nothing new to whoever knows these."""
    rest = {name: value for name, value in match.items() if name != "team"}
    if not {"project", "key"} & rest.keys():
        return False
    kind = "key" if "key" in rest else "project"
    await references.require(write.conn, kind, rest[kind], f"match.{kind}", write.by.reach)
    return (await tenant_of(write.conn, "limit", {"match": rest})).team == match["team"]


async def _facts_of_key(conn: AsyncConnection, name: str) -> dict[str, str]:
    """The dimensions that a key fixes for its calls."""
    columns = (keys.c.team, keys.c.project, keys.c.user, keys.c.tags, projects.c.environment, teams.c.organisation)
    query = (
        select(*columns)
        .outerjoin(projects, projects.c.name == keys.c.project)
        .outerjoin(teams, teams.c.name == keys.c.team)
        .where(keys.c.name == name)
    )
    row = (await conn.execute(query)).mappings().one()
    facts = {
        "organisation": row["organisation"] or DEFAULT_ORGANISATION,
        "team": row["team"],
        "project": row["project"],
        "environment": row["environment"] or "",
    }
    pinned = {_TAG + tag: value for tag, value in row["tags"].items()}
    return {**facts, **pinned, **({"user": row["user"]} if row["user"] else {})}


def _refuse_contradiction(match: Mapping[str, str], whose: str, facts: Mapping[str, str]) -> None:
    for dimension, value in facts.items():
        if match.get(dimension, value) != value:
            found = f"its {dimension} is {value!r}" if value else f"it has no {dimension}"
            raise InvalidNoun(f"no call can match: {whose} is named as well, and {found}", f"match.{dimension}")
