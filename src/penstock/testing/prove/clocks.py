"""Clocks: those of the boxes are apart, and are set back and forward under callers who come all at once.

Each setting is a round as in `overspend`, on a balance of its own, and something happens to the clocks in the middle of
it. Limits of every kind of window count the calls as well. Promise: that of `overspend`, whatever the clocks say, and
that they are wrong indeed.
"""

import threading
import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from penstock.testing import oracles
from penstock.testing.bank import Bank
from penstock.testing.oracles import Books, Verdict, Watch
from penstock.testing.prove import overspend
from penstock.testing.prove.overspend import Contest
from penstock.testing.prove.stage import Outcome, Scene, Stage, Tick

NAME = "clocks"
STEP_AFTER = overspend.ROOM // 3
"""The clocks are changed when so many calls have reached the bank, while more are being admitted."""
WRONG_S = 10.0
"""By how much the time that calls are known by must be wrong at least."""
SETTLE_S = 0.05
"""After this time every process has seen what a clock was set to."""


class Setting(Struct, frozen=True):
    """`before` and `after`: how far the clock of each box in turn is before the right time, in seconds."""

    name: str
    before: tuple[float, ...]
    after: tuple[float, ...]
    kills: bool = False
    """Whether a worker is killed at that moment, so that another begins with what the clock says then."""


SETTINGS = (
    Setting("30 s apart", (15, -15), (15, -15)),
    Setting("one set back by 30 s", (0, 0), (-30, 0)),
    Setting("all set back by an hour", (0, 0), (-3_600, -3_600)),
    Setting("all set forward by an hour", (-3_600, -3_600), (0, 0)),
    Setting("changing places, 30 s apart", (30, 0), (0, 30)),
    Setting("one set back by 30 s, and a worker killed", (0, 0), (-30, 0), kills=True),
)


def scene() -> Scene:
    budget_usd = overspend.ROOM * overspend.WORST_NANOUSD / 1e9
    return Scene(NAME, Bank(delay_ms=100), budget_usd=budget_usd, each="tag:seed")


def run(stage: Stage, settings: Sequence[Setting], callers: int, judge_times: bool, tick: Tick) -> Outcome:
    """A round for each of `settings`. `stage`: one whose boxes have clocks of their own."""
    verdicts: list[Verdict] = []
    promises: list[Verdict] = []
    admitted: list[int] = []
    calls, wrong_s = 0, 0.0
    with Watch(stage.boxes) as watch:
        for number, setting in enumerate(settings, 1):
            round_ = Contest(stage, NAME, number)
            # By the clock of whichever box has served it, a call may have been made an hour ago.
            round_.began -= timedelta(hours=2)
            _set(stage, setting.before)
            is_over = threading.Event()
            stepping = threading.Thread(target=_step, args=(round_, setting, is_over))
            stepping.start()
            at_once = round_.all_at_once(callers)
            is_over.set()
            stepping.join()
            round_.spend_the_rest()
            books = round_.books()
            verdicts += [oracles.ledger_equals_bank(books), *stage.judge(books)]
            if setting.kills:
                promises.append(_promise_of_survivors(round_, books.settled_nanousd))
            else:
                admitted.append(at_once)
                promises.append(round_.promise(at_once, judge_times))
            wrong_s = max(_wrong_s(books), wrong_s)
            calls += len(round_.told)
            tick(setting.name)
    if wrong_s < WRONG_S:
        promises.append(Verdict("promise", 1, ("the clocks were right all the time",)))
    _set(stage, (0,))
    verdicts += stage.judge_the_end(watch)
    figures = {
        "settings": "; ".join(dict.fromkeys(setting.name for setting in settings)),
        "time of a call, furthest from the right one": f"{wrong_s:,.0f} s",
        "admitted at once, of room for 100": f"{min(admitted)} to {max(admitted)}",
        "overspend": f"{max(0, max(admitted) - overspend.ROOM) * overspend.WORST_NANOUSD} nano-USD",
    }
    return Outcome(NAME, calls, oracles.merged(verdicts), oracles.merged(promises)[0], figures)


def _step(round_: Contest, setting: Setting, is_over: threading.Event) -> None:
    while len(round_.statement()) < STEP_AFTER and not is_over.is_set():
        time.sleep(0.005)
    _set(round_.stage, setting.after)
    if setting.kills:
        round_.stage.boxes[0].kill("worker", 1)


def _set(stage: Stage, offsets_s: tuple[float, ...]) -> None:
    for number, clock in enumerate(stage.clocks):
        clock.set(offsets_s[number % len(offsets_s)])
    time.sleep(SETTLE_S)


def _wrong_s(books: Books) -> float:
    """How far the time of a call of this round is from the right one, at most."""
    right = oracles.now()
    return max(abs((right - datetime.fromisoformat(event["started_at"])).total_seconds()) for event in books.events)


def _promise_of_survivors(round_: Contest, settled_nanousd: int) -> Verdict:
    """Callers of a worker that was killed get no answer; what they have been charged is part of the limit."""
    most = overspend.ROOM * overspend.WORST_NANOUSD
    sent, faults = len(round_.statement()), []
    if sent > overspend.ROOM:
        faults.append(f"seed {round_.seed}: {sent} calls reached the bank")
    if settled_nanousd > most:
        faults.append(f"seed {round_.seed}: {settled_nanousd} is settled of {most}")
    return Verdict("promise", len(round_.told), tuple(faults))
