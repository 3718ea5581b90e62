"""Outages: the database is stopped, hangs, and fails over, under callers who go on.

It takes a PostgreSQL of its own, to which it may do that. Promise: calls go on while the database is away, for
`stop.freshness` and hardly longer; then they are refused as what they are; when it is back, calls are admitted again,
and everything that was spent meanwhile is in the ledger within 30 s.
"""

import http.client
import time
from typing import Any

from penstock.testing import oracles
from penstock.testing.bank import Bank
from penstock.testing.oracles import Told, Verdict, Watch
from penstock.testing.postgres import Postgres
from penstock.testing.prove.callers import CALLERS, Load
from penstock.testing.prove.stage import Outcome, Scene, Stage, Tick, Times
from penstock.testing.wire import eventually

NAME = "outages"
KINDS = ("stopped", "hung", "failed over")
NOTICED_S = 4.0
"""How much longer than `stop.freshness` a box may go on: it has to notice first that the database is away."""
PULSE_S = 1.0
"""How much earlier a worker may be refusing: it was told some time before the outage that all is well."""
PAUSE_S = 2.0
"""Before each outage, so that every worker meets it with what it has leased; and after the last. A box looks once a
second whether its own session on the database has survived, so it may work again and once more not."""
DRAINED_MS = 30_000
PATIENCE_S = 90.0


def scene() -> Scene:
    return Scene(NAME, Bank(delay_ms=5))


def freshness_s(away_s: float) -> int:
    """The `stop.freshness` with which an outage of this length is first ridden out, and then is too long."""
    return max(2, int((away_s - NOTICED_S) / 2))


def run(
    stage: Stage, server: Postgres, away_s: float, judge_times: bool, tick: Tick, *, callers: int = CALLERS
) -> Outcome:
    """`server`: the one of the stage's store. `away_s`: for how long it is stopped, and hangs."""
    began = oracles.now()
    faults: list[str] = []
    ready, drained = Times(), Times()
    outages: list[Outage] = []
    with Watch(stage.boxes) as watch, Load(stage, NAME, len(KINDS), callers) as load:
        for kind in KINDS:
            time.sleep(PAUSE_S)
            outage = Outage(stage, kind)
            outages.append(outage)
            outage.happen(server, away_s)
            try:
                ready.add(outage.until_ready_ms())
                drained.add(outage.until_drained_ms(load.told))
            except TimeoutError as fault:
                faults.append(f"{kind}: {fault}")
            tick(kind)
        time.sleep(PAUSE_S)
    _wait_for(stage)
    end = stage.judge_the_end(watch)
    books = stage.books(NAME, load.told, began)
    fresh_s = freshness_s(away_s)
    faults += [fault for outage in outages for fault in outage.faults(load.told, fresh_s, judge_times)]
    faults += _refusal_faults(load.told)
    if judge_times and drained.worst_ms > DRAINED_MS:
        faults.append(f"drained after {drained}")
    figures = {
        "answered while it was away": ", ".join(f"{each.kind} {each.count(load.told, 200)}" for each in outages),
        "refused while it was away": ", ".join(f"{each.kind} {each.count(load.told, 503)}" for each in outages),
        **books.totals(),
        "ready again, at worst": f"{ready}",
        "all of it in the ledger, at worst": f"{drained}",
    }
    verdicts = oracles.merged([oracles.ledger_equals_bank(books), *stage.judge(books), *end])
    return Outcome(NAME, len(load.told), verdicts, Verdict("promise", len(load.told), tuple(faults)), figures)


def _refusal_faults(told: list[Told]) -> list[str]:
    """Nobody is left without an answer, and who is refused is told why."""
    return [
        f"{one.call} was answered {one.status}: {one.refusal[:200]!r}"
        for one in told
        if one.status != 200 and not (one.status == 503 and b'"store_unavailable"' in one.refusal)
    ]


def _wait_for(stage: Stage) -> None:
    """Until every box admits calls, and does all that it should. Raises TimeoutError."""
    eventually(lambda: all(box.is_ready() and box.admin_is_up() for box in stage.boxes), PATIENCE_S, "ready")


class Outage:
    """One time that the database was away, at the latest from `gone_at_s` on, which is when it was stopped, having been
    told to at `away_at_s`, and to `back_at_s` (monotonic seconds)."""

    def __init__(self, stage: Stage, kind: str) -> None:
        self.kind = kind
        self.away_at_s = self.gone_at_s = self.back_at_s = 0.0
        self._stage = stage
        self._at = oracles.now()

    def happen(self, server: Postgres, away_s: float) -> None:
        self.away_at_s = time.monotonic()
        if self.kind == "stopped":
            server.stop()
            self.gone_at_s = time.monotonic()
            time.sleep(away_s)
            server.start()
        elif self.kind == "hung":
            server.freeze()
            self.gone_at_s = time.monotonic()
            time.sleep(away_s)
            server.thaw()
        else:
            server.kill()
            self.gone_at_s = time.monotonic()
            server.start()
        self.back_at_s = time.monotonic()

    def until_ready_ms(self) -> float:
        """Raises TimeoutError."""
        _wait_for(self._stage)
        return self._elapsed_ms()

    def until_drained_ms(self, told: list[Told]) -> float:
        """Until every call that began meanwhile, and that the bank has seen, has a receipt. Raises TimeoutError."""
        statement = {line.call for line in list(self._stage.scenes[NAME].bank.statement)}
        sent = statement & {one.call for one in self._during(told)}
        eventually(lambda: sent <= {event["tags"]["call"] for event in self._events()}, PATIENCE_S, "drained")
        return self._elapsed_ms()

    def faults(self, told: list[Told], fresh_s: float, judge_times: bool) -> list[str]:
        """Calls that were admitted too late; and such that were refused too early, where times are judged: on a busy
        machine the word that all is well comes late."""
        found = []
        for one in self._during(told):
            since_s, gone_s = one.began_s - self.away_at_s, one.began_s - self.gone_at_s
            if judge_times and since_s < fresh_s - PULSE_S and one.status != 200:
                said = f"{one.status} after {since_s:.1f} s: {one.refusal[:200]!r}"
                found.append(f"{self.kind}: {one.call} was answered {said}")
            if gone_s > fresh_s + NOTICED_S and one.status == 200:
                found.append(f"{self.kind}: {one.call} was admitted after {gone_s:.1f} s")
        if not self.count(told, 200):
            found.append(f"{self.kind}: no call was answered meanwhile")
        if self.back_at_s - self.gone_at_s > fresh_s + NOTICED_S and not self.count(told, 503):
            found.append(f"{self.kind}: no call was refused in the end")
        return found

    def count(self, told: list[Told], status: int) -> int:
        """How many calls that began meanwhile were answered so."""
        return sum(1 for one in self._during(told) if one.status == status)

    def _during(self, told: list[Told]) -> list[Told]:
        return [one for one in list(told) if self.away_at_s < one.began_s < self.back_at_s]

    def _events(self) -> list[dict[str, Any]]:
        try:
            return oracles.events_since(self._stage.boxes[0], NAME, self._at)
        except (OSError, RuntimeError, http.client.HTTPException):
            return []

    def _elapsed_ms(self) -> float:
        return (time.monotonic() - self.back_at_s) * 1_000
