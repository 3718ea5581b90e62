"""Crashes: kill -9 of a worker, a control process or a whole box, again and again, under callers who go on.

Promise: after every crash the box admits calls again (within 2 s of a process's death, or of the box being started
again), so does a new worker in the place of a dead one, and what was under way is in the ledger (5 s). When the admin
API is back, and all workers are, is measured and not judged.
"""

import http.client
import time
from datetime import timedelta
from typing import Any

from penstock.testing import oracles
from penstock.testing.bank import Bank
from penstock.testing.gateway import Gateway
from penstock.testing.oracles import Books, Verdict, Watch
from penstock.testing.prove.callers import Load
from penstock.testing.prove.stage import Outcome, Scene, Stage, Tick, Times, draws
from penstock.testing.wire import eventually

NAME = "crashes"
ROLES = ("worker", "control", "tree")
READY_MS, ORPHANS_MS = 2_000, 5_000
SLACK_S = 0.5
"""By how much a worker tells the beginning of a call later than its caller, as a rule."""
LOOK_S = 0.02
"""How exact the times are."""
PATIENCE_S = 45.0
"""How long a gateway may take before the scenario gives up on it, however busy the machine is."""


def scene() -> Scene:
    return Scene(NAME, Bank(delay_ms=3))


def run(stage: Stage, cycles: int, judge_times: bool, tick: Tick) -> Outcome:
    chance = draws(cycles)
    began = oracles.now()
    began_s = time.monotonic()
    faults: list[str] = []
    ready, whole, administered = ({role: Times() for role in ROLES} for _ in range(3))
    orphaned = Times()
    with Watch(stage.boxes) as watch, Load(stage, NAME, cycles) as load:
        for cycle in range(cycles):
            time.sleep(chance.uniform(0.2, 0.9))
            role = ROLES[cycle % len(ROLES)] if cycle < len(ROLES) else chance.choice(ROLES)
            crash = _Crash(stage, load, role, chance.choice(stage.boxes))
            try:
                ready[role].add(crash.until_ready_ms())
                whole[role].add(crash.until_whole_ms())
                administered[role].add(crash.until_administered_ms())
                orphaned.add(crash.until_resolved_ms())
            except (TimeoutError, RuntimeError) as fault:
                faults.append(f"cycle {cycle + 1}, {role}: {fault}")
            tick(f"cycle {cycle + 1}: {role} killed")
        time.sleep(0.3)
    seconds = time.monotonic() - began_s
    end = stage.judge_the_end(watch)
    books = stage.books(NAME, load.told, began)
    answered = sum(1 for told in books.told if told.complete)
    if answered < 20 * cycles:
        faults.append(f"there was hardly any load: {answered} answers in {cycles} cycles")
    faults += _request_faults(books)
    if judge_times:
        faults += [f"{role}: ready after {times}" for role, times in ready.items() if times.worst_ms > READY_MS]
        faults += [f"a new worker after {whole['worker']}"] if whole["worker"].worst_ms > READY_MS else []
        faults += [f"resolved after {orphaned}"] if orphaned.worst_ms > ORPHANS_MS else []
    figures = {
        "answered": f"{answered}, {answered / seconds:,.0f} a second, crashes included",
        "cut": str(len(books.statement) - answered),
        **books.totals(),
        "ready again, at worst": _by_role(ready),
        "with all workers again, at worst": _by_role(whole),
        "administered again, at worst": _by_role(administered),
        "resolved, at worst": f"{orphaned}",
    }
    verdicts = oracles.merged([oracles.ledger_equals_bank(books), *stage.judge(books), *end])
    return Outcome(NAME, len(books.statement), verdicts, Verdict("promise", cycles, tuple(faults)), figures)


def _by_role(times: dict[str, Times]) -> str:
    return ", ".join(f"{role} {times[role]}" for role in ROLES if times[role])


def _request_faults(books: Books) -> list[str]:
    """The limit on requests counts every call that the bank saw, and none that was not sent."""
    settled = sum(row["settled"] for row in books.limits if row["limit"] == f"requests-{NAME}")
    dispatched = sum(1 for event in books.events if event["attempts"])
    if len(books.statement) <= settled <= dispatched:
        return []
    return [f"{settled} requests are settled; {len(books.statement)} reached the bank, {dispatched} were dispatched"]


class _Crash:
    """One kill -9, and what is waited for after it. Times count from the kill or, for the tree, from its new start."""

    def __init__(self, stage: Stage, load: Load, role: str, box: Gateway) -> None:
        self._stage = stage
        self._role = role
        self._box = box
        self._at = oracles.now()
        self._under_way = load.under_way()
        oldest_s = max((time.monotonic() - told.began_s for told in self._under_way), default=0.0)
        self._oldest = self._at - timedelta(seconds=oldest_s + SLACK_S)
        self._killed: list[int] = []
        if role == "tree":
            box.kill_tree()
            self._at_s = time.monotonic()
            box.start(wait=False)
        else:
            self._at_s = time.monotonic()
            self._killed = box.kill(role, 1)
            if not self._killed:
                raise RuntimeError(f"there is no {role}")

    def until_ready_ms(self) -> float:
        """Raises TimeoutError."""
        eventually(self._box.admits, PATIENCE_S, "ready", LOOK_S)
        return self._elapsed_ms()

    def until_whole_ms(self) -> float:
        """Until every worker is there, and none of them is a dead one that is not missed yet. Raises TimeoutError, and
        RuntimeError when the gateway ended instead."""
        gone = set(self._killed)
        eventually(lambda: gone.isdisjoint(node["pid"] for node in self._box.nodes()), PATIENCE_S, "missed", LOOK_S)
        self._box.wait_until_ready(PATIENCE_S)
        return self._elapsed_ms()

    def until_administered_ms(self) -> float:
        """Raises TimeoutError."""
        eventually(self._box.admin_is_up, PATIENCE_S, "administered")
        return self._elapsed_ms()

    def until_resolved_ms(self) -> float:
        """Until every call that was under way, and that the bank has seen, has a receipt. Raises TimeoutError."""
        statement = self._stage.scenes[NAME].bank.statement
        under_way = {told.call for told in self._under_way}
        sent = {line.call for line in statement if line.call in under_way}
        deadline_s = time.monotonic() + PATIENCE_S
        slack_s = SLACK_S
        while sent - {event["tags"]["call"] for event in self._events(slack_s)}:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"not within {PATIENCE_S} s: every call that was cut has a receipt")
            time.sleep(0.1)
            slack_s = min(2 * slack_s, PATIENCE_S)
        return self._elapsed_ms()

    def _events(self, slack_s: float) -> list[dict[str, Any]]:
        """As the box that was hit tells them, since it is the one that has something to find out. Of those that began
        before the crash, or `slack_s` after it: a box that comes back has better to do than to list what the others
        have done meanwhile."""
        try:
            return oracles.events_between(self._box, NAME, self._oldest, self._at + timedelta(seconds=slack_s))
        except (OSError, RuntimeError, http.client.HTTPException):
            return []

    def _elapsed_ms(self) -> float:
        return (time.monotonic() - self._at_s) * 1_000
