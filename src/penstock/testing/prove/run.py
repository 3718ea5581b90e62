"""A run: the scenarios of a plan, one after another, on one stage."""

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from penstock.testing.prove import crashes, disconnects, hostile, network, overspend
from penstock.testing.prove.stage import Outcome, Stage, Tick

SCENARIOS = (overspend, crashes, disconnects, network, hostile)
NAMES = tuple(scenario.NAME for scenario in SCENARIOS)


class Plan(Struct, frozen=True):
    """How much of each scenario. `seeds` and `callers` of the overspend, `cycles` of kills, `leavings` of callers who
    hang up, `times` that each fault and each hostile report is tried plain and streamed. `judge_times`: whether times
    are held against their bounds; they are measured in any case. `store`: as in the configuration file."""

    seeds: int = 5
    cycles: int = 6
    leavings: int = 50
    times: int = 1
    callers: int = overspend.CALLERS
    judge_times: bool = True
    only: tuple[str, ...] = NAMES
    store: str = "sqlite"

    def steps(self, name: str) -> int:
        """How often a scenario will say that a step is done."""
        return {
            overspend.NAME: self.seeds,
            crashes.NAME: self.cycles,
            disconnects.NAME: self.leavings,
            network.NAME: len(network.FAULTS),
            hostile.NAME: len(hostile.REPORTS) + 1,
        }[name]


def perform(plan: Plan, folder: Path, tick_of: Callable[[str], Tick]) -> list[Outcome]:
    """What every scenario showed. `tick_of` makes the progress of one. Raises RuntimeError when there is no gateway."""
    chosen = [scenario for scenario in SCENARIOS if scenario.NAME in plan.only]
    with Stage(folder / "gateway", [scenario.scene() for scenario in chosen], plan.store) as stage:
        return [_outcome(plan, stage, name, tick_of(name)) for name in (scenario.NAME for scenario in chosen)]


def _outcome(plan: Plan, stage: Stage, name: str, tick: Tick) -> Outcome:
    if name == overspend.NAME:
        return overspend.run(stage, range(1, plan.seeds + 1), plan.callers, tick)
    if name == crashes.NAME:
        return crashes.run(stage, plan.cycles, plan.judge_times, tick)
    if name == disconnects.NAME:
        return disconnects.run(stage, plan.leavings, plan.judge_times, tick)
    if name == network.NAME:
        return network.run(stage, plan.times, tick)
    return hostile.run(stage, plan.times, tick)
