"""`python -m penstock.testing.bench`: the benchmark from the command line. Exit 0, 1 (failed) or 2 (usage)."""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

import msgspec
from rich.console import Console

from penstock.testing.bench import admission, gateways, keys, report, values
from penstock.testing.bench.admission import Admitted
from penstock.testing.bench.report import Report
from penstock.testing.bench.run import BenchFailed, Plan, Results, Tell, measure
from penstock.testing.bench.traffic import WORKLOADS

PAGE = Path("docs/benchmarks.md")
LIMITS, ADMISSION, VALUES, KEYS = "limits", "admission", "values", "keys"
SHORTER = 6
"""How many rounds of the benchmark of limits make one of the others."""
PARTS = (*(workload.name for workload in WORKLOADS), LIMITS, VALUES, KEYS)


def read_arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="penstock bench",
        description="What the gateway costs per call, beside nginx as a bare reverse proxy in the same run.",
        epilog="Example: penstock bench --quick --only plain",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="how often everything is measured (default 7)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and calls: a first impression")
    parser.add_argument("--only", choices=PARTS, help="one workload, or what limits, their values or keys cost")
    parser.add_argument("--peers", action="store_true", help="other gateways too, where they are installed")
    parser.add_argument("--write", action="store_true", help=f"write the results to {PAGE}")
    arguments = parser.parse_args(words)
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    if arguments.write and not PAGE.parent.is_dir():
        parser.error(f"--write needs the folder {PAGE.parent}: run it from the project's root")
    return arguments


def plan_of(arguments: argparse.Namespace) -> Plan:
    workloads = tuple(w for w in WORKLOADS if arguments.only in (None, w.name))
    rounds = arguments.rounds or (3 if arguments.quick else 7)
    share, starts = (0.25, 1) if arguments.quick else (1.0, 3)
    return Plan(rounds, workloads, share, starts, arguments.peers)


def limits_plan_of(arguments: argparse.Namespace) -> Plan:
    """The plain call again, at gateways that differ in their limits alone. The difference is small beside what the
    machine's moods do to a whole call; so there are many short rounds, in which these cancel out."""
    plan = plan_of(arguments)
    return msgspec.structs.replace(
        plan,
        rounds=SHORTER * plan.rounds,
        share=plan.share / SHORTER,
        workloads=WORKLOADS[:1],
        starts=1,
        peers=False,
        contenders=(gateways.NGINX, *gateways.LIMITED),
    )


def perform(arguments: argparse.Namespace, folder: Path, tell: Tell) -> Report:
    """Everything that was asked for, one part after another. Raises BenchFailed."""

    def part(name: str) -> Path:
        (folder / name).mkdir()
        return folder / name

    only = arguments.only
    calls: Results | None = None
    limits: Results | None = None
    if only not in (LIMITS, VALUES, KEYS):
        calls = measure(plan_of(arguments), part("calls"), tell)
    admitted: list[Admitted] = []
    if only in (None, LIMITS):
        plan = limits_plan_of(arguments)
        limits = measure(plan, part(LIMITS), tell)
        admitted = admission.measure(plan.rounds, part(ADMISSION), tell)
    count = values.FEW if arguments.quick else values.MANY
    found = values.measure(count, part(VALUES), tell) if only in (None, VALUES) else []
    many = keys.FEW if arguments.quick else keys.MANY
    kept = keys.measure(many, part(KEYS), tell) if only in (None, KEYS) else None
    return Report(calls, limits, tuple(found), kept, tuple(admitted))


def main(words: list[str]) -> int:
    arguments = read_arguments(words)
    if not sys.platform.startswith("linux"):
        print("penstock bench reads CPU time from /proc and runs on Linux only", file=sys.stderr)  # noqa: T201
        return 1
    # So that ending the benchmark also ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    notes = Console(stderr=True)
    try:
        with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder, notes.status("starting") as status:
            done = perform(arguments, Path(folder), status.update)
    except BenchFailed as fault:
        notes.print(f"penstock bench: {fault}", markup=False)
        return 1
    except KeyboardInterrupt:
        notes.print("penstock bench: interrupted; everything it started was ended")
        return 1
    report.show(done, Console())
    if arguments.write:
        command = " ".join(["penstock bench", *words])
        PAGE.write_text(report.page(done, command))
        notes.print(f"written to {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
