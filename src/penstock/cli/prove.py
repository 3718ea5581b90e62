"""`penstock prove`: the proofs that an operator can rerun, in a process of their own.

They belong to the testing kit, which stands above the CLI; so they are started, not imported.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

Scenario = Literal["overspend", "metered", "crashes", "disconnects", "network", "hostile", "clocks", "outages"]
StopScenario = Literal["kills", "push-dead", "partition", "revocations", "scopes", "streams", "glass", "restarts"]

app = typer.Typer(no_args_is_help=True, help="Proofs that an operator can rerun, on a throwaway gateway.")


@app.callback()
def prove() -> None:
    """Proofs that an operator can rerun, on a throwaway gateway."""


@app.command(epilog="Example: penstock prove money --seeds 20 --report proof.md")
def money(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A few minutes at most; this is the default.")] = False,
    full: Annotated[bool, typer.Option("--full", help="200 seeds, 200 crashes, 500 disconnects.")] = False,
    seeds: Annotated[int | None, typer.Option(min=1, help="Rounds of the overspend.")] = None,
    cycles: Annotated[int | None, typer.Option(min=1, help="Crashes.")] = None,
    only: Annotated[Scenario | None, typer.Option(help="One scenario alone.")] = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="URL", help="sqlite, postgresql (brings one along), or the URL of an empty database."),
    ] = None,
    boxes: Annotated[int | None, typer.Option(min=1, help="That share the database; 2 on PostgreSQL.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Of each box; 2 if not given.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it all: .json, else Markdown.")] = None,
) -> None:
    """Proves on throwaway boxes that no limit is overspent and no spend is lost: parallel calls, metered streams,
    kill -9, callers who hang up, broken networks, hostile usage reports, wrong clocks and a database that goes away,
    each judged by the same oracles."""
    if quick and full:
        raise typer.BadParameter("--quick and --full exclude each other")
    if report is not None and not report.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {report.parent}", param_hint="--report")
    words = [sys.executable, "-m", "penstock.testing.prove", "money"]
    words += [flag for flag, given in (("--quick", quick), ("--full", full)) if given]
    sizes = {"seeds": seeds, "cycles": cycles, "boxes": boxes, "workers": workers}
    for name, value in {**sizes, "only": only, "store": store, "report": report}.items():
        words += [f"--{name}", str(value)] if value is not None else []
    os.execv(sys.executable, words)  # noqa: S606 - the proof takes this process's place


@app.command(epilog="Example: penstock prove stop --report stop.md")
def stop(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A minute or two; this is the default.")] = False,
    full: Annotated[bool, typer.Option("--full", help="200 kills, 20 without push, 5 partitions.")] = False,
    only: Annotated[StopScenario | None, typer.Option(help="One scenario alone.")] = None,
    streams: Annotated[int | None, typer.Option(min=1, help="Live streams that are cut; 1,000 if not given.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Of each box; 1 if not given.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it all: .json, else Markdown.")] = None,
) -> None:
    """Measures on two throwaway boxes how long after a stop the last call is admitted: on the same box, on the other,
    without push, in a partition, by the break-glass file; and that nothing is admitted after a restart."""
    if quick and full:
        raise typer.BadParameter("--quick and --full exclude each other")
    if report is not None and not report.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {report.parent}", param_hint="--report")
    words = [sys.executable, "-m", "penstock.testing.prove.stops"]
    words += [flag for flag, given in (("--quick", quick), ("--full", full)) if given]
    for name, value in {"only": only, "streams": streams, "workers": workers, "report": report}.items():
        words += [f"--{name}", str(value)] if value is not None else []
    os.execv(sys.executable, words)  # noqa: S606 - the proof takes this process's place
