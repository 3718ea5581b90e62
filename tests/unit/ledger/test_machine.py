"""The state machine: all or nothing, exact at the edge, and nothing left behind."""

import gc
import tracemalloc

import pytest
from msgspec import structs

from penstock.domain.money import MAX_NANOUSD
from penstock.domain.policy import Charge, Denial, Limit, Window
from penstock.domain.usage import Usage
from penstock.errors import NoOutputBound, PenstockError, UnpricedModel
from penstock.ledger.books import OTHERS
from penstock.ledger.machine import Ask, Extended, Machine, amounts_owed
from penstock.ledger.reservations import Reservation

NOW = 1_795_200_000
ASK = Ask(usd_nanousd=100, input_tokens=20, output_tokens=10)
MONEY = Limit("usd", "usd", "usd", 1_000, "day")
CALLS = Limit("calls", "calls", "requests", 3, "minute")
LANES = Limit("lanes", "lanes", "concurrent", 2)
PER_CUSTOMER = Limit("each", "each", "usd", 250, "day", each="customer")


def reserve(machine: Machine, *limits: Limit, ask: Ask = ASK, at: int = NOW, **dims: str) -> Reservation:
    outcome = machine.reserve(limits, dims, ask, at)
    assert isinstance(outcome, Reservation)
    return outcome


def denied(machine: Machine, *limits: Limit, ask: Ask = ASK, at: int = NOW, **dims: str) -> Denial:
    outcome = machine.reserve(limits, dims, ask, at)
    assert isinstance(outcome, Denial)
    return outcome


def settle(machine: Machine, reservation: Reservation, amount: int) -> None:
    machine.settle(reservation, [amount] * len(reservation.lines))


def settled(machine: Machine) -> dict[str, int]:
    return {charge.limit: charge.amount for charge in machine.settled() if charge.amount}


def test_a_denial_by_one_limit_holds_nothing_on_the_others() -> None:
    machine = Machine()
    for _ in range(3):
        settle(machine, reserve(machine, CALLS), 1)
    assert denied(machine, MONEY, LANES, CALLS).limit is CALLS
    assert machine.held() == {}


def test_the_last_piece_of_a_limit_can_be_held_and_not_one_more() -> None:
    machine = Machine()
    for _ in range(10):
        reserve(machine, MONEY)
    assert machine.held() == {"usd": 1_000}
    assert denied(machine, MONEY, ask=Ask(1, 0, 0)).left == 0


def test_what_is_not_used_of_a_hold_is_free_again() -> None:
    machine = Machine()
    settle(machine, reserve(machine, MONEY, ask=Ask(1_000, 0, 0)), 400)
    assert denied(machine, MONEY, ask=Ask(601, 0, 0)).left == 600
    reserve(machine, MONEY, ask=Ask(600, 0, 0))


def test_a_hold_settles_in_the_window_in_which_it_was_made() -> None:
    machine = Machine()
    late = reserve(machine, MONEY)
    tomorrow = NOW + 86_400
    reserve(machine, MONEY, ask=Ask(1_000, 0, 0), at=tomorrow)
    assert machine.held() == {"usd": 1_100}
    settle(machine, late, 100)
    assert machine.held() == {"usd": 1_000}
    assert settled(machine) == {}


def test_a_window_that_turned_is_forgotten() -> None:
    machine = Machine()
    settle(machine, reserve(machine, MONEY, ask=Ask(1_000, 0, 0)), 1_000)
    reserve(machine, MONEY, ask=Ask(1_000, 0, 0), at=NOW + 86_400)
    assert len(list(machine.settled())) == 1


def test_a_clock_that_is_set_back_a_little_stands_still() -> None:
    machine = Machine()
    start = NOW - NOW % 60
    reserve(machine, CALLS, at=start)
    for _ in range(2):
        reserve(machine, CALLS, at=start - 30)
    assert denied(machine, CALLS, at=start - 30).window_start == start


def test_a_clock_that_was_far_ahead_is_followed_back() -> None:
    machine = Machine()
    reserve(machine, CALLS, at=NOW + 10**8)
    assert next(iter(reserve(machine, CALLS, at=NOW).held)).window_start == NOW - NOW % 60


def test_observing_counts_and_never_denies() -> None:
    machine = Machine()
    observed = Limit("seen", "seen", "usd", 10, "day", mode="observe")
    settle(machine, reserve(machine, observed), 90)
    settle(machine, reserve(machine, observed), 90)
    assert settled(machine) == {"seen": 180}


def test_a_lowered_amount_counts_at_once_and_so_does_a_raised_one() -> None:
    machine = Machine()
    reserve(machine, MONEY, ask=Ask(600, 0, 0))
    lowered = Limit("usd", "usd", "usd", 650, "day")
    assert denied(machine, lowered).left == 50
    below = Limit("usd", "usd", "usd", 500, "day")
    assert denied(machine, below).left == 0
    reserve(machine, Limit("usd", "usd", "usd", 700, "day"))


def test_a_call_that_costs_nothing_passes_a_spent_limit() -> None:
    machine = Machine()
    settle(machine, reserve(machine, MONEY, ask=Ask(1_000, 0, 0)), 1_000)
    reserve(machine, MONEY, ask=Ask(0, 20, 10))


def test_each_value_has_a_balance_of_its_own() -> None:
    machine = Machine()
    for customer in ("a", "b"):
        reserve(machine, PER_CUSTOMER, customer=customer)
        reserve(machine, PER_CUSTOMER, customer=customer)
        assert denied(machine, PER_CUSTOMER, customer=customer).value == customer


def test_values_beyond_the_bound_share_one_balance() -> None:
    machine, limit = Machine(), structs.replace(PER_CUSTOMER, max_values=2)
    for customer in ("a", "b", "c", "d"):
        reserve(machine, limit, customer=customer)
    assert denied(machine, limit, customer="e").value == OTHERS
    reserve(machine, limit, customer="a")


@pytest.mark.parametrize("window", ["fixed", "sliding"])
def test_values_beyond_the_bound_take_up_no_memory(window: Window) -> None:
    machine, limit = Machine(), structs.replace(PER_CUSTOMER, amount=10**12, max_values=200, window=window)

    def in_memory_after(first: int, last: int) -> int:
        for number in range(first, last):
            settle(machine, reserve(machine, limit, customer=f"customer-{number}"), 1)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        full = in_memory_after(0, 1_000)  # what is kept of the newest callers, whoever they are, is full as well
        assert in_memory_after(1_000, 3_000) - full < 50_000
    finally:
        tracemalloc.stop()


def test_a_value_on_which_nothing_is_left_gives_its_place_back() -> None:
    machine, limit = Machine(), structs.replace(PER_CUSTOMER, max_values=1)
    machine.release(reserve(machine, limit, customer="a"))
    assert next(iter(reserve(machine, limit, customer="b").held)).value == "b"


def test_a_denied_value_takes_no_place() -> None:
    machine, limit = Machine(), structs.replace(PER_CUSTOMER, max_values=1)
    denied(machine, limit, ask=Ask(251, 0, 0), customer="a")
    assert next(iter(reserve(machine, limit, customer="b").held)).value == "b"


def test_concurrency_is_held_but_never_charged() -> None:
    machine = Machine()
    first = reserve(machine, LANES, MONEY)
    assert [charge.limit for charge in first.held] == ["usd"]
    reserve(machine, LANES)
    assert denied(machine, LANES).limit is LANES
    settle(machine, first, 0)
    reserve(machine, LANES)
    assert machine.held() == {"lanes": 2}


def test_a_settlement_over_its_hold_is_posted() -> None:
    machine = Machine()
    settle(machine, reserve(machine, MONEY), 100)
    settle(machine, reserve(machine, MONEY), 5_000)
    assert settled(machine) == {"usd": 5_100}


def test_a_hold_is_resolved_once() -> None:
    machine = Machine()
    reservation = reserve(machine, MONEY)
    machine.release(reservation)
    with pytest.raises(PenstockError, match="at most once"):
        settle(machine, reservation, 1)
    with pytest.raises(PenstockError, match="at most once"):
        machine.release(reservation)
    assert machine.held() == {}


def test_a_settlement_of_other_balances_changes_nothing() -> None:
    machine = Machine()
    reservation = reserve(machine, MONEY)
    with pytest.raises(PenstockError, match="balances of its hold"):
        machine.settle(reservation, [])
    with pytest.raises(PenstockError, match="give back"):
        settle(machine, reservation, -1)
    assert machine.held() == {"usd": 100}


def test_an_unknown_price_is_refused_under_dollars_and_only_there() -> None:
    machine, unpriced = Machine(), Ask(None, 20, 10)
    with pytest.raises(UnpricedModel, match="has no price"):
        machine.reserve([CALLS, MONEY], {}, unpriced, NOW)
    reserve(machine, CALLS, Limit("seen", "seen", "usd", 1, mode="observe"), ask=unpriced)


@pytest.mark.parametrize("unit", ["usd", "tokens", "output_tokens"])
def test_an_unbounded_output_is_refused_where_output_is_counted(unit: str) -> None:
    unbounded = Ask(None, 20, None)
    with pytest.raises(NoOutputBound, match="nothing caps"):
        Machine().reserve([Limit("l", "l", unit, 10**9)], {}, unbounded, NOW)  # type: ignore[arg-type]
    reserve(Machine(), CALLS, Limit("in", "in", "input_tokens", 100), ask=unbounded)


def test_of_several_denials_the_one_that_waiting_helps_least_is_told() -> None:
    machine = Machine()
    total = Limit("total", "total", "usd", 100)
    month = Limit("month", "month", "usd", 100, "month")
    limits = [CALLS, month, total]
    for limit in limits:
        settle(machine, reserve(machine, limit, ask=Ask(limit.amount, 0, 0)), limit.amount)
    assert denied(machine, *limits, at=NOW).limit is total
    assert denied(machine, CALLS, month).limit is month
    assert denied(machine, month, CALLS).limit is month


def test_a_seeded_machine_goes_on_where_its_predecessor_was() -> None:
    old = Machine()
    settle(old, reserve(old, MONEY, PER_CUSTOMER, customer="a"), 100)
    new = Machine()
    new.seed(list(old.settled()))
    assert sorted(new.settled(), key=repr) == sorted(old.settled(), key=repr)
    assert denied(new, PER_CUSTOMER, ask=Ask(151, 0, 0), customer="a").left == 150


def test_of_two_seeded_windows_the_open_one_counts() -> None:
    machine = Machine()
    day = NOW - NOW % 86_400
    machine.seed([Charge("usd", day, "", 999, "day"), Charge("usd", day - 86_400, "", 5, "day")])
    assert denied(machine, MONEY).left == 1


def test_a_limit_that_is_gone_is_forgotten_once_its_window_is_over() -> None:
    machine = Machine()
    settle(machine, reserve(machine, CALLS), 1)
    machine.prune({}, NOW)
    assert settled(machine) == {"calls": 1}
    machine.prune({}, NOW + 60)
    assert list(machine.settled()) == []


def test_amounts_owed_are_given_their_units_in_one_place() -> None:
    usage = Usage(input=5, cache_read=3, cache_write={"5m": 2}, audio_in=1, output=7, audio_out=4, reasoning=6)
    assert amounts_owed(99, usage) == {
        "usd": 99,
        "input_tokens": 11,
        "output_tokens": 11,
        "tokens": 22,
        "requests": 1,
        "concurrent": 0,
    }


def test_hostile_amounts_stay_within_what_the_store_can_hold() -> None:
    assert amounts_owed(10**30, Usage(input=-5))["usd"] == MAX_NANOUSD
    assert amounts_owed(1, Usage(input=-5))["input_tokens"] == 0
    assert Ask(10**30, 10**30, 10**30).amounts()["tokens"] == MAX_NANOUSD


def test_an_adjustment_moves_the_balance_of_the_present_window_and_never_below_zero() -> None:
    machine, limit = Machine(), Limit("lim_1", "daily", "requests", 3, "day")
    day_s = 86_400
    machine.adjust(Charge("lim_1", 0, "", 2, "day"))
    assert [charge.amount for charge in machine.settled()] == [2]
    machine.adjust(Charge("lim_1", 0, "", -5, "day"))
    assert list(machine.settled()) == []
    held = machine.reserve([limit], {}, Ask(0, 0, 0), day_s)
    assert isinstance(held, Reservation)
    machine.adjust(Charge("lim_1", 0, "", 3, "day"))
    assert list(machine.settled()) == [Charge("lim_1", day_s, "", 0, "day")]
    machine.adjust(Charge("lim_1", day_s, "", 2, "day"))
    assert isinstance(machine.reserve([limit], {}, Ask(0, 0, 0), day_s), Denial)
    machine.settle(held, held.amounts)
    assert [charge.amount for charge in machine.settled()] == [3]


def test_an_adjustment_counts_once_on_what_was_taken_over_whether_the_limit_was_met_or_not() -> None:
    machine = Machine()
    berlin = Limit("berlin", "berlin", "requests", 9, "day", timezone="Europe/Berlin")
    midnight = 1_792_879_200
    machine.seed([Charge("berlin", midnight, "", 5, "day")])
    machine.adjust(Charge("berlin", midnight, "", -2, "day"))
    machine.adjust(Charge("berlin", midnight - 86_400, "", 7, "day"))
    machine.release(reserve(machine, berlin, at=midnight + 24 * 3_600))
    machine.adjust(Charge("berlin", midnight, "", 1, "day"))
    assert list(machine.settled()) == [Charge("berlin", midnight, "", 4, "day")]


def test_an_adjustment_of_the_next_day_of_a_time_zone_turns_the_window_for_the_calls_that_follow() -> None:
    machine = Machine()
    berlin = Limit("berlin", "berlin", "requests", 3, "day", timezone="Europe/Berlin")
    midnight = 1_792_879_200
    for _ in range(3):
        settle(machine, reserve(machine, berlin, at=midnight - 1), 1)
    machine.adjust(Charge("berlin", midnight, "", 2, "day"))
    settle(machine, reserve(machine, berlin, at=midnight - 1), 1)
    denied(machine, berlin, at=midnight)
    assert [charge.amount for charge in machine.settled()] == [3]


SLIDING = Limit("slides", "slides", "requests", 3, "minute", window="sliding")


def test_a_sliding_window_never_holds_more_than_its_amount_across_a_boundary() -> None:
    machine = Machine()
    start = NOW - NOW % 60
    for second in (58, 59, 59):
        settle(machine, reserve(machine, SLIDING, at=start + second), 1)
    for second in (60, 61, 100, 118):
        denied(machine, SLIDING, at=start + second)
    reserve(machine, SLIDING, at=start + 119)


def test_a_sliding_denial_says_when_enough_of_the_oldest_has_left() -> None:
    machine = Machine()
    tokens = Limit("slides", "slides", "tokens", 100, "hour", window="sliding")
    for minute in (0, 10, 20):
        settle(machine, reserve(machine, tokens, ask=Ask(0, 30, 0), at=NOW + 60 * minute), 30)
    refused = denied(machine, tokens, ask=Ask(0, 50, 0), at=NOW + 1_800)
    assert (refused.left, refused.held_by_others) == (10, False)
    assert refused.retry_after_s == 3_600 + 60 + 600 - 1_800
    reserve(machine, tokens, ask=Ask(0, 50, 0), at=NOW + 1_800 + int(refused.retry_after_s))


def test_a_hold_on_a_sliding_window_counts_where_it_was_made_and_leaves_with_it() -> None:
    machine = Machine()
    late = reserve(machine, SLIDING, at=NOW)
    reserve(machine, SLIDING, at=NOW + 30)
    assert machine.held() == {"slides": 2}
    reserve(machine, SLIDING, at=NOW + 61)
    settle(machine, late, 1)
    assert machine.held() == {"slides": 2}
    assert settled(machine) == {}


def test_values_of_a_sliding_limit_give_their_places_back_as_they_leave() -> None:
    machine = Machine()
    each = Limit("slides", "slides", "requests", 9, "minute", each="customer", window="sliding", max_values=2)
    settle(machine, reserve(machine, each, at=NOW, customer="a"), 1)
    settle(machine, reserve(machine, each, at=NOW + 10, customer="b"), 1)
    settle(machine, reserve(machine, each, at=NOW + 20, customer="a"), 1)
    shared = reserve(machine, each, at=NOW + 60, customer="c")
    assert next(iter(shared.held)).value == OTHERS
    machine.release(shared)
    machine.release(reserve(machine, each, at=NOW + 75, customer="a"))
    assert next(iter(reserve(machine, each, at=NOW + 75, customer="d").held)).value == "d"


def test_a_sliding_window_is_taken_over_bucket_by_bucket() -> None:
    old = Machine()
    for second in (0, 20):
        settle(old, reserve(old, SLIDING, at=NOW + second), 1)
    new = Machine()
    new.seed(list(old.settled()))
    reserve(new, SLIDING, at=NOW + 40)
    assert denied(new, SLIDING, at=NOW + 60).retry_after_s == 1
    reserve(new, SLIDING, at=NOW + 61)


def test_a_clock_that_was_far_ahead_begins_a_sliding_window_anew() -> None:
    machine = Machine()
    for _ in range(3):
        settle(machine, reserve(machine, SLIDING, at=NOW + 10**6), 1)
    reserve(machine, SLIDING, at=NOW)


def test_a_clock_that_is_behind_what_was_taken_over_stands_still() -> None:
    machine = Machine()
    machine.seed([Charge("slides", NOW, "", 3, "sliding-minute")])
    assert denied(machine, SLIDING, at=NOW - 30).retry_after_s == 61


def test_a_day_ends_when_its_time_zone_says_so() -> None:
    machine = Machine()
    berlin = Limit("berlin", "berlin", "requests", 1, "day", timezone="Europe/Berlin")
    midnight = 1_792_879_200  # 25 October 2026, 00:00 in Berlin; the day has 25 hours
    settle(machine, reserve(machine, berlin, at=midnight), 1)
    assert denied(machine, berlin, at=midnight + 24 * 3_600).retry_after_s == 3_600
    seeded = Machine()
    seeded.seed(list(machine.settled()))
    denied(seeded, berlin, at=midnight + 24 * 3_600)
    reserve(seeded, berlin, at=midnight + 25 * 3_600)


def test_the_most_calls_at_once_are_told_since_the_last_look() -> None:
    machine = Machine()
    lanes = Limit("lanes", "lanes", "concurrent", 5, each="customer", alert_at=(0.5,))
    first, second = reserve(machine, lanes, customer="acme"), reserve(machine, lanes, customer="acme")
    reserve(machine, lanes, customer="zeta")
    machine.release(first)
    assert machine.peaks() == (Charge("lanes", 0, "acme", 2), Charge("lanes", 0, "zeta", 1))
    assert machine.peaks() == (Charge("lanes", 0, "acme", 1), Charge("lanes", 0, "zeta", 1))
    machine.release(second)
    assert machine.peaks() == (Charge("lanes", 0, "acme", 1), Charge("lanes", 0, "zeta", 1))
    assert machine.peaks() == (Charge("lanes", 0, "zeta", 1),)


def test_a_call_that_another_limit_denies_is_not_among_those_in_flight() -> None:
    machine = Machine()
    lanes = Limit("lanes", "lanes", "concurrent", 5, alert_at=(0.5,))
    denied(machine, lanes, Limit("none", "none", "requests", 0, "day"))
    assert machine.peaks() == ()


def test_a_bucket_that_has_left_its_window_takes_up_no_place_when_a_newer_one_is_released() -> None:
    machine = Machine()
    sliding = Limit("s", "s", "usd", 1_000, "hour", each="customer", window="sliding", max_values=2)
    start = NOW - NOW % 60
    reserve(machine, sliding, at=start, customer="x")
    newer = reserve(machine, sliding, at=start + 60, customer="x")
    for customer in "yw":
        reserve(machine, sliding, at=start + 3_660, customer=customer)
    machine.release(newer)
    assert next(iter(reserve(machine, sliding, at=start + 3_660, customer="x").held)).value == OTHERS


# -- metered limits -------------------------------------------------------------------------------------------------

METERED = Limit("meter", "meter", "output_tokens", 1_000, "day", mode="metered")
METERED_MONEY = Limit("meter-usd", "meter-usd", "usd", 2_000, "day", mode="metered")
STREAM = Ask(usd_nanousd=900, input_tokens=20, output_tokens=900, metered=Ask(100, 20, 80))
IN_FORCE = {limit.id: limit for limit in (METERED, METERED_MONEY, MONEY)}


def extend(machine: Machine, reservation: Reservation, ask: Ask, at: int = NOW, **limits: Limit) -> object:
    return machine.extend(reservation, {**IN_FORCE, **limits}, ask, at)


def test_a_metered_limit_holds_what_is_metered_and_a_strict_one_the_worst_case() -> None:
    machine = Machine()
    reserve(machine, METERED, METERED_MONEY, MONEY, ask=STREAM)
    assert machine.held() == {"meter": 80, "meter-usd": 100, "usd": 900}


def test_a_metered_limit_holds_the_worst_case_of_a_call_that_cannot_be_topped_up() -> None:
    machine = Machine()
    reserve(machine, METERED, METERED_MONEY, ask=Ask(900, 20, 900))
    assert machine.held() == {"meter": 900, "meter-usd": 900}


def test_an_extension_raises_metered_lines_alone_and_all_that_is_held_is_settled_once() -> None:
    machine = Machine()
    held = reserve(machine, METERED, METERED_MONEY, MONEY, ask=STREAM)
    assert isinstance(extend(machine, held, Ask(300, 20, 280)), Extended)
    assert machine.held() == {"meter": 280, "meter-usd": 300, "usd": 900}
    assert [charge.amount for charge in held.held] == [280, 300, 900]
    settle(machine, held, 250)
    assert machine.held() == {}
    assert settled(machine) == {"meter": 250, "meter-usd": 250, "usd": 250}


def test_an_extension_that_one_limit_denies_changes_nothing_on_any() -> None:
    machine = Machine()
    reserve(machine, METERED, ask=Ask(0, 0, 700))
    held = reserve(machine, METERED_MONEY, METERED, ask=STREAM)
    denial = extend(machine, held, Ask(330, 20, 301))
    assert isinstance(denial, Denial)
    assert (denial.limit, denial.asked, denial.left, denial.held_by_others) == (METERED, 301, 300, True)
    assert machine.held() == {"meter": 780, "meter-usd": 100}
    assert [charge.amount for charge in held.held] == [100, 80]
    assert isinstance(extend(machine, held, Ask(330, 20, 300)), Extended)


def test_a_denied_extension_is_not_told_to_wait_for_what_it_holds_itself() -> None:
    machine = Machine()
    settle(machine, reserve(machine, METERED, ask=Ask(0, 0, 500)), 500)
    held = reserve(machine, METERED, ask=STREAM)
    denial = extend(machine, held, Ask(600, 20, 501))
    assert isinstance(denial, Denial)
    assert not denial.held_by_others
    assert (denial.asked, denial.left) == (501, 500)
    too_much = extend(machine, held, Ask(600, 20, 1_001))
    assert isinstance(too_much, Denial)
    assert too_much.retry_after_s is None


def test_what_is_added_after_midnight_lies_in_the_new_day() -> None:
    machine = Machine()
    held = reserve(machine, METERED, ask=STREAM)
    tomorrow = NOW + 86_400
    reserve(machine, METERED, ask=Ask(0, 0, 700), at=tomorrow)
    denial = extend(machine, held, Ask(1, 1, 381), tomorrow)
    assert isinstance(denial, Denial)
    assert (denial.asked, denial.left) == (301, 300)
    assert isinstance(extend(machine, held, Ask(1, 1, 280), tomorrow), Extended)
    assert isinstance(extend(machine, held, Ask(1, 1, 380), tomorrow), Extended)
    assert [charge.amount for charge in held.held] == [80, 300]
    assert list(held.held)[1].window_start == next(iter(held.held)).window_start + 86_400
    assert isinstance(extend(machine, held, Ask(1, 1, 381), tomorrow), Denial)
    assert machine.held() == {"meter": 1_080}


@pytest.mark.parametrize(("owed", "shared"), [(50, [50, 0]), (200, [80, 120]), (500, [80, 420])])
def test_what_is_owed_is_charged_to_the_older_window_first_and_the_rest_to_the_newest(
    owed: int, shared: list[int]
) -> None:
    machine = Machine()
    held = reserve(machine, METERED, MONEY, ask=STREAM)
    extend(machine, held, Ask(1, 1, 380), NOW + 86_400)
    amounts = held.shared_out(amounts_owed(7, Usage(output=owed)))
    assert [(charge.limit, charge.amount) for charge in held.charges(amounts)] == [
        ("meter", shared[0]),
        ("usd", 7),
        ("meter", shared[1]),
    ]
    machine.settle(held, amounts)
    assert machine.held() == {}
    assert settled(machine) == {"usd": 7} | ({"meter": shared[1]} if shared[1] else {})


def test_an_extension_obeys_the_limit_as_it_is_now() -> None:
    machine = Machine()
    held = reserve(machine, METERED, ask=STREAM)
    lowered = Limit("meter", "meter", "output_tokens", 200, "day", mode="metered")
    assert isinstance(extend(machine, held, Ask(1, 1, 201), meter=lowered), Denial)
    observed = Limit("meter", "meter", "output_tokens", 200, "day", mode="observe")
    assert isinstance(extend(machine, held, Ask(1, 1, 201), meter=observed), Extended)
    assert isinstance(machine.extend(held, {}, Ask(1, 1, 900), NOW), Extended)
    assert machine.held() == {"meter": 201}


def test_what_is_resolved_is_not_extended() -> None:
    machine = Machine()
    held = reserve(machine, METERED, ask=STREAM)
    machine.release(held)
    with pytest.raises(PenstockError):
        extend(machine, held, Ask(300, 20, 280))


def test_a_sliding_limit_counts_what_a_hold_was_extended_by() -> None:
    machine = Machine()
    sliding = Limit("last-day", "last-day", "output_tokens", 1_000, "day", mode="metered", window="sliding")
    held = reserve(machine, sliding, ask=STREAM)
    later = NOW + 3_600
    assert isinstance(machine.extend(held, {"last-day": sliding}, Ask(1, 1, 600), later), Extended)
    reserve(machine, sliding, ask=Ask(1, 1, 400), at=later)
    assert denied(machine, sliding, ask=Ask(1, 1, 1), at=later).left == 0
    assert isinstance(machine.extend(held, {"last-day": sliding}, Ask(1, 1, 601), later), Denial)
    machine.settle(held, held.shared_out(amounts_owed(0, Usage(output=100))))
    assert denied(machine, sliding, ask=Ask(1, 1, 501), at=later).left == 500
    reserve(machine, sliding, ask=Ask(1, 1, 580), at=NOW + 86_400 + 1_440)


def test_a_metered_limit_needs_no_cap_of_a_stream_and_a_strict_one_does() -> None:
    machine = Machine()
    uncapped = Ask(900, 20, None, metered=Ask(100, 20, 80))
    reserve(machine, METERED_MONEY, ask=uncapped)
    with pytest.raises(NoOutputBound, match="limit usd is strict"):
        machine.reserve((METERED_MONEY, MONEY), {}, uncapped, NOW)
    with pytest.raises(NoOutputBound, match="limit meter is metered"):
        machine.reserve((METERED,), {}, Ask(900, 20, None), NOW)
    with pytest.raises(UnpricedModel):
        machine.reserve((METERED_MONEY,), {}, Ask(None, 20, None, metered=Ask(None, 20, 80)), NOW)
