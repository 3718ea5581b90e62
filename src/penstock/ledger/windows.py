"""Windows: the stretches of time that limits count over.

A fixed window is `(start, end)` in Unix seconds, the end outside, aligned to the calendar of a time zone; `total` is
`(0, None)`. A week begins on Monday. A day is as long as its zone makes it (23 hours when clocks go forward, 25 when
they go back); hours are counted from its beginning, so that where a zone shifts by half an hour the last one is short.

A sliding window is made of `BUCKETS` buckets, aligned in Unix time, and the one that is being filled. A bucket counts
in full until all of it has left the window: no interval of the window's length ever holds more than the limit's amount,
and what was used is free again at most one bucket late.
"""

from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final, cast, get_args
from zoneinfo import ZoneInfo

from penstock.domain.policy import Limit, Span, Window

FOREVER_S: Final = 2**62
BUCKETS: Final = 60
SLIDING_S: Final[dict[Span, int]] = {
    "sliding-minute": 60,
    "sliding-hour": 3_600,
    "sliding-day": 86_400,
    "sliding-week": 7 * 86_400,
}
"""How long each sliding window is, in seconds; every one is a multiple of `BUCKETS`."""

SHORT: Final[frozenset[Span]] = frozenset({"second", "minute", "sliding-minute"})
"""Windows under an hour: kept as shares, never as rows of the ledger."""
SPANS: Final[tuple[Span, ...]] = get_args(Span)

_EXACT_S: Final[dict[Span, int]] = {"second": 1, "minute": 60}
_LONGEST_S: Final[dict[Span, int]] = {
    "hour": 3_600,
    "day": 86_400,
    "week": 7 * 86_400,
    "month": 31 * 86_400,
    "year": 366 * 86_400,
}
_ZONE_CHANGE_S: Final = 25 * 3_600
"""How much longer than its calendar says a window can get: clocks go back, or a country crosses the date line."""


def span_of(limit: Limit) -> Span:
    """What charges on this limit lie in."""
    return cast(Span, f"sliding-{limit.per}") if limit.window == "sliding" else limit.per


def window(per: Window, at_s: int, timezone: str = "UTC") -> tuple[int, int | None]:
    """The fixed window of `per` that holds the moment `at_s`. Raises `ZoneInfoNotFoundError` for an unknown zone."""
    if per == "total":
        return 0, None
    exact_s = _EXACT_S.get(per)
    if exact_s is not None:
        start = at_s - at_s % exact_s
        return start, start + exact_s
    zone = UTC if timezone == "UTC" else ZoneInfo(timezone)
    if per == "hour":
        midnight, following = _calendar_window("day", at_s, zone)
        start = at_s - (at_s - midnight) % 3_600
        return start, min(start + 3_600, following)
    return _calendar_window(per, at_s, zone)


def _calendar_window(per: Window, at_s: int, zone: tzinfo) -> tuple[int, int]:
    """The beginnings of days ascend, but clocks can return to the day before for a moment: what counts is which two
    beginnings the moment lies between."""
    first = _first_day(per, datetime.fromtimestamp(at_s, zone).date())
    start, end = _begins_s(first, zone), _begins_s(_following(per, first), zone)
    if at_s >= end:
        first = _following(per, first)
        start, end = end, _begins_s(_following(per, first), zone)
    elif at_s < start:
        first = _first_day(per, first - timedelta(days=1))
        start, end = _begins_s(first, zone), start
    return start, end


def _first_day(per: Window, day: date) -> date:
    if per == "week":
        return day - timedelta(days=day.weekday())
    if per == "month":
        return day.replace(day=1)
    return day.replace(month=1, day=1) if per == "year" else day


def _following(per: Window, first: date) -> date:
    if per == "year":
        return first.replace(year=first.year + 1)
    if per == "month":
        return (first + timedelta(days=31)).replace(day=1)
    return first + timedelta(days=7 if per == "week" else 1)


def _begins_s(day: date, zone: tzinfo) -> int:
    """The moment at which the zone's clocks first show this day; where they skip midnight, the moment of the skip."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def bucket(span: Span, at_s: int) -> tuple[int, int]:
    """The bucket of a sliding window that holds the moment `at_s`: start and end."""
    width_s = SLIDING_S[span] // BUCKETS
    start = at_s - at_s % width_s
    return start, start + width_s


def leaves_at_s(span: Span, start: int) -> int:
    """When all of the bucket that begins at `start` has left its sliding window."""
    return start + SLIDING_S[span] + SLIDING_S[span] // BUCKETS


def oldest_open(span: Span, at_s: int) -> int:
    """No window, and no bucket, that began before this counts at `at_s`, whatever the time zone. For sliding windows,
    and for fixed ones that are the same in every zone, it is exactly the oldest that counts."""
    if span == "total":
        return 0
    if span in SLIDING_S:
        return bucket(span, at_s)[0] - SLIDING_S[span]
    exact_s = _EXACT_S.get(span)
    return at_s - at_s % exact_s if exact_s is not None else at_s - _LONGEST_S[span] - _ZONE_CHANGE_S


def last_counts_until(span: Span, at_s: int) -> int:
    """When a short window that is open at `at_s`, or the bucket that a sliding one is filling then, counts no more."""
    if span in SLIDING_S:
        return bucket(span, at_s)[1] + SLIDING_S[span]
    return at_s - at_s % _EXACT_S[span] + _EXACT_S[span]


class Windows:
    """The current window of each `per` and time zone, worked out once until it ends."""

    def __init__(self) -> None:
        self._current: dict[tuple[Window, str], tuple[int, int]] = {}

    def at(self, per: Window, at_s: int, timezone: str = "UTC") -> tuple[int, int]:
        """As `window`, but a window without an end ends at `FOREVER_S`."""
        known = self._current.get((per, timezone))
        if known is not None and known[0] <= at_s < known[1]:
            return known
        start, end = window(per, at_s, timezone)
        fresh = self._current[(per, timezone)] = (start, FOREVER_S if end is None else end)
        return fresh
