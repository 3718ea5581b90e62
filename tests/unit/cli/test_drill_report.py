"""What a drill has seen is judged promise by promise, and the report says which one was broken."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.cli import drill_report
from penstock.cli.drill_report import Check, Stop
from penstock.cli.drill_traffic import Call, Party, Stream, _ending
from penstock.cli.output import CommandFailed

ACKNOWLEDGED = 100.0
NODE = {"node": "host/worker-0", "state": "confirmed", "confirmed_at": "2026-11-24T00:00:00Z", "streams_cut": 1}
STOP = Stop(7, ACKNOWLEDGED, ACKNOWLEDGED + 0.1, [NODE])


def _parties() -> tuple[Party, Party]:
    leaked, spared = Party("http://127.0.0.1:1", "m", "a"), Party("http://127.0.0.1:1", "m", "b")
    leaked.calls = [Call(99.9, 100.02, 200, ""), Call(100.03, 100.04, 403, "killed")]
    leaked.streams = [Stream(200, "", 99.0, 100.05, "killed")]
    spared.calls = [Call(99.9, 99.95, 200, ""), Call(101, 101.1, 200, "")]
    spared.streams = [Stream(200, "", 99.0, 102.0, "open")]
    return leaked, spared


def _broken(stop: Stop, leaked: Party, spared: Party) -> list[str]:
    return [check.check for check in drill_report.judged(stop, leaked, spared, 1.0) if not check.holds]


def test_a_stop_that_held_breaks_nothing() -> None:
    leaked, spared = _parties()
    checks = drill_report.judged(STOP, leaked, spared, 1.0)
    assert [check.check for check in checks if not check.holds] == []
    assert [check.measured for check in checks[:2]] == ["20 ms", "50 ms"]


def _admits_late(leaked: Party, spared: Party) -> None:
    leaked.calls.append(Call(99.99, 101.5, 200, ""))


def _admits_after_confirmation(leaked: Party, spared: Party) -> None:
    leaked.calls.append(Call(100.2, 100.3, 200, ""))


def _is_refused_otherwise(leaked: Party, spared: Party) -> None:
    leaked.calls.append(Call(100.2, 100.3, 429, "limit_held"))


def _streams_on(leaked: Party, spared: Party) -> None:
    leaked.streams[0].last_at, leaked.streams[0].ending = 101.9, "open"


def _ends_as_if_whole(leaked: Party, spared: Party) -> None:
    leaked.streams[0].ending = "whole"


def _refuses_another(leaked: Party, spared: Party) -> None:
    spared.calls.append(Call(100.2, 100.3, 403, "killed"))


def _cuts_another(leaked: Party, spared: Party) -> None:
    spared.streams[0].ending = "killed"


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (_admits_late, ["last admission with the leaked key"]),
        (_admits_after_confirmation, ["admitted after the confirmation"]),
        (_is_refused_otherwise, ["its refusals"]),
        (_streams_on, ["last byte of its last stream", "its streams end with the stop's error event"]),
        (_ends_as_if_whole, ["its streams end with the stop's error event"]),
        (_refuses_another, ["another key's calls that failed"]),
        (_cuts_another, ["another key's stream"]),
    ],
)
def test_each_broken_promise_is_named(harm: Callable[[Party, Party], None], found: list[str]) -> None:
    leaked, spared = _parties()
    harm(leaked, spared)
    assert _broken(STOP, leaked, spared) == found


def test_a_node_that_is_missing_and_a_hold_that_stays_are_named() -> None:
    pending = {**NODE, "state": "pending", "confirmed_at": None}
    unconfirmed = replace(STOP, confirmed=None, nodes=[pending])
    assert _broken(unconfirmed, *_parties()) == ["confirmed by every node", "admitted after the confirmation"]
    assert _broken(replace(STOP, nodes=[]), *_parties()) == ["confirmed by every node"]
    assert _broken(replace(STOP, held=2), *_parties()) == ["calls that the limit still counts"]


def test_the_report_says_what_failed_and_what_was_left_behind(tmp_path: Path) -> None:
    facts = dict.fromkeys(("began_at", "ended_at", "by", "release", "data_plane", "scenario"), "2026-11-24T00:00:00Z")
    checks = [Check("its refusals", "403 killed, nothing else", "1 429 a|b", False)]
    report = drill_report.as_json(facts, STOP, checks, ["teams/drill-1 is still there: no"])
    assert report["held"] is False
    text, data = drill_report.write(tmp_path, report)
    assert json.loads(data.read_text()) == report
    written = text.read_text()
    for part in ("DID NOT HOLD", "1 429 a\\|b", "host/worker-0", "teams/drill-1 is still there"):
        assert part in written
    assert drill_report.as_json(facts, STOP, [], ["a kill is still in force"])["held"] is False
    with pytest.raises(CommandFailed, match="cannot be written"):
        drill_report.write(tmp_path / "nowhere", report)


@pytest.mark.parametrize(
    ("tail", "ending"),
    [
        (b'data: {"a": 1}\n\ndata: {"error": {"code": "killed"}}\n\n', "killed"),
        (b'data: {"error": {"code": "overloaded"}}\n\n', "broken"),
        (b'data: {"error": {"code": "killed"}}\n\ndata: [DONE]\n\n', "whole"),
        (b'data: {"choices": []}\n\n', "broken"),
        (b"data: {", "broken"),
        (b"", "broken"),
    ],
)
def test_a_streams_end_is_told_by_its_last_event(tail: bytes, ending: str) -> None:
    assert _ending(tail) == ending
