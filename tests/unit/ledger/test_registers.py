"""How much a worker gets: more than it asks for while there is plenty, the last of it exactly as it is asked."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.lease import Given, Granted, Place, Want
from penstock.domain.policy import Limit
from penstock.ledger.registers import Register, Row, slice_of

NOW_S = 1_795_200_000
MONTH = Limit("usd", "growth", "usd", 1_000, "month")
CALLS = Limit("rpm", "calls", "requests", 100, "minute")
MONTHLY = Place("usd", NOW_S, "", "month")
MINUTELY = Place("rpm", 0, "", "minute")


def test_far_from_the_limit_a_worker_gets_more_than_it_asks_for() -> None:
    assert slice_of(free=9_000, total=200, least=100, holders=1) == 1_300
    assert slice_of(free=9_000, total=200, least=100, holders=10) == 310


def test_the_last_of_an_amount_goes_to_whom_it_is_enough_for() -> None:
    assert slice_of(free=200, total=200, least=50, holders=1) == 200
    assert slice_of(free=70, total=200, least=50, holders=1) == 70
    assert slice_of(free=49, total=200, least=50, holders=1) == 0
    assert slice_of(free=-30, total=200, least=50, holders=1) == 0


@given(
    free=st.integers(-(2**63), 2**63),
    asks=st.lists(st.integers(1, 2**40), min_size=1, max_size=5),
    holders=st.integers(0, 200),
)
def test_a_slice_is_never_more_than_is_free_and_never_less_than_is_asked_where_that_is_free(
    free: int, asks: list[int], holders: int
) -> None:
    total, least = sum(asks), min(asks)
    amount = slice_of(free, total, least, holders)
    assert 0 <= amount <= max(free, 0)
    if free >= total:
        assert total <= amount <= total + (free - total) // 8
    elif free >= least:
        assert amount == free
    else:
        assert amount == 0


@given(st.integers(1, 2**45), st.lists(st.integers(1, 10**6), min_size=1, max_size=60), st.integers(1, 20))
def test_grants_one_after_the_other_leave_nothing_while_somebody_wants_it(
    amount: int, asks: list[int], holders: int
) -> None:
    free = amount
    for ask in asks:
        got = slice_of(free, ask, 1, holders)
        assert got >= min(ask, free)
        free -= got
    assert 0 <= free <= max(amount - sum(asks), 0)


def test_what_is_settled_is_not_free_but_for_a_share() -> None:
    monthly = Register(MONTHLY, {NOW_S: 990}, {7: Row(50, 45)}, NOW_S)
    assert monthly.grant(8, Want(MONTHLY, 6, 3, NOW_S), MONTH, 2) == Granted(5, 990, 10)
    minutely = Register(MINUTELY, {NOW_S: 60}, {7: Row(60)}, NOW_S)
    assert minutely.grant(8, Want(MINUTELY, 40, 1, NOW_S), CALLS, 2) == Granted(40, 60, 100)


def test_one_gives_back_at_most_what_is_not_posted() -> None:
    monthly = Register(MONTHLY, {NOW_S: 45}, {7: Row(50, 45)}, NOW_S)
    monthly.give(7, Given(MONTHLY, 30))
    assert monthly.leased() == 0
    assert monthly.grant(8, Want(MONTHLY, 955, 955, NOW_S), MONTH, 2) == Granted(955, 45, 955)


def test_what_comes_back_of_a_share_is_used_by_others_from_that_window_on() -> None:
    minutely = Register(MINUTELY, {}, {7: Row(100, since=NOW_S - 600)}, NOW_S)
    minutely.give(7, Given(MINUTELY, 10, since=NOW_S))
    assert minutely.grant(8, Want(MINUTELY, 10, 10, NOW_S), CALLS, 2) == Granted(10, 0, 100, since=NOW_S)
    assert minutely.grant(7, Want(MINUTELY, 1, 1, NOW_S), CALLS, 2).since == 0


def test_a_dead_workers_share_counts_until_its_time_is_over() -> None:
    rows = {7: Row(100, until_s=NOW_S + 60)}
    want = Want(MINUTELY, 1, 1, NOW_S)
    assert Register(MINUTELY, {}, dict(rows), NOW_S + 59).grant(8, want, CALLS, 1) == Granted(0, 0, 100)
    after = Register(MINUTELY, {}, dict(rows), NOW_S + 60).grant(8, want, CALLS, 1)
    assert (after.amount, after.leased, after.since) == (13, 13, NOW_S + 60)


def test_a_limit_that_is_gone_or_counts_something_else_now_grants_nothing() -> None:
    monthly = Register(MONTHLY, {}, {}, NOW_S)
    want = Want(MONTHLY, 1, 1, NOW_S)
    assert monthly.grant(8, want, None, 1) == Granted(0, 0, 0)
    assert monthly.grant(8, want, CALLS, 1) == Granted(0, 0, 0)
    of_a_window = Place("rpm", NOW_S, "", "minute")
    assert Register(of_a_window, {}, {}, NOW_S).grant(8, want, CALLS, 1) == Granted(0, 0, 0)
    assert monthly.changes == {}


def test_who_is_in_the_way_is_named_when_settled_spend_alone_would_admit_more() -> None:
    rows = {6: Row(200, 200), 7: Row(400, 100), 8: Row(300, 0), 9: Row(200, 0, until_s=NOW_S + 5)}
    monthly = Register(MONTHLY, {NOW_S: 300}, rows, NOW_S)
    want = Want(MONTHLY, 60, 50, NOW_S)
    granted = monthly.grant(8, want, MONTH, 2)
    assert granted == Granted(0, 300, 800)
    assert monthly.in_the_way(8, want, granted, MONTH) == [7]
    hopeless = Want(MONTHLY, 701, 701, NOW_S)
    assert monthly.in_the_way(8, hopeless, granted, MONTH) == []
    assert monthly.in_the_way(8, want, Granted(60, 300, 800), MONTH) == []


def test_a_bucket_counts_until_it_has_left_the_window_here_and_at_the_worker() -> None:
    hourly = Place("hourly", 0, "", "sliding-hour")
    limit = Limit("hourly", "hourly", "usd", 1_000, "hour", window="sliding")
    buckets = {NOW_S: 400, NOW_S + 60: 500}
    for here_s, there_s, settled in (
        (3_659, 3_659, 900),
        (3_660, 3_659, 900),
        (3_659, 3_660, 900),
        (3_660, 3_660, 500),
    ):
        place = Register(hourly, buckets, {}, NOW_S + here_s)
        assert place.grant(8, Want(hourly, 1, 1, NOW_S + there_s), limit, 1).settled == settled


def test_what_slides_says_when_so_much_has_left_that_the_ask_fits() -> None:
    hourly = Place("hourly", 0, "", "sliding-hour")
    limit = Limit("hourly", "hourly", "usd", 1_000, "hour", window="sliding")
    register = Register(hourly, {NOW_S - 60: 300, NOW_S: 600}, {8: Row(20)}, NOW_S + 60)
    for asked, fits_at_s in ((100, 0), (101, NOW_S + 3_600), (400, NOW_S + 3_600), (401, NOW_S + 3_660), (1_001, 0)):
        want = Want(hourly, asked - 20, asked - 20, NOW_S + 60, asked)
        assert register.grant(8, want, limit, 1).fits_at_s == fits_at_s
