"""Roll-ups: what calls used and cost per hour and dimension. They are kept when the events are pruned.

A call belongs to the hour in which it began. Sums are exact whole numbers; times are summed in microseconds.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from operator import add
from typing import Any

from sqlalchemy import Connection

from penstock.domain.events import UsageEvent
from penstock.store.tables.records import DIMENSIONS, SUMS

HOUR_NS = 3600 * 1_000_000_000
HOUR_S = 3600
FAULTS = frozenset({"refused", "failed", "killed"})
"""The causes that make a call an error whatever its status; a caller who left (`aborted`) is not one."""

Sums = tuple[int, ...]
"""In the order of `SUMS`."""

_COLUMNS = ", ".join(f'"{name}"' for name in ("hour", *DIMENSIONS, *SUMS))
_KEY = ", ".join(f'"{name}"' for name in ("hour", *DIMENSIONS))
_ADDED = ", ".join(f'"{name}" = rollups."{name}" + excluded."{name}"' for name in SUMS)
_WIDTH = 1 + len(DIMENSIONS) + len(SUMS)
_LONG_PLACE = 600
"""Characters, of up to four bytes each: from here on a place might not fit into PostgreSQL's index."""
_LONG_VALUE_BYTES = 190
"""Thirteen of these fit, whatever they are."""


def add_to_rollups(conn: Connection, events: Sequence[UsageEvent]) -> None:
    """Adds the events to their hours, inside the caller's transaction."""
    totals: dict[tuple[int | str, ...], Sums] = {}
    for event in events:
        place: tuple[Any, ...] = (
            event.started_at // HOUR_NS * HOUR_S,
            event.organisation,
            event.team,
            event.project,
            event.environment,
            event.key,
            event.user,
            event.customer,
            event.surface,
            event.alias,
            event.provider,
            event.model,
            event.deployment,
            event.cause,
        )
        if sum(map(len, place[1:])) > _LONG_PLACE:
            place = (place[0], *map(_shortened, place[1:]))
        sums = sums_of(event)
        present = totals.get(place)
        totals[place] = sums if present is None else tuple(map(add, present, sums))
    mark = "?" if conn.dialect.name == "sqlite" else "%s"
    marks = ", ".join([mark] * _WIDTH)
    statement = f"INSERT INTO rollups ({_COLUMNS}) VALUES ({marks}) ON CONFLICT ({_KEY}) DO UPDATE SET {_ADDED}"  # noqa: S608 - names of columns
    # In one order always, so that the committers of two boxes never wait for each other.
    conn.exec_driver_sql(statement, [place + totals[place] for place in sorted(totals)])


def _shortened(value: str) -> str:
    """What is too long, with a digest of the whole in place of its end."""
    encoded = value.encode()
    if len(encoded) <= _LONG_VALUE_BYTES:
        return value
    return f"{encoded[: _LONG_VALUE_BYTES - 20].decode(errors='ignore')}~{sha256(encoded).hexdigest()[:16]}"


def sums_of(event: UsageEvent) -> Sums:
    """What one event adds to its hour."""
    usage = event.usage
    writes = usage.cache_write
    written_5m, written_1h = (writes.get("5m", 0), writes.get("1h", 0)) if writes else (0, 0)
    ttft_ms = event.ttft_ms
    return (
        1,
        1 if event.cause in FAULTS or event.status >= 400 else 0,
        usage.input,
        usage.output,
        usage.cache_read,
        written_5m,
        written_1h,
        sum(writes.values()) - written_5m - written_1h if writes else 0,
        usage.reasoning,
        usage.audio_in,
        usage.audio_out,
        usage.images,
        usage.requests,
        event.cost_nanousd,
        estimated_nanousd(event),
        round(event.latency_ms * 1000),
        0 if ttft_ms is None else round(ttft_ms * 1000),
        0 if ttft_ms is None else 1,
    )


def estimated_nanousd(event: UsageEvent) -> int:
    """The part of the event's cost that no provider has confirmed."""
    if event.attempts:
        return sum([attempt.cost_nanousd for attempt in event.attempts if attempt.basis == "estimated"])
    return event.cost_nanousd if event.cost_basis == "estimated" else 0


def summed(all_sums: Iterable[Sums]) -> Sums:
    total: Sums = (0,) * len(SUMS)
    for sums in all_sums:
        total = tuple(map(add, total, sums))
    return total
