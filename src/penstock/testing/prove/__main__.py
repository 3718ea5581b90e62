"""`python -m penstock.testing.prove money`: the proofs from the command line. Exit 0 (all hold), 1 or 2 (usage)."""

import argparse
import http.client
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from penstock.cli.output import console
from penstock.testing import oracles
from penstock.testing.prove import outages, report
from penstock.testing.prove.report import Report
from penstock.testing.prove.run import NAMES, OWN_POSTGRESQL, Plan, perform
from penstock.testing.prove.stage import Outcome, Tick

QUICK = Plan()
FULL = Plan(seeds=200, meters=20, cycles=200, leavings=500, times=10, away_s=60)
TOLD_EVERY_S = 10.0
"""How often progress is told where there is no terminal to show it on."""
MOST = {"boxes": 4, "workers": 8}
"""Of what is started on one machine; the database that is brought along has no more connections."""


def read_arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="penstock prove",
        description="Proves on a throwaway gateway that no limit is overspent and no spend is lost.",
        epilog="Example: penstock prove money --seeds 20 --report proof.md",
    )
    parser.add_argument("subject", choices=["money"])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a few minutes at most (the default)")
    size.add_argument("--full", action="store_true", help="200 seeds, 200 crashes, 500 disconnects")
    parser.add_argument("--seeds", type=int, metavar="N", help="rounds of the overspend")
    parser.add_argument("--cycles", type=int, metavar="N", help="crashes")
    parser.add_argument("--only", choices=NAMES, help="one scenario")
    parser.add_argument(
        "--store",
        default="sqlite",
        metavar="URL",
        help="`sqlite` (the default), `postgresql` (brings one along), or the URL of an empty database",
    )
    parser.add_argument("--boxes", type=int, metavar="N", help="that share the database (default: 2 on PostgreSQL)")
    parser.add_argument("--workers", type=int, metavar="N", help="of each box (default 2)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write it all to FILE: .json, else Markdown")
    arguments = parser.parse_args(words)
    for name in ("seeds", "cycles", "boxes", "workers"):
        given = getattr(arguments, name)
        if given is not None and given < 1:
            parser.error(f"--{name} must be at least 1")
        if given is not None and given > MOST.get(name, given):
            parser.error(f"--{name} must be at most {MOST[name]}")
    if (arguments.boxes or 1) > 1 and not _is_shared(arguments.store):
        parser.error("--boxes: several boxes share a PostgreSQL database; give --store postgresql")
    if arguments.only == outages.NAME and arguments.store != OWN_POSTGRESQL:
        parser.error(f"--only {outages.NAME}: stops its database, so it needs one of its own; give --store postgresql")
    if arguments.report and not arguments.report.absolute().parent.is_dir():
        parser.error(f"--report: there is no folder {arguments.report.parent}")
    return arguments


def _is_shared(store: str) -> bool:
    return store.startswith("postgresql")


def plan_of(arguments: argparse.Namespace, load: float) -> Plan:
    """Times are judged where the machine has nothing else to do."""
    size = FULL if arguments.full else QUICK
    names = tuple(name for name in NAMES if name != outages.NAME or arguments.store == OWN_POSTGRESQL)
    return Plan(
        seeds=arguments.seeds or size.seeds,
        meters=size.meters,
        cycles=arguments.cycles or size.cycles,
        leavings=size.leavings,
        times=size.times,
        away_s=size.away_s,
        judge_times=load < (os.cpu_count() or 1) / 2,
        only=(arguments.only,) if arguments.only else names,
        store=arguments.store,
        boxes=arguments.boxes or (2 if _is_shared(arguments.store) else 1),
        workers=arguments.workers or QUICK.workers,
    )


def measure(plan: Plan, notes: Console) -> list[Outcome]:
    """Performs the plan and shows on `notes` how far it is."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix="penstock-prove-") as folder,
        Progress(*columns, TextColumn("{task.fields[step]}", markup=False), console=notes) as progress,
    ):
        bars = {name: progress.add_task(name, total=plan.steps(name), start=False, step="") for name in plan.only}

        def tick_of(name: str) -> Tick:
            progress.start_task(bars[name])
            told_at_s = time.monotonic()

            def tick(step: str) -> None:
                nonlocal told_at_s
                progress.update(bars[name], advance=1, step=step)
                if not notes.is_terminal and time.monotonic() - told_at_s > TOLD_EVERY_S:
                    told_at_s = time.monotonic()
                    done = progress.tasks[bars[name]].completed
                    notes.print(f"{name} {done:.0f}/{plan.steps(name)}: {step}", markup=False, highlight=False)

            return tick

        return perform(plan, Path(folder), tick_of)


def main(words: list[str]) -> int:
    arguments = read_arguments(words)
    notes = Console(stderr=True)
    if not sys.platform.startswith("linux"):
        notes.print("penstock prove finds the gateway's processes in /proc and runs on Linux only")
        return 1
    # So that ending the proof also ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    load = os.getloadavg()[0]
    plan = plan_of(arguments, load)
    at, began_s = oracles.now(), time.monotonic()
    try:
        outcomes = measure(plan, notes)
    except (OSError, RuntimeError, http.client.HTTPException) as fault:
        # The gateway did not start, or did not come back.
        notes.print(f"penstock prove: {' '.join(str(fault).split())}", markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        notes.print("penstock prove: interrupted; everything it started was ended")
        return 1
    done = Report(at, time.monotonic() - began_s, load, plan, outcomes)
    report.show(done, console())
    if arguments.report:
        report.write(done, arguments.report)
        notes.print(f"written to {arguments.report}", markup=False, highlight=False)
    return 0 if done.holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
