"""Windows are aligned to the calendar in UTC, hold their moment, and follow each other without a gap."""

from datetime import UTC, datetime
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.policy import Window
from penstock.ledger.windows import FOREVER_S, Windows, window

MOMENTS = st.integers(0, 4_000_000_000)


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("per", "start", "end"),
    [
        ("second", "2026-11-20T19:30:48", "2026-11-20T19:30:49"),
        ("minute", "2026-11-20T19:30:00", "2026-11-20T19:31:00"),
        ("hour", "2026-11-20T19:00:00", "2026-11-20T20:00:00"),
        ("day", "2026-11-20", "2026-11-21"),
        ("week", "2026-11-16", "2026-11-23"),
        ("month", "2026-11-01", "2026-12-01"),
        ("year", "2026-01-01", "2027-01-01"),
    ],
)
def test_a_window_begins_and_ends_where_the_calendar_says(per: Window, start: str, end: str) -> None:
    assert window(per, seconds("2026-11-20T19:30:48")) == (seconds(start), seconds(end))


def test_december_is_followed_by_january_of_the_next_year() -> None:
    assert window("month", seconds("2026-12-31T23:59:59")) == (seconds("2026-12-01"), seconds("2027-01-01"))


def test_a_leap_day_belongs_to_february() -> None:
    assert window("month", seconds("2028-02-29")) == (seconds("2028-02-01"), seconds("2028-03-01"))


def test_total_begins_at_zero_and_never_ends() -> None:
    assert window("total", 1_795_000_000) == (0, None)
    assert Windows().at("total", 1_795_000_000) == (0, FOREVER_S)


@given(per=st.sampled_from([per for per in get_args(Window) if per != "total"]), at=MOMENTS)
def test_windows_hold_their_moment_and_meet_without_a_gap(per: Window, at: int) -> None:
    start, end = window(per, at)
    assert end is not None
    assert start <= at < end
    assert window(per, end)[0] == end
    assert window(per, start) == (start, end)


@given(per=st.sampled_from(get_args(Window)), moments=st.lists(MOMENTS, max_size=20))
def test_the_remembered_window_is_the_right_one_whichever_way_time_moves(per: Window, moments: list[int]) -> None:
    windows = Windows()
    for at in moments:
        start, end = window(per, at)
        assert windows.at(per, at) == (start, FOREVER_S if end is None else end)
