"""The run: contenders started, loaded in interleaved rounds, and counted.

Every contender is up during the whole run, in front of one upstream. A round takes each workload in turn and gives it
to each contender, in an order that is turned around from round to round, so that whatever else the machine does falls
on all of them alike. The upstream alone (`direct`) is measured as well: what it answers without a gateway is what
latencies are compared with.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from penstock.errors import PenstockError
from penstock.testing.bench import gateways, processes
from penstock.testing.bench.gateways import DIRECT, Contender
from penstock.testing.bench.load import Job, Outcome
from penstock.testing.bench.processes import Launch, Memory
from penstock.testing.bench.traffic import CHUNKS, PACE_S, WORKLOADS, Workload, request

REST_S = 3.0
"""How long contenders are left alone to see what they use at rest."""

START_S = 90.0
"""The longest that a contender may take to become ready, and again to its first answer."""

Phase = Literal["busy", "steady"]


class BenchFailed(PenstockError):
    """A contender did not start, or answered wrongly: there is nothing to report."""


class Plan(Struct, frozen=True):
    """`rounds`: how often everything is measured. `share`: of each workload's calls that one round makes."""

    rounds: int
    workloads: tuple[Workload, ...] = WORKLOADS
    share: float = 1.0
    starts: int = 3
    peers: bool = False
    contenders: tuple[str, ...] = (gateways.NGINX, gateways.PENSTOCK)


class Target(Struct, frozen=True):
    """Where calls are sent. `pid`: the leader of the process tree that is counted, 0 for none. `rest_ms`: the CPU time
    that each of its roles takes in a second without calls."""

    name: str
    port: int
    key: str
    pid: int = 0
    rest_ms: dict[str, float] = {}


class Running(Struct, frozen=True):
    """A contender that answers. Times are from the start of its first process."""

    target: Target
    ready_ms: float
    answered_ms: float


class Sample(Struct, frozen=True):
    """One phase of one workload at one contender in one round. `cpu_ns`: by role, work it put off included; empty
    for the upstream alone."""

    contender: str
    workload: str
    phase: Phase
    round: int
    calls: int
    elapsed_ns: int
    cpu_ns: dict[str, int]
    whole_ns: tuple[int, ...]
    first_ns: tuple[int, ...]


class Footprint(Struct, frozen=True):
    """What a contender costs beside its calls. `rest_ms`: CPU time by role, per second without calls."""

    contender: str
    ready_ms: tuple[float, ...]
    answered_ms: tuple[float, ...]
    idle: Memory
    rest_ms: dict[str, float]
    worked: Memory


class Results(Struct, frozen=True):
    """`others_cores`: how much of the machine went to work that is none of the benchmark's, in cores."""

    plan: Plan
    samples: tuple[Sample, ...]
    footprints: tuple[Footprint, ...]
    others_cores: float
    missing: tuple[str, ...] = ()


Tell = Callable[[str], None]


def measure(plan: Plan, folder: Path, tell: Tell) -> Results:
    """Runs the whole plan in `folder`, which must be empty. `tell` hears what is being done.

    Raises BenchFailed when a contender does not start or answers wrongly.
    """
    names = [*plan.contenders, *(gateways.PEERS if plan.peers else ())]
    present = [name for name in names if gateways.find(name)]
    missing = tuple(name for name in names if name not in present)
    starts: dict[str, list[Running]] = {name: [] for name in present}
    with ExitStack() as stack:
        upstream_port = stack.enter_context(upstream(folder))
        for name in present:
            tell(f"start-up of {name}")
            for n in range(plan.starts - 1):
                contender = gateways.make(name, folder / f"{name}-start-{n}", upstream_port)
                with answering(contender) as running:
                    starts[name].append(running)
            contender = gateways.make(name, folder / name, upstream_port)
            starts[name].append(stack.enter_context(answering(contender)))
        tell("the contenders at rest")
        time.sleep(REST_S)
        targets = [_rested(runs[-1].target) for runs in starts.values()]
        idle = [processes.memory(target.pid) for target in targets]
        direct = Target(DIRECT, upstream_port, "pk-unused")
        began_s, began_ns = time.monotonic(), _others_ns()
        samples = tuple(_rounds(plan, [direct, *targets], tell))
        others_cores = (_others_ns() - began_ns) / 1e9 / (time.monotonic() - began_s)
        worked = [processes.memory(target.pid) for target in targets]
    footprints = tuple(
        Footprint(
            target.name,
            tuple(start.ready_ms for start in starts[target.name]),
            tuple(start.answered_ms for start in starts[target.name]),
            memory_idle,
            target.rest_ms,
            memory_worked,
        )
        for target, memory_idle, memory_worked in zip(targets, idle, worked, strict=True)
    )
    return Results(plan, samples, footprints, others_cores, missing)


def _others_ns() -> int:
    """What the machine spent outside of this process and all that it started."""
    return processes.machine_ns() - sum(processes.cpu_ns(os.getpid()).values())


@contextmanager
def answering(contender: Contender) -> Iterator[Running]:
    """The contender, started, ready and with one call answered; ended on leaving."""
    began_s = time.monotonic()
    with processes.started(contender.launch) as pid:
        ready = f"GET {contender.ready_path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n".encode()
        if contender.ready_path:
            _wait_for_200(contender, pid, ready)
        ready_ms = (time.monotonic() - began_s) * 1000
        _wait_for_200(contender, pid, request(WORKLOADS[0], "bench", contender.key))
        answered_ms = (time.monotonic() - began_s) * 1000
        target = Target(contender.name, contender.port, contender.key, pid)
        yield Running(target, ready_ms if contender.ready_path else answered_ms, answered_ms)


def _wait_for_200(contender: Contender, pid: int, message: bytes) -> None:
    end_s = time.monotonic() + START_S
    while not _answers_200(contender.port, message):
        if not processes.is_alive(pid) or time.monotonic() > end_s:
            raise BenchFailed(f"{contender.name} did not start: {_last_words(contender)}")
        time.sleep(0.005)


def _answers_200(port: int, message: bytes) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(message)
            return connection.recv(12) == b"HTTP/1.1 200"
    except OSError:
        return False


def _last_words(contender: Contender) -> str:
    lines = contender.launch.log.read_text(errors="replace").strip().splitlines()
    return " / ".join(lines[-5:]) or "it said nothing"


def _rested(target: Target) -> Target:
    """The target, which nobody calls, with what it uses meanwhile."""
    before_ns = processes.cpu_ns(target.pid)
    time.sleep(REST_S)
    after_ns = processes.cpu_ns(target.pid)
    rest_ms = {role: (ns - before_ns.get(role, 0)) / 1e6 / REST_S for role, ns in after_ns.items()}
    return msgspec.structs.replace(target, rest_ms=rest_ms)


def _rounds(plan: Plan, targets: list[Target], tell: Tell) -> Iterator[Sample]:
    """Round 0 warms everything up and is not kept. Peers make a quarter of the calls: they take their time."""
    for number in range(plan.rounds + 1):
        for workload in plan.workloads:
            tell(f"round {number} of {plan.rounds}: {workload.title}" if number else f"warming up: {workload.title}")
            share = plan.share if number else plan.share / 4
            for target in targets if number % 2 else reversed(targets):
                own_share = share / 4 if target.name in gateways.PEERS else share
                samples = list(_phases(workload, target, number, own_share))
                if number:
                    yield from samples


def _phases(workload: Workload, target: Target, number: int, share: float) -> Iterator[Sample]:
    for phase, job in _jobs(workload, target, share):
        outcome, cpu_ns = run_job(job, target)
        yield Sample(
            target.name,
            workload.name,
            phase,
            number,
            job.calls,
            outcome.elapsed_ns,
            cpu_ns,
            outcome.whole_ns,
            outcome.first_ns,
        )


def _jobs(workload: Workload, target: Target, share: float) -> Iterator[tuple[Phase, Job]]:
    """The upstream alone is not driven to saturation: only its latencies are wanted."""
    payload = request(workload, "bench", target.key)
    busy_calls = max(workload.connections, int(workload.busy_calls * share))
    busy = Job(target.port, payload, workload.connections, busy_calls, workload.events)
    if not workload.steady_rate:
        yield "steady", msgspec.structs.replace(busy, spread_s=PACE_S * CHUNKS)
        return
    if target.pid:
        yield "busy", busy
    steady_calls = max(1, int(workload.steady_calls * share))
    yield "steady", msgspec.structs.replace(busy, calls=steady_calls, rate=workload.steady_rate)


def run_job(job: Job, target: Target) -> tuple[Outcome, dict[str, int]]:
    """What the load generator saw, and the CPU time by role that the target used for it.

    The counting begins when the connections are open and the uncounted calls are settled, and ends when the target is
    at rest again, so that work it put off (its commits, its fsync) is in. What it uses at rest anyway is taken off for
    the time of that waiting, not for the time of the calls.
    """
    command = (sys.executable, "-m", "penstock.testing.bench.load")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as generator:
        assert generator.stdin is not None
        assert generator.stdout is not None
        try:
            generator.stdin.write(msgspec.json.encode(job) + b"\n")
            generator.stdin.flush()
            line = generator.stdout.readline()
            before_ns: dict[str, int] = {}
            if line == b"ready\n":
                _settle(target)
                before_ns = _cpu_ns(target)
                generator.stdin.write(b"go\n")
                generator.stdin.flush()
                line = generator.stdout.readline()
        except BaseException:
            generator.kill()
            raise
    outcome = msgspec.json.decode(line, type=Outcome)
    if outcome.fault:
        raise BenchFailed(f"{target.name} failed: {outcome.fault}")
    ended_s = time.monotonic()
    _settle(target)
    waited_s = time.monotonic() - ended_s
    used_ns = {role: ns - before_ns.get(role, 0) for role, ns in _cpu_ns(target).items()}
    return outcome, {role: ns - int(target.rest_ms.get(role, 0) * 1e6 * waited_s) for role, ns in used_ns.items()}


def _settle(target: Target) -> None:
    if target.pid:
        processes.settle(target.pid, sum(target.rest_ms.values()))


def _cpu_ns(target: Target) -> dict[str, int]:
    return processes.cpu_ns(target.pid) if target.pid else {}


@contextmanager
def upstream(folder: Path) -> Iterator[int]:
    """The port of the upstream, which runs until the end."""
    command = (sys.executable, "-m", "penstock.testing.bench.upstream")
    log = folder / "upstream.log"
    with processes.started(Launch(command, {"PATH": gateways.PATH}, folder, log)):
        end_s = time.monotonic() + START_S
        while not (said := log.read_text()).endswith("\n"):
            if time.monotonic() > end_s:
                raise BenchFailed("the benchmark's own upstream did not start")
            time.sleep(0.005)
        yield int(said)
