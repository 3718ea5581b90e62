"""The report: samples become rows, rows become a table on the terminal and the page `docs/benchmarks.md`.

CPU time and throughput are medians over the rounds; a ratio is taken within each round and its median shown, with the
lowest and highest beside it. Latencies are percentiles over the calls of all rounds, minus the same percentile of the
upstream without a gateway.
"""

import platform
import statistics
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from msgspec import Struct
from rich.console import Console
from rich.table import Table

from penstock.testing.bench import gateways
from penstock.testing.bench.gateways import DIRECT, NGINX
from penstock.testing.bench.run import Footprint, Phase, Results, Sample
from penstock.testing.bench.traffic import Workload

CALL_COLUMNS = (
    "calls",
    "gateway",
    "CPU us/call",
    "x nginx",
    "steady CPU us/call",
    "x nginx",
    "added p50 ms",
    "added p99 ms",
    "first byte p50 ms",
    "first byte p99 ms",
    "calls/s",
)
ROLE_COLUMNS = ("calls", "gateway", "CPU us/call by process")
FOOTPRINT_COLUMNS = (
    "gateway",
    "ready ms",
    "first answer ms",
    "idle RSS MiB",
    "idle PSS MiB",
    "RSS MiB after",
    "PSS MiB after",
    "idle CPU ms/s",
)


class Latency(Struct, frozen=True):
    """Percentiles in milliseconds: of the whole answer, and of the first byte of its body."""

    whole_p50: float
    whole_p99: float
    first_p50: float
    first_p99: float


class Cpu(Struct, frozen=True):
    """`us`: microseconds per call, the median of the rounds. `ratios`: to nginx's in the same round; empty without
    nginx and for nginx."""

    us: float
    ratios: tuple[float, ...]


class Row(Struct, frozen=True):
    """One workload at one contender. `steady` and `calls_per_s` None: the workload's pace is given, not found."""

    workload: str
    contender: str
    busy: Cpu
    steady: Cpu | None
    added: Latency
    calls_per_s: float | None
    roles_us: dict[str, float]


def rows(results: Results) -> list[Row]:
    """In the order of the workloads, and within one of the contenders."""
    return [
        _row(results.samples, workload, footprint.contender)
        for workload in results.plan.workloads
        for footprint in results.footprints
    ]


def _row(samples: tuple[Sample, ...], workload: Workload, contender: str) -> Row:
    busy = _select(samples, workload, contender, "busy")
    steady = _select(samples, workload, contender, "steady")
    direct = _latency([s for s in samples if s.workload == workload.name and s.contender == DIRECT])
    own = _latency(steady or busy)
    roles = sorted({role for sample in busy for role in sample.cpu_ns})
    return Row(
        workload.title,
        contender,
        _cpu(busy, _select(samples, workload, NGINX, "busy")),
        _cpu(steady, _select(samples, workload, NGINX, "steady")) if steady else None,
        Latency(
            own.whole_p50 - direct.whole_p50,
            own.whole_p99 - direct.whole_p99,
            own.first_p50 - direct.first_p50,
            own.first_p99 - direct.first_p99,
        ),
        statistics.median(s.calls / s.elapsed_ns * 1e9 for s in busy) if steady else None,
        {role: statistics.median(s.cpu_ns.get(role, 0) / s.calls / 1000 for s in busy) for role in roles},
    )


def _select(samples: tuple[Sample, ...], workload: Workload, contender: str, phase: Phase) -> list[Sample]:
    return [s for s in samples if (s.workload, s.contender, s.phase) == (workload.name, contender, phase)]


def _cpu(own: list[Sample], floor: list[Sample]) -> Cpu:
    floor_us = {sample.round: _cpu_us(sample) for sample in floor if sample.contender != own[0].contender}
    ratios = tuple(_cpu_us(sample) / floor_us[sample.round] for sample in own if sample.round in floor_us)
    return Cpu(statistics.median(map(_cpu_us, own)), ratios)


def _cpu_us(sample: Sample) -> float:
    return sum(sample.cpu_ns.values()) / sample.calls / 1000


def _latency(samples: list[Sample]) -> Latency:
    whole = sorted(ns for sample in samples for ns in sample.whole_ns)
    first = sorted(ns for sample in samples for ns in sample.first_ns)
    return Latency(percentile(whole, 50), percentile(whole, 99), percentile(first, 50), percentile(first, 99))


def percentile(ascending_ns: list[int], percent: int) -> float:
    """The nearest-rank percentile, in milliseconds."""
    rank = -(-len(ascending_ns) * percent // 100)
    return ascending_ns[rank - 1] / 1e6


def call_cells(row: Row) -> tuple[str, ...]:
    return (
        row.workload,
        row.contender,
        *cpu_cells(row.busy),
        *(cpu_cells(row.steady) if row.steady else ("", "")),
        f"{row.added.whole_p50:.2f}",
        f"{row.added.whole_p99:.2f}",
        f"{row.added.first_p50:.2f}",
        f"{row.added.first_p99:.2f}",
        "" if row.calls_per_s is None else f"{row.calls_per_s:.0f}",
    )


def cpu_cells(cpu: Cpu) -> tuple[str, str]:
    if not cpu.ratios:
        return f"{cpu.us:.0f}", ""
    return f"{cpu.us:.0f}", f"{statistics.median(cpu.ratios):.2f} ({min(cpu.ratios):.2f}-{max(cpu.ratios):.2f})"


def role_cells(row: Row) -> tuple[str, ...]:
    parts = sorted(row.roles_us.items(), key=lambda item: -item[1])
    return row.workload, row.contender, ", ".join(f"{role} {us:.0f}" for role, us in parts)


def footprint_cells(footprint: Footprint) -> tuple[str, ...]:
    return (
        footprint.contender,
        f"{statistics.median(footprint.ready_ms):.0f}",
        f"{statistics.median(footprint.answered_ms):.0f}",
        f"{footprint.idle.rss_kib / 1024:.0f}",
        f"{footprint.idle.pss_kib / 1024:.0f}",
        f"{footprint.worked.rss_kib / 1024:.0f}",
        f"{footprint.worked.pss_kib / 1024:.0f}",
        f"{footprint.idle_cpu_ms:.1f}",
    )


def show(results: Results, console: Console) -> None:
    """Prints the tables."""
    found = rows(results)
    for title, columns, cells in (
        ("What a call costs", CALL_COLUMNS, [call_cells(row) for row in found]),
        ("Where the CPU time goes", ROLE_COLUMNS, [role_cells(row) for row in found]),
        ("At rest", FOOTPRINT_COLUMNS, [footprint_cells(footprint) for footprint in results.footprints]),
    ):
        table = Table(*columns, title=title, title_justify="left")
        for line in cells:
            table.add_row(*line)
        console.print(table)
    for sentence in remarks(results):
        console.print(sentence, markup=False)


def remarks(results: Results) -> list[str]:
    """What is missing from the comparison."""
    absent = [f"{name} is not installed on this machine and was left out." for name in results.missing]
    if NGINX in results.missing:
        absent.append("Without nginx there is no floor to compare with: the figures are absolute.")
    return absent


def page(results: Results, command: str) -> str:
    """The page of documentation, in Markdown."""
    found = rows(results)
    plan = results.plan
    sections = [
        "# Benchmarks",
        f"Written by `{command}` on {datetime.now(UTC):%Y-%m-%d}. {machine()}",
        _METHOD.format(rounds=plan.rounds),
        "## What a call costs",
        markdown(CALL_COLUMNS, [call_cells(row) for row in found]),
        "## Where the CPU time goes",
        markdown(ROLE_COLUMNS, [role_cells(row) for row in found]),
        "## At rest",
        f'Start-up is the median of {plan.starts}. "After" is after the whole run, {_calls(results)} calls.',
        markdown(FOOTPRINT_COLUMNS, [footprint_cells(footprint) for footprint in results.footprints]),
        *remarks(results),
    ]
    return "\n\n".join(sections) + "\n"


def _calls(results: Results) -> int:
    """That one contender answered in the counted rounds."""
    contender = results.footprints[0].contender
    return sum(sample.calls for sample in results.samples if sample.contender == contender)


def markdown(columns: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [columns, tuple("---" for _ in columns), *lines])


def machine() -> str:
    """One line on what this ran on, without the machine's name."""
    processors = [line.split(":", 1)[1].strip() for line in _proc("cpuinfo") if line.startswith("model name")]
    memory_kib = next(int(line.split()[1]) for line in _proc("meminfo") if line.startswith("MemTotal"))
    kernel = ".".join(platform.release().split(".")[:2])
    programs = [f"Python {platform.python_version()}", f"Penstock {version('penstock')}"]
    programs += [f"Granian {version('granian')}", *_nginx_version()]
    model = processors[0] if processors else platform.machine()
    cores = len(processors) or 1
    return f"{cores} cores of {model}, {memory_kib / 2**20:.0f} GiB, Linux {kernel}; {', '.join(programs)}."


def _proc(name: str) -> list[str]:
    return Path("/proc", name).read_text().splitlines()


def _nginx_version() -> list[str]:
    binary = gateways.find(NGINX)
    if binary is None:
        return []
    said = subprocess.run([binary, "-v"], capture_output=True, text=True, check=False)
    return [said.stderr.strip().rpartition(": ")[2].replace("/", " ")]


_METHOD = """\
All gateways run at the same time, with one worker each, in front of the same upstream; the upstream and the load
generator are processes of their own, on the same cores. A round gives every workload to every gateway, in an order that
turns around from round to round; there were {rounds} rounds after one to warm up. Every answer is checked.

- **nginx** is a bare reverse proxy: keep-alive on both sides, no buffering, no log. It is the floor.
- **penstock** has everything on: virtual key, four limits (dollars per month, tokens per day, requests per minute,
  concurrent calls), journal with its fsync, ledger, usage records, metrics and its log of exchanges.
- **CPU us/call** is user and system time of the gateway's whole process tree, as the kernel counts it, under
  saturation: 16 connections for plain calls, 32 for streams, each calling again as soon as it has its answer; 100 for
  paced streams. Work that is put off is waited for and counted. Median of the rounds.
- **x nginx** is that figure over nginx's in the same round: the median, and the lowest and highest of the rounds.
- **steady** is the same at one fixed rate for all, below saturation (1,000 plain calls or 100 streams a second). Work is
  done in smaller pieces, and waking up and what a process does at rest weigh more.
- **added** is what the gateway adds to the time of the whole answer, and **first byte** to that of the first byte of
  its body: the difference of percentiles to calls straight to the upstream, at the steady rate.
  A gateway that cannot keep up with that rate shows its queue here.
- **calls/s** is the throughput at saturation, which load generator and upstream share the cores for.
- **usage added and stripped**: the caller did not ask for usage, so Penstock asks for it and takes it out of the
  answer again; nginx passes a stream without usage.
- An upstream that does not pace its chunks gets them bunched together when a gateway reads slowly; one chunk at a time
  is the paced row."""
