"""Windows are aligned to the calendar of their zone, hold their moment, and follow each other without a gap."""

from datetime import UTC, datetime
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.domain.policy import Span, Window
from penstock.ledger.windows import BUCKETS, FOREVER_S, SLIDING_S, SPANS, Windows, bucket, oldest_open, window

MOMENTS = st.integers(0, 4_000_000_000)
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",  # clocks went back at 00:01, to the day before
    "America/Havana",  # midnight comes twice
    "Africa/Cairo",  # midnight is skipped
    "Asia/Kathmandu",  # 5:45 ahead
    "Australia/Lord_Howe",  # summer time is half an hour
    "Pacific/Apia",  # 30 December 2011 never was
    "Pacific/Kwajalein",  # nor was 21 August 1993
)


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


@pytest.mark.parametrize(
    ("per", "at", "start", "end"),
    [
        ("day", "2026-11-20T23:30:00", "2026-11-20T23:00:00", "2026-11-21T23:00:00"),
        ("day", "2026-03-29T12:00:00", "2026-03-28T23:00:00", "2026-03-29T22:00:00"),
        ("day", "2026-10-25T12:00:00", "2026-10-24T22:00:00", "2026-10-25T23:00:00"),
        ("week", "2026-03-25T12:00:00", "2026-03-22T23:00:00", "2026-03-29T22:00:00"),
        ("month", "2026-10-25T12:00:00", "2026-09-30T22:00:00", "2026-10-31T23:00:00"),
        ("year", "2026-12-31T23:30:00", "2026-12-31T23:00:00", "2027-12-31T23:00:00"),
        ("hour", "2026-10-25T00:30:00", "2026-10-25T00:00:00", "2026-10-25T01:00:00"),
        ("hour", "2026-10-25T01:30:00", "2026-10-25T01:00:00", "2026-10-25T02:00:00"),
    ],
)
def test_a_day_in_berlin_has_23_hours_in_march_and_25_in_october(per: Window, at: str, start: str, end: str) -> None:
    assert window(per, seconds(at), "Europe/Berlin") == (seconds(start), seconds(end))


def test_hours_begin_when_the_clocks_of_the_zone_say_so() -> None:
    start, end = window("hour", seconds("2026-11-20T10:00:00"), "Asia/Kathmandu")
    assert (start, end) == (seconds("2026-11-20T09:15:00"), seconds("2026-11-20T10:15:00"))


def test_a_day_whose_midnight_is_skipped_begins_when_the_clocks_skip_it() -> None:
    start, end = window("day", seconds("2026-04-24T12:00:00"), "Africa/Cairo")
    assert (start, end) == (seconds("2026-04-23T22:00:00"), seconds("2026-04-24T21:00:00"))


@given(
    per=st.sampled_from([per for per in get_args(Window) if per != "total"]), at=MOMENTS, zone=st.sampled_from(ZONES)
)
@example(per="day", at=1_256_400_000 + 4 * 3_600, zone="America/St_Johns")
def test_windows_hold_their_moment_and_meet_without_a_gap(per: Window, at: int, zone: str) -> None:
    start, end = window(per, at, zone)
    assert end is not None
    assert start <= at < end
    assert window(per, end, zone)[0] == end
    assert window(per, start, zone) == window(per, end - 1, zone) == (start, end)
    assert start >= oldest_open(per, at)


@given(per=st.sampled_from(get_args(Window)), moments=st.lists(MOMENTS, max_size=20), zone=st.sampled_from(ZONES))
def test_the_remembered_window_is_the_right_one_whichever_way_time_moves(
    per: Window, moments: list[int], zone: str
) -> None:
    windows = Windows()
    for at in moments:
        start, end = window(per, at, zone)
        assert windows.at(per, at, zone) == (start, FOREVER_S if end is None else end)


@given(span=st.sampled_from(sorted(SLIDING_S)), at=MOMENTS, back=st.floats(0, 1, exclude_max=True))
def test_whatever_lies_less_than_a_window_back_is_in_a_bucket_that_counts(span: Span, at: int, back: float) -> None:
    start, end = bucket(span, at)
    assert start <= at < end
    assert (end - start) * BUCKETS == SLIDING_S[span]
    assert bucket(span, at - int(back * SLIDING_S[span]))[0] >= oldest_open(span, at)
    assert oldest_open(span, at) + SLIDING_S[span] + (end - start) > at


def test_every_window_and_every_bucket_has_a_span() -> None:
    assert set(SPANS) == set(get_args(Window)) | set(SLIDING_S)
