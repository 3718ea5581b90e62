"""Windows: the stretches of time that limits count over, aligned to the calendar in UTC.

A window is `(start, end)` in Unix seconds, the end outside; `total` is `(0, None)`. A week begins on Monday.
"""

from calendar import timegm
from time import gmtime

from penstock.domain.policy import Window

_FIXED_S: dict[Window, int] = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
_WEEK_S = 7 * 86_400
_FIRST_MONDAY_S = 4 * 86_400
"""1 January 1970 was a Thursday."""

SHORT: frozenset[Window] = frozenset({"second", "minute"})
"""Windows under an hour: kept as shares, never as rows of the ledger."""


def window(per: Window, at_s: int) -> tuple[int, int | None]:
    """The window of `per` that holds the moment `at_s`."""
    if per == "total":
        return 0, None
    fixed_s = _FIXED_S.get(per)
    if fixed_s is not None:
        start = at_s - at_s % fixed_s
        return start, start + fixed_s
    if per == "week":
        start = at_s - (at_s - _FIRST_MONDAY_S) % _WEEK_S
        return start, start + _WEEK_S
    year, month = gmtime(at_s)[:2]
    if per == "month":
        following = (year, month + 1) if month < 12 else (year + 1, 1)
        return _first_of(year, month), _first_of(*following)
    return _first_of(year, 1), _first_of(year + 1, 1)


def _first_of(year: int, month: int) -> int:
    return timegm((year, month, 1, 0, 0, 0))


class Windows:
    """The current window of each `per`, worked out once until it ends."""

    def __init__(self) -> None:
        self._current: dict[Window, tuple[int, int]] = {"total": (0, FOREVER_S)}

    def at(self, per: Window, at_s: int) -> tuple[int, int]:
        """As `window`, but a window without an end ends at `FOREVER_S`."""
        known = self._current.get(per)
        if known is not None and known[0] <= at_s < known[1]:
            return known
        start, end = window(per, at_s)
        fresh = self._current[per] = (start, FOREVER_S if end is None else end)
        return fresh


FOREVER_S = 2**62
