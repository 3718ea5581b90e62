"""A denial is the error that its unit asks for, and says what was asked, what is left, and when to come back."""

import pytest

from penstock.domain.policy import Denial, Limit, Unit, Window
from penstock.errors import InsufficientQuota, LimitHeld, RateLimitExceeded
from penstock.ledger.denials import refusal
from penstock.ledger.machine import Ask, Machine

NOVEMBER_20 = 1_795_200_000
DIMS = {"team": "growth", "customer": "acme"}
ASK = Ask(usd_nanousd=12_400_000, input_tokens=700, output_tokens=500)


def denial(unit: Unit, amount: int, per: Window = "month", *, settled: int = 0, each: str | None = None) -> Denial:
    """What a limit of `amount` says to ASK when `settled` is settled on it."""
    machine = Machine()
    limit = Limit("l", "growth-monthly", unit, 10**15, per, (("team", "growth"),), each)
    if settled:
        reservation = machine.reserve([limit], DIMS, ASK, NOVEMBER_20)
        assert not isinstance(reservation, Denial)
        machine.settle(reservation, [settled] * len(reservation.lines))
    lowered = Limit("l", "growth-monthly", unit, amount, per, limit.match, each)
    outcome = machine.reserve([lowered], DIMS, ASK, NOVEMBER_20)
    assert isinstance(outcome, Denial)
    return outcome


def test_money_that_is_spent_is_insufficient_quota_with_the_window_s_end() -> None:
    error = refusal(denial("usd", 103_100_000, settled=100_000_000))
    assert isinstance(error, InsufficientQuota)
    assert str(error) == (
        "limit growth-monthly (usd per month, team=growth): this call may cost up to $0.0124, "
        "$0.0031 is left until 2026-12-01T00:00:00Z."
    )
    assert error.retry_after_s is None


def test_money_that_others_hold_is_limit_held() -> None:
    machine, limit = Machine(), Limit("l", "cap", "usd", 20_000_000)
    machine.reserve([limit], DIMS, ASK, NOVEMBER_20)
    outcome = machine.reserve([limit], DIMS, ASK, NOVEMBER_20)
    assert isinstance(outcome, Denial)
    error = refusal(outcome)
    assert isinstance(error, LimitHeld)
    assert error.retry_after_s == 1
    assert "$0.0076 is left while other calls hold the rest; retry in 1 s" in str(error)


def test_tokens_that_are_used_up_come_back_when_the_window_turns() -> None:
    error = refusal(denial("tokens", 2_000, "minute", settled=1_500))
    assert isinstance(error, RateLimitExceeded)
    assert error.retry_after_s == 60
    assert "this call may use up to 1200 tokens, 500 are left until 2026-11-20T18:41:00Z" in str(error)


def test_a_call_that_is_larger_than_its_limit_is_told_that_waiting_cannot_help() -> None:
    error = refusal(denial("output_tokens", 400, "minute"))
    assert isinstance(error, RateLimitExceeded)
    assert error.retry_after_s is None
    assert "over the whole limit of 400; waiting cannot help" in str(error)


@pytest.mark.parametrize("per", ["minute", "day"])
def test_requests_are_always_a_rate_limit_even_while_they_are_only_held(per: Window) -> None:
    machine, limit = Machine(), Limit("l", "rpm", "requests", 1, per)
    machine.reserve([limit], DIMS, ASK, NOVEMBER_20)
    outcome = machine.reserve([limit], DIMS, ASK, NOVEMBER_20)
    assert isinstance(outcome, Denial)
    error = refusal(outcome)
    assert isinstance(error, RateLimitExceeded)
    assert error.retry_after_s is not None
    assert error.retry_after_s > 1


def test_concurrent_calls_are_held_by_others() -> None:
    machine, limit = Machine(), Limit("l", "lanes", "concurrent", 1)
    machine.reserve([limit], DIMS, ASK, NOVEMBER_20)
    outcome = machine.reserve([limit], DIMS, ASK, NOVEMBER_20)
    assert isinstance(outcome, Denial)
    error = refusal(outcome)
    assert isinstance(error, LimitHeld)
    assert error.retry_after_s == 1
    assert str(error) == (
        "limit lanes (concurrent): this is one more call at a time, 0 are left of 1; retry when one of them has ended."
    )


def test_a_total_that_is_spent_is_left_for_good() -> None:
    assert "is left, for good" in str(refusal(denial("usd", 13_000_000, "total", settled=10_000_000)))


def test_the_value_of_each_is_named_and_the_denial_travels_with_the_error() -> None:
    found = denial("usd", 13_000_000, settled=10_000_000, each="customer")
    error = refusal(found)
    assert "(usd per month, team=growth, customer acme)" in str(error)
    assert error.denial is found
