"""Rounds of a proof: callers come again as they are told, and a contest is judged by who was admitted."""

from collections import deque
from pathlib import Path

import pytest

from penstock.testing.bank import Line
from penstock.testing.oracles import Told
from penstock.testing.prove import overspend, rounds
from penstock.testing.prove.overspend import ROOM, Contest
from penstock.testing.prove.stage import Size, Stage

HELD = b'{"error": {"code": "limit_held"}}'
SPENT = b'{"error": {"code": "insufficient_quota"}}'


class Scripted(Contest):
    """A contest whose calls are answered as it is written down: status and refusal."""

    def __init__(self, folder: Path, *answers: tuple[int, bytes]) -> None:
        super().__init__(Stage(folder, [overspend.scene()], Size()), overspend.NAME, 1)
        self.answers = deque(answers)

    async def call(self, max_tokens: int, stream: bool) -> Told:
        status, refusal = self.answers.popleft()
        told = Told(f"seed-1-{len(self.told)}", max_tokens, status, refusal=refusal)
        self.told.append(told)
        return told

    def sent(self, count: int) -> None:
        bank = self.stage.scenes[self.name].bank
        bank.statement = [Line(n, f"seed-1-{n}", self.name, False, 10) for n in range(count)]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "RETRY_AFTER_S", 0.0)


@pytest.mark.parametrize("end", [(200, b""), (429, SPENT)])
async def test_who_is_refused_comes_again_until_it_is_answered_or_nothing_is_left(
    hasty: None, tmp_path: Path, end: tuple[int, bytes]
) -> None:
    contest = Scripted(tmp_path, (429, HELD), (0, b""), (503, b"busy"), end, (200, b""))
    told = await contest.call_until_told(10, stream=False)
    assert (told.status, told.refusal) == end
    assert [each.status for each in contest.told] == [429, 0, 503, end[0]]


async def test_nobody_comes_again_for_ever(hasty: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "PATIENCE_S", -1.0)
    contest = Scripted(tmp_path, (429, HELD), (200, b""))
    assert (await contest.call_until_told(10, stream=False)).refusal == HELD


async def _contest(folder: Path, *refused: tuple[int, bytes]) -> Contest:
    """All the room is spent, and these were refused."""
    contest = Scripted(folder, *[(200, b"")] * ROOM, *refused)
    while contest.answers:
        await contest.call(10, stream=False)
    contest.sent(ROOM)
    return contest


async def test_a_contest_holds_when_the_room_was_spent_and_the_last_was_told_so(tmp_path: Path) -> None:
    contest = await _contest(tmp_path, (429, HELD), (429, SPENT))
    assert contest.promise(ROOM, True).holds
    assert contest.promise(ROOM - 1, True).holds
    assert contest.promise(ROOM - 2, False).holds


@pytest.mark.parametrize("judge_times", [True, False])
async def test_one_too_many_is_found_however_busy_the_machine_is(tmp_path: Path, judge_times: bool) -> None:
    contest = await _contest(tmp_path, (429, SPENT))
    assert contest.promise(ROOM + 1, judge_times).faults == ("seed 1: 101 were admitted at once",)
    contest.sent(ROOM + 1)
    assert contest.promise(ROOM, judge_times).faults == ("seed 1: 101 calls reached the bank",)


async def test_leases_that_came_back_too_late_are_found_where_times_are_judged(tmp_path: Path) -> None:
    contest = await _contest(tmp_path, (429, SPENT))
    assert contest.promise(ROOM - 2, True).faults == ("seed 1: 98 were admitted at once",)


async def test_another_refusal_and_a_last_one_that_is_told_nothing_are_found(tmp_path: Path) -> None:
    contest = await _contest(tmp_path, (503, b"busy"), (429, HELD))
    assert contest.promise(ROOM, False).faults == (
        "seed-1-100 was answered 503: b'busy'",
        "seed 1: the last caller was not told that the money is spent",
    )
