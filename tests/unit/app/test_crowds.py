"""Marks of limits on concurrent calls."""

from penstock.app.control.crowds import REARM_S, Crowds
from penstock.domain.policy import Limit

LANES = Limit("lanes", "lanes", "concurrent", 10, alert_at=(0.5, 0.8))
LIMITS = {"lanes": LANES}


def _told(crowds: Crowds, count: int, at_s: float, value: str = "") -> list[float]:
    return [alert.fraction for alert in crowds.crossed(LIMITS, {("lanes", value): count}, at_s)]


def test_a_mark_is_told_of_when_it_is_reached_and_once() -> None:
    crowds = Crowds()
    assert [_told(crowds, count, 0.0) for count in (4, 5, 5, 8, 9, 10)] == [[], [0.5], [], [0.8], [], []]


def test_a_mark_is_told_of_again_after_it_was_quiet_for_a_while() -> None:
    crowds = Crowds()
    assert _told(crowds, 5, 0.0) == [0.5]
    assert _told(crowds, 1, REARM_S / 2) == []
    assert _told(crowds, 5, REARM_S - 1) == []
    assert _told(crowds, 5, REARM_S + 1) == []
    assert _told(crowds, 5, 2 * REARM_S + 1) == [0.5]


def test_each_value_has_marks_of_its_own_and_a_limit_that_is_gone_has_none() -> None:
    crowds = Crowds()
    assert _told(crowds, 5, 0.0, "acme") == [0.5]
    assert _told(crowds, 5, 0.0, "zeta") == [0.5]
    assert crowds.crossed({}, {("lanes", "acme"): 10}, 0.0) == []


def test_an_alert_says_how_many_are_in_flight() -> None:
    (alert,) = Crowds().crossed(LIMITS, {("lanes", "acme"): 6}, 0.0)
    assert (alert.limit, alert.value, alert.settled, alert.window_start) == (LANES, "acme", 6, 0)
