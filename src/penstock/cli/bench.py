"""`penstock bench`: the benchmark, in a process of its own.

The benchmark belongs to the testing kit, which stands above the CLI; so it is started, not imported.
"""

import os
import sys
from typing import Annotated

import typer


def bench(
    rounds: Annotated[int | None, typer.Option(min=1, help="How often everything is measured; 7 if not given.")] = None,
    only: Annotated[
        str | None,
        typer.Option(
            help="One part: plain, stream, stripped, translated, translated-stream, paced, limits, values or keys."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds and calls: a first impression.")] = False,
    peers: Annotated[bool, typer.Option("--peers", help="Other gateways too, where they are installed.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Write the results to docs/benchmarks.md.")] = False,
) -> None:
    """Measures what the gateway costs per call, beside nginx as a bare reverse proxy in the same run.

    Example: penstock bench --quick --only plain
    """
    words = [sys.executable, "-m", "penstock.testing.bench"]
    if rounds is not None:
        words += ["--rounds", str(rounds)]
    if only is not None:
        words += ["--only", only]
    words += [flag for flag, given in (("--quick", quick), ("--peers", peers), ("--write", write)) if given]
    os.execv(sys.executable, words)  # noqa: S606 - the benchmark takes this process's place
