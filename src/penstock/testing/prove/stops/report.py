"""The table of the stop proof, for the terminal, as Markdown and as JSON."""

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

from penstock.testing.prove.report import machine
from penstock.testing.prove.stops.scenarios import Row

COLUMNS = ("what", "n", "p50", "p99", "max", "bound", "verdict")


class Report(Struct, frozen=True):
    """A run that is over. `load`: the one-minute load average of the machine before it. `judge_times`: whether times
    are held against their bounds."""

    at: datetime
    seconds: float
    load: float
    judge_times: bool
    workers: int
    rows: Sequence[Row]

    @property
    def faults(self) -> list[str]:
        late = [fault for row in self.rows for fault in row.late] if self.judge_times else []
        return [*(f"{row.name}: {fault}" for row in self.rows for fault in row.faults), *late]

    @property
    def holds(self) -> bool:
        return not self.faults


def lines(report: Report) -> list[tuple[str, ...]]:
    """A line per row."""
    return [
        (
            row.name,
            f"{row.checked:,}",
            *(f"{row.figure(name):,.0f} ms" if row.times_ms else "" for name in ("p50", "p99", "max")),
            ", ".join(f"{name} {most:,.0f} ms" for name, most in row.bounds),
            _verdict(report, row),
        )
        for row in report.rows
    ]


def _verdict(report: Report, row: Row) -> str:
    if row.faults or (report.judge_times and row.late):
        return "FAILED"
    return "ok" if report.judge_times or not row.bounds else "not judged"


def show(report: Report, console: Console) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(COLUMNS[0])
    for column in COLUMNS[1:]:
        table.add_column(column, justify="right")
    for line in lines(report):
        table.add_row(*line)
    console.print(table)
    for fault in report.faults:
        console.print(f"FAILED {fault}", markup=False, highlight=False)
    console.print(_summary(report), markup=False, highlight=False)


def _summary(report: Report) -> str:
    verdict = "everything holds" if report.holds else "NOT everything holds"
    times = "times judged" if report.judge_times else f"times not judged: the load average was {report.load:.1f}"
    return f"{verdict}; 2 boxes of {report.workers} workers on PostgreSQL; {report.seconds:,.0f} s; {times}"


def write(report: Report, path: Path) -> None:
    """JSON for a name that ends in `.json`, else Markdown."""
    path.write_text(_json(report) if path.suffix == ".json" else _page(report))


def _json(report: Report) -> str:
    plain: dict[str, Any] = {
        **msgspec.to_builtins(report),
        "at": report.at.isoformat(timespec="seconds"),
        "holds": report.holds,
        "faults": report.faults,
        "penstock": version("penstock"),
        "machine": machine(),
    }
    return msgspec.json.format(msgspec.json.encode(plain)).decode() + "\n"


def _page(report: Report) -> str:
    rule = ("---", *("---:" for _ in COLUMNS[1:]))
    table = ["| " + " | ".join(line) + " |" for line in (COLUMNS, rule, *lines(report))]
    run = f"{report.at:%Y-%m-%d %H:%M} UTC, Penstock {version('penstock')}"
    faults = [f"* FAILED {fault}" for fault in report.faults]
    return "\n\n".join([f"{run}, {machine()}. {_summary(report).capitalize()}.", "\n".join(table), *faults]) + "\n"
