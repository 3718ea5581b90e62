"""`python -m penstock.testing.prove.stops`: the stop proof from the command line. Exit 0 (it holds), 1 or 2 (usage)."""

import argparse
import http.client
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from penstock.cli.output import console
from penstock.testing.prove.run import own_postgres
from penstock.testing.prove.stops import report, scenarios
from penstock.testing.prove.stops.report import Report
from penstock.testing.prove.stops.scenarios import Row, Tick
from penstock.testing.prove.stops.stage import Stage

Scenario = Callable[[Stage, int, Tick], list[Row]]
TOLD_EVERY_S = 10.0
FRESHNESS_S = 5
"""`stop.freshness` of the stage: the default of 45 s would only make the partition last longer."""
SCENARIOS: dict[str, tuple[Scenario, int, int]] = {
    "kills": (scenarios.kills, 30, 200),
    "push-dead": (scenarios.push_dead, 3, 20),
    "partition": (scenarios.partition, 1, 5),
    "revocations": (scenarios.revocations, 3, 30),
    "scopes": (scenarios.scopes, 1, 1),
    "streams": (scenarios.streams, 1_000, 1_000),
    "glass": (scenarios.glass, 1, 5),
    "restarts": (scenarios.restarts, 1, 1),
}
"""Name -> what it does, and how often in a quick and in a full run; of `streams`: how many."""


def read_arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="penstock prove stop",
        description="Measures on two throwaway boxes how long after a stop the last call is admitted.",
        epilog="Example: penstock prove stop --report stop.md",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a minute or two (the default)")
    size.add_argument("--full", action="store_true", help="200 kills, 20 without push, 5 partitions")
    parser.add_argument("--only", choices=list(SCENARIOS), help="one scenario")
    parser.add_argument("--streams", type=int, default=1_000, metavar="N", help="live streams that are cut (1000)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="of each box (default 1)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write it all to FILE: .json, else Markdown")
    arguments = parser.parse_args(words)
    if not 1 <= arguments.workers <= 8:
        parser.error("--workers must be 1 to 8")
    if not 1 <= arguments.streams <= 1_900:
        parser.error("--streams must be 1 to 1900: a box takes up to 2,000 calls at once")
    if arguments.report and not arguments.report.absolute().parent.is_dir():
        parser.error(f"--report: there is no folder {arguments.report.parent}")
    return arguments


def perform(stage: Stage, arguments: argparse.Namespace, tick: Tick) -> list[Row]:
    """The rows of the scenarios that are asked for, one after another on one stage."""
    rows: list[Row] = []
    for name, (scenario, quick, full) in SCENARIOS.items():
        if arguments.only in (None, name):
            times = full if arguments.full else quick
            times = arguments.streams if name == "streams" else times
            rows += performed(name, partial(scenario, stage, times, tick), stage)
    return rows


def performed(name: str, work: Callable[[], list[Row]], stage: Stage) -> list[Row]:
    """The rows of a scenario. One that cannot be brought to its end has failed, and the others go on."""
    try:
        return work()
    except (OSError, RuntimeError, http.client.HTTPException) as fault:
        stage.lift_all()
        return [Row(name, faults=[f"it was broken off: {' '.join(str(fault).split())}"])]


def teller(notes: Console, show: Tick) -> Tick:
    """Tells how far it is, also where there is no terminal to show it on."""
    told_at_s = time.monotonic()

    def tick(step: str) -> None:
        nonlocal told_at_s
        show(step)
        if not notes.is_terminal and time.monotonic() - told_at_s > TOLD_EVERY_S:
            told_at_s = time.monotonic()
            notes.print(step, markup=False, highlight=False)

    return tick


def main(words: list[str]) -> int:
    arguments = read_arguments(words)
    notes = Console(stderr=True)
    if not sys.platform.startswith("linux"):
        notes.print("penstock prove finds the gateway's processes in /proc and runs on Linux only")
        return 1
    # So that ending the proof also ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # A thousand streams are two thousand sockets here.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    load, at, began_s = os.getloadavg()[0], datetime.now(UTC), time.monotonic()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="penstock-prove-") as folder,
            notes.status("starting two boxes") as status,
            own_postgres() as server,
            Stage(Path(folder), server, arguments.workers, FRESHNESS_S) as stage,
        ):
            rows = perform(stage, arguments, teller(notes, status.update))
    except (OSError, RuntimeError, http.client.HTTPException) as fault:
        # A box did not start, or what was waited for did not come.
        notes.print(f"penstock prove: {' '.join(str(fault).split())}", markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        notes.print("penstock prove: interrupted; everything it started was ended")
        return 1
    quiet = load < (os.cpu_count() or 1) / 2
    done = Report(at, time.monotonic() - began_s, load, quiet, arguments.workers, rows)
    report.show(done, console())
    if arguments.report:
        report.write(done, arguments.report)
        notes.print(f"written to {arguments.report}", markup=False, highlight=False)
    return 0 if done.holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
