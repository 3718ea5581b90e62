"""The report: a table scenario x oracle for the terminal, and the same with all figures as Markdown or JSON."""

import os
import platform
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from penstock.testing.oracles import SHOWN_FAULTS, Verdict
from penstock.testing.prove.run import NAMES, Plan
from penstock.testing.prove.stage import Outcome

ORACLES = {
    "O1": "ledger = bank to the nano-dollar for every answered call; others are in the ledger too, at most their hold",
    "O2": "settled + held + leased within the limit, at every sampled instant",
    "O3": "nothing is entered twice",
    "O4": "every answer that a caller saw complete is settled",
    "O5": "after quiet, nothing is held",
    "O6": "the gateway is healthy, and no secret is in any output",
    "promise": "the scenario's own",
}
COLUMNS = ("scenario", "calls", *ORACLES)


class Report(Struct, frozen=True):
    """A run that is over. `load`: the one-minute load average of the machine before it."""

    at: datetime
    seconds: float
    load: float
    plan: Plan
    outcomes: Sequence[Outcome]

    @property
    def holds(self) -> bool:
        return all(outcome.holds for outcome in self.outcomes)


def lines(report: Report) -> list[tuple[str, ...]]:
    """A line per scenario: its name, its calls, and for each oracle whether it held and how much was looked at."""
    return [
        (outcome.scenario, str(outcome.calls), *(_cell(_verdict(outcome, name)) for name in ORACLES))
        for outcome in report.outcomes
    ]


def _verdict(outcome: Outcome, oracle: str) -> Verdict:
    return next(one for one in (*outcome.verdicts, outcome.promise) if one.oracle == oracle)


def _cell(verdict: Verdict) -> str:
    if verdict.holds and not verdict.checked:
        return "-"
    return f"ok {verdict.checked}" if verdict.holds else f"FAILED {len(verdict.faults)}"


def _faults(outcome: Outcome) -> list[str]:
    found = [f"{one.oracle}: {fault}" for one in (*outcome.verdicts, outcome.promise) for fault in one.faults]
    more = len(found) - SHOWN_FAULTS
    return [*found[:SHOWN_FAULTS], f"and {more} more"] if more > 0 else found


def show(report: Report, console: Console) -> None:
    """The table, then the figures and faults of each scenario."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(COLUMNS[0], no_wrap=True, min_width=max(map(len, NAMES)))
    for column in COLUMNS[1:]:
        table.add_column(column, justify="right")
    for line in lines(report):
        table.add_row(*line)
    console.print(table)
    for outcome in report.outcomes:
        for name, text in outcome.figures.items():
            console.print(f"{outcome.scenario}: {name}: {text}", markup=False, highlight=False)
        for fault in _faults(outcome):
            console.print(f"{outcome.scenario} FAILED {fault}", markup=False, highlight=False)
    console.print(_summary(report), markup=False, highlight=False)


def _summary(report: Report) -> str:
    verdict = "everything holds" if report.holds else "NOT everything holds"
    times = "times judged" if report.plan.judge_times else f"times not judged: the load average was {report.load:.1f}"
    return f"{verdict}; {gateway(report.plan)}; {report.seconds:,.0f} s; {times}"


def write(report: Report, path: Path) -> None:
    """JSON for a name that ends in `.json`, else Markdown."""
    path.write_text(json_of(report) if path.suffix == ".json" else page(report))


def json_of(report: Report) -> str:
    plain: dict[str, Any] = {
        "at": report.at.isoformat(timespec="seconds"),
        "holds": report.holds,
        "seconds": round(report.seconds, 1),
        "load_average": round(report.load, 2),
        "penstock": version("penstock"),
        "machine": machine(),
        "plan": msgspec.to_builtins(report.plan) | {"store": store_kind(report.plan)},
        "scenarios": [msgspec.to_builtins(outcome) | {"holds": outcome.holds} for outcome in report.outcomes],
    }
    return msgspec.json.format(msgspec.json.encode(plain)).decode() + "\n"


def store_kind(plan: Plan) -> str:
    """`sqlite`, `postgresql`: the address may hold a password."""
    return plan.store.partition(":")[0]


def gateway(plan: Plan) -> str:
    """`store postgresql, boxes 2, workers of each 2`."""
    return f"store {store_kind(plan)}, boxes {plan.boxes}, workers of each {plan.workers}"


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def page(report: Report) -> str:
    """The run as Markdown."""
    rule = ("---", *("---:" for _ in COLUMNS[1:]))
    rows = ["| " + " | ".join(line) + " |" for line in (COLUMNS, rule, *lines(report))]
    run = f"{report.at:%Y-%m-%d %H:%M} UTC, Penstock {version('penstock')}"
    parts = [
        f"{run}, {machine()}. {_summary(report).capitalize()}.",
        "\n".join(rows),
        "\n".join(f"* **{o.scenario}**, {name}: {text}" for o in report.outcomes for name, text in o.figures.items()),
    ]
    faults = [f"* **{outcome.scenario}** FAILED {fault}" for outcome in report.outcomes for fault in _faults(outcome)]
    return "\n\n".join([*parts, *(["\n".join(faults)] if faults else [])]) + "\n"
