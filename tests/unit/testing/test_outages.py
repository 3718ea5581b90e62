"""Outages: which calls were answered as they should, and which were refused too early or admitted too late."""

import pytest

from penstock.testing.oracles import Told
from penstock.testing.prove import outages
from penstock.testing.prove.outages import NOTICED_S, PULSE_S, Outage
from penstock.testing.prove.stage import Size, Stage

FRESH_S = 3.0


@pytest.fixture
def outage(tmp_path) -> Outage:  # type: ignore[no-untyped-def]
    found = Outage(Stage(tmp_path, [outages.scene()], Size()), "stopped")
    found.away_at_s = found.gone_at_s = 100.0
    found.back_at_s = 100.0 + FRESH_S + NOTICED_S + 2
    return found


def told(after_s: float, status: int) -> Told:
    return Told("call", 1, status, began_s=100.0 + after_s)


RIGHT = [told(1, 200), told(FRESH_S + 1, 200), told(FRESH_S + 1, 503), told(FRESH_S + NOTICED_S + 1, 503)]


def test_calls_that_go_on_until_they_are_refused_are_as_they_should_be(outage: Outage) -> None:
    assert outage.faults([told(-1, 0), *RIGHT, told(99, 500)], FRESH_S, True) == []
    assert (outage.count(RIGHT, 200), outage.count(RIGHT, 503)) == (2, 2)


def test_a_call_that_was_refused_too_early_is_found(outage: Outage) -> None:
    assert outage.faults([*RIGHT, told(1.5, 503)], FRESH_S, True) == ["stopped: call was answered 503 after 1.5 s: b''"]


def test_when_a_busy_machine_began_to_refuse_is_not_judged(outage: Outage) -> None:
    assert outage.faults([*RIGHT, told(1.5, 503)], FRESH_S, False) == []
    assert outage.faults([told(7.5, 503)], FRESH_S, False) == ["stopped: no call was answered meanwhile"]


def test_a_call_that_was_admitted_too_late_is_found(outage: Outage) -> None:
    late = told(FRESH_S + NOTICED_S + 1, 200)
    assert outage.faults([*RIGHT, late], FRESH_S, True) == ["stopped: call was admitted after 8.0 s"]


def test_a_database_that_took_its_time_to_stop_was_not_away_before(outage: Outage) -> None:
    late = told(FRESH_S + NOTICED_S + 1, 200)
    outage.gone_at_s += 2
    assert outage.faults([*RIGHT, late], FRESH_S, True) == []


def test_an_outage_that_nobody_noticed_is_found(outage: Outage) -> None:
    assert outage.faults([told(1, 200)], FRESH_S, True) == ["stopped: no call was refused in the end"]
    assert outage.faults([told(7.5, 503)], FRESH_S, True) == ["stopped: no call was answered meanwhile"]


def test_an_outage_is_ridden_out_and_then_too_long() -> None:
    for away_s in (9, 12, 60):
        assert PULSE_S < outages.freshness_s(away_s) < away_s - NOTICED_S
