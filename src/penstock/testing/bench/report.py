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
from penstock.testing.bench.admission import Admitted
from penstock.testing.bench.gateways import DIRECT, LIMITED, NGINX
from penstock.testing.bench.keys import Kept
from penstock.testing.bench.run import Footprint, Phase, Results, Sample
from penstock.testing.bench.traffic import Workload
from penstock.testing.bench.values import Values

BUSY_COLUMNS = ("calls", "gateway", "CPU us", "x nginx", "calls/s")
STEADY_COLUMNS = ("calls", "gateway", "CPU us", "x nginx", "added p50/99", "first p50/99")
ROLE_COLUMNS = ("calls", "gateway", "CPU us by process")
FOOTPRINT_COLUMNS = ("gateway", "idle RSS", "idle PSS", "RSS after", "PSS after", "ready ms", "answer ms")
REST_COLUMNS = ("gateway", "CPU ms per second at rest, by process")
ADMISSION_COLUMNS = ("limits", "CPU us of one admission", "x nginx")
LIMIT_COLUMNS = ("limits", "load", "CPU us", "x nginx", "more than with no limit, x nginx")
KEY_COLUMNS = (
    "keys",
    "a worker grows by",
    "longest turn of the control process, changing one key",
    "of a worker",
    "of a worker that takes in all",
)
VALUE_COLUMNS = ("limit", "values used", "RSS of all workers before", "after", "bytes per value")


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
    """One workload at one contender. `busy`: at saturation, with the calls per second; None for a workload that has a
    pace of its own. `roles_us`: the steady CPU time by process."""

    workload: str
    contender: str
    busy: tuple[Cpu, float] | None
    steady: Cpu
    added: Latency
    roles_us: dict[str, float]


class Sheet(Struct, frozen=True):
    """A table, on the terminal or on the page."""

    title: str
    columns: tuple[str, ...]
    lines: list[tuple[str, ...]]


class Report(Struct, frozen=True):
    """What was measured; a part that was not asked for is missing. `limits`: at gateways that differ in these alone."""

    calls: Results | None
    limits: Results | None = None
    values: tuple[Values, ...] = ()
    keys: Kept | None = None
    admitted: tuple[Admitted, ...] = ()

    @property
    def parts(self) -> list[Results]:
        return [part for part in (self.calls, self.limits) if part is not None]


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
    own = _latency(steady)
    calls_per_s = statistics.median(s.calls / s.elapsed_ns * 1e9 for s in busy) if busy else 0.0
    roles = sorted({role for sample in steady for role in sample.cpu_ns})
    return Row(
        workload.name,
        contender,
        (_cpu(busy, _select(samples, workload, NGINX, "busy")), calls_per_s) if busy else None,
        _cpu(steady, _select(samples, workload, NGINX, "steady")),
        Latency(
            own.whole_p50 - direct.whole_p50,
            own.whole_p99 - direct.whole_p99,
            own.first_p50 - direct.first_p50,
            own.first_p99 - direct.first_p99,
        ),
        {role: statistics.median(s.cpu_ns.get(role, 0) / s.calls / 1000 for s in steady) for role in roles},
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


def busy_cells(row: Row) -> tuple[str, ...]:
    if row.busy is None:
        return ()
    cpu, calls_per_s = row.busy
    return row.workload, row.contender, *cpu_cells(cpu), f"{calls_per_s:.0f}"


def steady_cells(row: Row) -> tuple[str, ...]:
    whole = f"{row.added.whole_p50:.2f} / {row.added.whole_p99:.2f}"
    first = f"{row.added.first_p50:.2f} / {row.added.first_p99:.2f}"
    return row.workload, row.contender, *cpu_cells(row.steady), whole, first


def cpu_cells(cpu: Cpu) -> tuple[str, str]:
    if not cpu.ratios:
        return f"{cpu.us:.0f}", ""
    return f"{cpu.us:.0f}", f"{statistics.median(cpu.ratios):.1f} ({min(cpu.ratios):.1f}-{max(cpu.ratios):.1f})"


def role_cells(row: Row) -> tuple[str, ...]:
    return row.workload, row.contender, shares(row.roles_us)


def rest_cells(footprint: Footprint) -> tuple[str, ...]:
    return footprint.contender, shares(footprint.rest_ms)


def shares(by_role: dict[str, float]) -> str:
    """`worker 230.0, control 57.1`: the largest first."""
    return ", ".join(f"{role} {figure:.1f}" for role, figure in sorted(by_role.items(), key=lambda item: -item[1]))


def footprint_cells(footprint: Footprint) -> tuple[str, ...]:
    sizes = (footprint.idle.rss_kib, footprint.idle.pss_kib, footprint.worked.rss_kib, footprint.worked.pss_kib)
    return (
        footprint.contender,
        *(f"{kib / 1024:.0f} MiB" for kib in sizes),
        f"{statistics.median(footprint.ready_ms):.0f}",
        f"{statistics.median(footprint.answered_ms):.0f}",
    )


def limit_cells(results: Results, contender: str, phase: Phase) -> tuple[str, ...]:
    """`more`: what the limits cost, as the difference to the gateway with as many workers and no limit, in each round;
    in units of what nginx takes for the same call: the median, and the quartiles."""
    (workload,) = results.plan.workloads
    own = _select(results.samples, workload, contender, phase)
    floor = _select(results.samples, workload, NGINX, phase)
    cells = contender, phase, *cpu_cells(_cpu(own, floor))
    kind, _, workers = contender.partition(", ")
    if kind == "no limit":
        return (*cells, "")
    none_us = {s.round: _cpu_us(s) for s in _select(results.samples, workload, f"no limit, {workers}", phase)}
    floor_us = {s.round: _cpu_us(s) for s in floor}
    more = [(_cpu_us(s) - none_us[s.round]) / floor_us[s.round] for s in own if s.round in floor_us]
    if len(more) < 2:
        return (*cells, "")
    lower, middle, upper = statistics.quantiles(more, n=4)
    return (*cells, f"{middle:.2f} ({lower:.2f} to {upper:.2f})")


def admission_cells(admitted: Admitted) -> tuple[str, ...]:
    ratios = admitted.ratios
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
    return admitted.contender, f"{statistics.median(admitted.us):.1f}", spread


def value_cells(values: Values) -> tuple[str, ...]:
    before, after = (f"{kib / 1024:.0f} MiB" for kib in (values.before_kib, values.after_kib))
    return values.contender, f"{values.count:,}", before, after, f"{values.bytes_each:,.0f}"


def sheets(report: Report) -> list[Sheet]:
    """Every table that there is something in."""
    found = tables(report.calls) if report.calls is not None else []
    if report.limits is not None:
        phases: tuple[Phase, ...] = ("steady", "busy")
        lines = [limit_cells(report.limits, name, phase) for phase in phases for name in LIMITED]
        found.append(Sheet("What limits cost a plain call", LIMIT_COLUMNS, lines))
    if report.admitted:
        lines = [admission_cells(one) for one in report.admitted]
        found.append(Sheet("What limits cost the admission of a call", ADMISSION_COLUMNS, lines))
    if report.values:
        lines = [value_cells(one) for one in report.values]
        found.append(Sheet("What the values of a limit take up", VALUE_COLUMNS, lines))
    if report.keys is not None:
        found.append(Sheet("What keys take up, and what a change of one costs", KEY_COLUMNS, [key_cells(report.keys)]))
    return [sheet for sheet in found if sheet.lines]


def key_cells(kept: Kept) -> tuple[str, ...]:
    turns = (kept.control_us, kept.worker_us, kept.arrival_us)
    return f"{kept.count:,}", f"{kept.rss_kib / 1024:.0f} MiB", *(f"{us / 1000:.2f} ms" for us in turns)


def tables(results: Results) -> list[Sheet]:
    found = rows(results)
    footprints = results.footprints
    return [
        Sheet("At a steady rate", STEADY_COLUMNS, [steady_cells(row) for row in found]),
        Sheet("At saturation", BUSY_COLUMNS, [cells for row in found if (cells := busy_cells(row))]),
        Sheet("Where the CPU time goes at a steady rate", ROLE_COLUMNS, [role_cells(row) for row in found]),
        Sheet("Memory and start-up", FOOTPRINT_COLUMNS, [footprint_cells(footprint) for footprint in footprints]),
        Sheet("At rest", REST_COLUMNS, [rest_cells(footprint) for footprint in footprints]),
    ]


def show(report: Report, console: Console) -> None:
    """Prints the tables."""
    for sheet in sheets(report):
        table = Table(*sheet.columns, title=sheet.title, title_justify="left")
        for line in sheet.lines:
            table.add_row(*line)
        console.print(table)
    for sentence in remarks(report):
        console.print(sentence, markup=False)


def remarks(report: Report) -> list[str]:
    """What else a reader should know: how quiet the machine was, and what is missing from the comparison."""
    others_cores = max((part.others_cores for part in report.parts), default=0.0)
    missing = {name: None for part in report.parts for name in part.missing}
    said = [f"Other work on the machine took {max(0.0, others_cores):.1f} cores meanwhile."] if report.parts else []
    said += [f"{name} is not installed on this machine and was left out." for name in missing]
    if NGINX in missing:
        said.append("Without nginx there is no floor to compare with: the figures are absolute.")
    return said


def page(report: Report, command: str) -> str:
    """The page of documentation, in Markdown."""
    workloads = "\n".join(f"- **{name}**: {title}" for name, title in _workloads(report).items())
    rounds = max((part.plan.rounds for part in report.parts), default=0)
    starts = max((part.plan.starts for part in report.parts), default=0)
    sections = [
        "# Benchmarks",
        f"Written by `{command}` on {datetime.now(UTC):%Y-%m-%d}.\n{machine()}",
        "\n".join(remarks(report)),
        workloads,
        *(f"## {sheet.title}\n\n{markdown(sheet)}" for sheet in sheets(report)),
        "## How it is measured",
        _METHOD.format(rounds=rounds, starts=starts, calls=_calls(report.calls)),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _workloads(report: Report) -> dict[str, str]:
    return {workload.name: workload.title for part in report.parts for workload in part.plan.workloads}


def _calls(results: Results | None) -> int:
    """That one contender answered in the counted rounds."""
    if results is None:
        return 0
    contender = results.footprints[0].contender
    return sum(sample.calls for sample in results.samples if sample.contender == contender)


def markdown(sheet: Sheet) -> str:
    lines = [sheet.columns, tuple("---" for _ in sheet.columns), *sheet.lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def machine() -> str:
    """One line on what this ran on, without the machine's name."""
    processors = [line.split(":", 1)[1].strip() for line in _proc("cpuinfo") if line.startswith("model name")]
    memory_kib = next(int(line.split()[1]) for line in _proc("meminfo") if line.startswith("MemTotal"))
    kernel = ".".join(platform.release().split(".")[:2])
    programs = [f"Python {platform.python_version()}", f"Penstock {version('penstock')}"]
    programs += [f"uvloop {version('uvloop')}", *_nginx_version()]
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
All gateways of a table are up at the same time, with one worker each (but for those that say otherwise), in front of
the same upstream; the upstream and the load
generator are processes of their own, on the same cores. A round gives every workload to every gateway, in an order that
turns around from round to round; there were {rounds} rounds after one to warm up. Every answer is checked.

- **nginx** is a bare reverse proxy: keep-alive on both sides, no buffering, no log. It is the floor.
- **penstock** has everything on: virtual key, four limits (dollars per month, tokens per day, requests per minute,
  concurrent calls), journal with its fsync, ledger, usage records, metrics and its log of exchanges.
- **What keys take up** is not measured on running gateways: the control plane's own code works over a database full of
  keys, and a process of its own takes in its frames. A turn is what an event loop does at a time; told
  is its CPU time, the longest of 200 changes of one key each, and of all parts of the first snapshot.
- **At a steady rate** every gateway gets the same load, below saturation: 1,000 plain calls or 100 streams a second, or
  100 paced streams at a time.
- **At saturation** 16 connections (32 for streams) call again as soon as they have their answer, so a faster gateway
  gets more calls and does them in larger pieces. **calls/s** is on cores that load generator and upstream share.
- **CPU us** is user and system time per call, in microseconds, of the gateway's whole process tree as the kernel counts
  it. Work that is put off is waited for and counted. Median of the rounds.
- **x nginx** is that figure over nginx's in the same round: the median, and the lowest and highest of the rounds.
- **added** is the difference of percentiles, in milliseconds, to calls straight to the upstream: of the whole answer,
  and (**first**) of the first byte of its body. A gateway that cannot keep up with the rate shows its queue here.
- **translated**: the caller speaks OpenAI's chat completions and the provider Anthropic's messages, so each request and
  each event is translated; nginx passes chat completions.
- **stripped**: the caller did not ask for usage, so Penstock asks for it and takes it out of the answer again; nginx
  passes a stream without usage.
- An upstream that does not pace its chunks gets them bunched together when a gateway reads slowly; one chunk at a time
  is the paced row.
- **Limits**: the same gateway with no limit, with one and with twelve, all strict, of all units, of fixed and sliding
  windows from a second to for ever, by seven dimensions; every call is counted by each, and none is ever near. With one
  worker it holds the whole of each; with two, each lives from leases. **More than with no limit** is the difference to
  the same gateway without limits in the same round, over what nginx takes for the call: the median and the quartiles
  of six times as many rounds, each a sixth as long.
- **Admission**: what stands before a call is sent, alone: its limits found, its worst case held on each, the hold
  written to the journal, by a worker's ledger in the benchmark's own process; over what nginx takes for a whole plain
  call in the same round: the median, and the lowest and highest of the rounds.
- **Values**: a limit in dollars per day for each customer; every value was used by one call. With two workers a value's
  balance is at the one that was called, with the lease it asked for.
- Memory is of the whole tree: RSS counts shared pages once per process, PSS once in all. "After": after {calls} calls.
  Start-up is the median of {starts}, from exec to readiness and to the first answered call."""
