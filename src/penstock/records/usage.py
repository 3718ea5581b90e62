"""Usage: spend, tokens, calls and latency by any dimension, from the roll-ups.

Whole hours come from the roll-ups, the parts of hours at both ends from the events themselves, so that sums are exact
for any pair of instants. Tags are in events alone. Where the events of an hour are pruned already, a bound moves out to
the whole hour (and tags are known only from the first hour that is kept): the answer says which span it covers.
"""

from collections.abc import AsyncIterator, Sequence
from operator import add
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.access import EVERYTHING, Reach, Tenant
from penstock.domain.events import UsageEvent
from penstock.domain.money import usd
from penstock.errors import InvalidNoun
from penstock.records.events import decode
from penstock.records.receipts import rfc3339
from penstock.records.rollups import HOUR_NS, HOUR_S, Sums, summed, sums_of
from penstock.store.tables.records import DIMENSIONS, SUMS, rollups, usage_events
from penstock.store.tenancy import within

DAY_S = 24 * HOUR_S
MAX_DIMENSIONS = 8
MAX_ROWS = 50_000
_CHUNK = 1_000
_TAG = "tag:"
_SECOND_NS = 1_000_000_000

Place = tuple[str | int, ...]
"""The values of the dimensions asked for; hours and days as Unix seconds."""


class Span(Struct, frozen=True):
    """From `since` up to but not including `until`, in Unix nanoseconds; None: open."""

    since: int | None = None
    until: int | None = None


async def usage(
    conn: AsyncConnection, by: Sequence[str], since: int | None, until: int | None, reach: Reach = EVERYTHING
) -> dict[str, Any]:
    """`{"rows": [...], "total": {...}, "since", "until"}` for calls that began in the span (Unix nanoseconds), as far
    as they are of teams and projects within `reach`.

    `by`: names of DIMENSIONS, `hour`, `day` (UTC) or `tag:<name>`; a call without a value has the empty string there.
    Rows with a time come in its order, others the most expensive first. Raises InvalidNoun.
    """
    _check(by)
    if since is not None and until is not None and until < since:
        raise InvalidNoun("the end lies before the beginning", "until")
    sums: dict[Place, Sums] = {}
    kept_from = await _kept_from(conn)
    if any(name.startswith(_TAG) for name in by):
        span = Span(kept_from if since is None else max(since, kept_from), until)
        await _add_events(conn, by, span, sums, reach)
    else:
        span = _widened(Span(since, until), kept_from)
        whole, edges = _split(span)
        if whole is not None:
            await _add_rollups(conn, by, whole, sums, reach)
        for edge in edges:
            await _add_events(conn, by, edge, sums, reach)
    places = sorted(sums) if {"hour", "day"} & set(by) else sorted(sums, key=lambda place: (-_cost(sums[place]), place))
    return {
        "rows": [{**_shown_place(by, place), **_shown_sums(sums[place])} for place in places],
        "total": _shown_sums(summed(sums.values())),
        "since": None if span.since is None else rfc3339(span.since),
        "until": None if span.until is None else rfc3339(span.until),
    }


def _check(by: Sequence[str]) -> None:
    if len(by) > MAX_DIMENSIONS or len(set(by)) != len(by):
        raise InvalidNoun(f"group by up to {MAX_DIMENSIONS} different dimensions", "by")
    for name in by:
        if name not in {"hour", "day", *DIMENSIONS} and not (name.startswith(_TAG) and name != _TAG):
            raise InvalidNoun(f"{name!r} is not a dimension: use {', '.join(DIMENSIONS)}, hour, day or tag:NAME", "by")


async def _kept_from(conn: AsyncConnection) -> int:
    """The beginning of the first hour whose events are still there. Whole hours are pruned at a time."""
    oldest = (await conn.execute(select(func.min(usage_events.c.started_at)))).scalar()
    return 0 if oldest is None else oldest // HOUR_NS * HOUR_NS


def _widened(span: Span, kept_from: int) -> Span:
    since, until = span.since, span.until
    if since is not None and since < kept_from:
        since = since // HOUR_NS * HOUR_NS
    if until is not None and until < kept_from:
        until = -(-until // HOUR_NS) * HOUR_NS
    return Span(since, until)


def _split(span: Span) -> tuple[Span | None, list[Span]]:
    """The whole hours in the middle of the span, and what is left at its ends."""
    first = None if span.since is None else -(-span.since // HOUR_NS) * HOUR_NS
    last = None if span.until is None else span.until // HOUR_NS * HOUR_NS
    if first is not None and last is not None and first >= last:
        return None, [span]
    ends = [Span(span.since, first), Span(last, span.until)]
    return Span(first, last), [end for end in ends if end.since != end.until]


async def _add_rollups(
    conn: AsyncConnection, by: Sequence[str], span: Span, sums: dict[Place, Sums], reach: Reach
) -> None:
    hour = rollups.c.hour
    grouped = [_column(name) for name in by]
    query = select(*grouped, *(func.coalesce(func.sum(rollups.c[name]), 0) for name in SUMS), func.count())
    query = query.where(within(reach, rollups.c.team, rollups.c.project))
    if span.since is not None:
        query = query.where(hour >= span.since // _SECOND_NS)
    if span.until is not None:
        query = query.where(hour < span.until // _SECOND_NS)
    for row in await conn.execute(query.group_by(*grouped).limit(MAX_ROWS + 1)):
        if row[-1]:
            place = tuple(row[: len(by)])
            _add(sums, place, tuple(int(amount) for amount in row[len(by) : -1]))


def _column(name: str) -> ColumnElement[Any]:
    hour = rollups.c.hour
    if name == "day":
        return hour - hour % DAY_S
    return hour if name == "hour" else rollups.c[name]


async def _add_events(
    conn: AsyncConnection, by: Sequence[str], span: Span, sums: dict[Place, Sums], reach: Reach
) -> None:
    async for event in _events(conn, span):
        if not reach.covers(Tenant(event.team, event.project)):
            continue
        _add(sums, tuple(_value(event, name) for name in by), sums_of(event))


def _add(sums: dict[Place, Sums], place: Place, more: Sums) -> None:
    present = sums.get(place)
    sums[place] = more if present is None else tuple(map(add, present, more))
    if len(sums) > MAX_ROWS:
        raise InvalidNoun(f"this has more than {MAX_ROWS} rows: group by less, or narrow the span", "by")


async def _events(conn: AsyncConnection, span: Span) -> AsyncIterator[UsageEvent]:
    """The events of the span in the order of their beginning, a chunk in memory at a time."""
    table = usage_events.c
    place = tuple_(table.started_at, table.request_id)
    query = select(table.started_at, table.request_id, table.body).order_by(table.started_at, table.request_id)
    if span.since is not None:
        query = query.where(table.started_at >= span.since)
    if span.until is not None:
        query = query.where(table.started_at < span.until)
    chunk = (await conn.execute(query.limit(_CHUNK))).all()
    while chunk:
        for row in chunk:
            yield decode(row.body)
        after = (chunk[-1].started_at, chunk[-1].request_id)
        chunk = (await conn.execute(query.where(place > after).limit(_CHUNK))).all()


def _value(event: UsageEvent, name: str) -> str | int:
    if name.startswith(_TAG):
        return event.tags.get(name.removeprefix(_TAG), "")
    if name in {"hour", "day"}:
        step = HOUR_S if name == "hour" else DAY_S
        return event.started_at // _SECOND_NS // step * step
    return str(getattr(event, name))


def _cost(sums: Sums) -> int:
    return sums[SUMS.index("cost_nanousd")]


def _shown_place(by: Sequence[str], place: Place) -> dict[str, str]:
    shown = {}
    for name, value in zip(by, place, strict=True):
        text = rfc3339(value * _SECOND_NS) if isinstance(value, int) else value
        shown[name] = text[:10] if name == "day" else text
    return shown


def _shown_sums(sums: Sums) -> dict[str, Any]:
    of = dict(zip(SUMS, sums, strict=True))
    cache_write = {"5m": of["cache_write_5m"], "1h": of["cache_write_1h"]}
    if of["cache_write_other"]:
        cache_write["other"] = of["cache_write_other"]
    counted = ("input", "output", "cache_read", "reasoning", "audio_in", "audio_out", "images", "requests")
    return {
        "calls": of["calls"],
        "errors": of["errors"],
        "usage": {**{name: of[name] for name in counted}, "cache_write": cache_write},
        "cost_nanousd": of["cost_nanousd"],
        "cost_usd": usd(of["cost_nanousd"]),
        "estimated_nanousd": of["estimated_nanousd"],
        "latency_ms": _mean_ms(of["latency_us"], of["calls"]),
        "ttft_ms": _mean_ms(of["ttft_us"], of["ttft_calls"]),
    }


def _mean_ms(total_us: int, count: int) -> float | None:
    return round(total_us / count / 1000, 3) if count else None
