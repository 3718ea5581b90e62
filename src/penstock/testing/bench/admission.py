"""Admission: what it costs a worker to say yes to one call, with no limit, with one and with twelve in force.

That is what stands before a call is sent: finding the limits that count it, holding its worst case on every one, and
writing the hold to the journal. The ledger is the worker's own, with a journal on the disk, in this process; nginx
takes plain calls right before each, since the speed of a shared machine changes within seconds. What comes after the
call (its settlement, and the commit of both by the control process) is not in it: that is the benchmark of limits, over
the whole process tree.
"""

import asyncio
import gc
import secrets
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from penstock.config.settings import DeclaredLimit
from penstock.control.limits import columns, domain_limit
from penstock.domain.events import AttemptRecord, UsageEvent
from penstock.domain.lease import Given, Granted, Want
from penstock.domain.money import NANO
from penstock.domain.policy import Limit
from penstock.ledger.journal import Journal, create
from penstock.ledger.ledger import Admission, Ask, Ledger
from penstock.testing.bench import gateways
from penstock.testing.bench.gateways import LIMITED, NGINX, Shape
from penstock.testing.bench.load import Job
from penstock.testing.bench.run import Target, answering, run_job, upstream
from penstock.testing.bench.traffic import WORKLOADS, request

CALLS, AT_ONCE = 4_000, 100
"""How many admissions make a round, and how many are under way before they are let go, which is not timed."""
LEASE = 10**18
DIMS = {
    "organisation": "default",
    "team": "growth",
    "project": "search",
    "environment": "production",
    "key": "bench",
    "model": "bench-plain",
    "provider": "lab",
}
"""A call of the benchmark as limits see it: every one of the twelve counts it."""
WORST = Ask(usd_nanousd=NANO // 100, input_tokens=130, output_tokens=180)


class Admitted(Struct, frozen=True):
    """`us`: CPU time of one admission, in microseconds; `ratios`: over nginx's for one plain call. Both by round."""

    contender: str
    us: tuple[float, ...]
    ratios: tuple[float, ...]


def measure(rounds: int, folder: Path, tell: Callable[[str], None]) -> list[Admitted]:
    """Empty where there is no nginx to compare with. Raises BenchFailed when that does not start."""
    if gateways.find(NGINX) is None:
        return []
    us: dict[str, list[float]] = {name: [] for name in LIMITED}
    ratios: dict[str, list[float]] = {name: [] for name in LIMITED}
    gc.freeze()  # as a worker does, see `penstock.app.worker`
    gc.set_threshold(50_000, 20, 20)
    with upstream(folder) as upstream_port, answering(gateways.make(NGINX, folder / NGINX, upstream_port)) as nginx:
        for number in range(rounds + 1):
            tell(f"admission: round {number} of {rounds}" if number else "admission: warming up")
            for name, shape in LIMITED.items():
                floor_us = _nginx_us(nginx.target)
                each_us = asyncio.run(_admission_us(shape, folder))
                if number:
                    us[name].append(each_us)
                    ratios[name].append(each_us / floor_us)
    return [Admitted(name, tuple(us[name]), tuple(ratios[name])) for name in LIMITED]


def _nginx_us(target: Target) -> float:
    plain = WORKLOADS[0]
    job = Job(target.port, request(plain, "bench", target.key), plain.connections, CALLS, 0)
    _, cpu_ns = run_job(job, target)
    return sum(cpu_ns.values()) / CALLS / 1_000


async def _admission_us(shape: Shape, folder: Path) -> float:
    journals = folder / secrets.token_hex(4)
    journals.mkdir()
    with closing(Journal(create(journals, 1))) as journal:
        return await _timed_us(_ledger(journal, leased=shape.workers > 1), limits_of(shape))


async def _timed_us(ledger: Ledger, table: dict[str, Limit]) -> float:
    await _admit(ledger, table, AT_ONCE)  # finds the lines, and leases what is spent from then on
    spent = 0.0
    for _ in range(CALLS // AT_ONCE):
        began = time.thread_time()
        admitted = await _admit(ledger, table, AT_ONCE)
        spent += time.thread_time() - began
        for admission in admitted:
            admission.void("bench", None)
    return spent / CALLS * 1e6


async def _admit(ledger: Ledger, table: dict[str, Limit], calls: int) -> list[Admission]:
    admitted = []
    for number in range(calls):
        limits = ledger.applying(table, DIMS)
        admission = await ledger.reserve(limits, DIMS, WORST, f"att_bench_{number}")
        admission.dispatch(_DRAFT)
        admitted.append(admission)
    return admitted


def limits_of(shape: Shape) -> dict[str, Limit]:
    """The limits of a configuration file, as a worker has them."""
    found = {}
    for number, declared in enumerate(shape.limits):
        row = columns(DeclaredLimit.model_validate({"name": f"limit-{number}", **declared}))
        limit = domain_limit({**row, "id": f"lim_{number:016x}", "origin": "file", "raises": []}, 0)
        found[limit.id] = limit
    return found


def _ledger(journal: Journal, *, leased: bool) -> Ledger:
    """A worker's; a leased one is granted whatever it asks for."""

    def say(number: int, wants: tuple[Want, ...], _given: tuple[Given, ...]) -> None:
        granted = [Granted(LEASE, 0, LEASE) for _ in wants]
        assert ledger.leases is not None
        asyncio.get_running_loop().call_soon(ledger.leases.answered, number, granted)

    ledger = Ledger(journal, time.time_ns, say if leased else None)
    return ledger


_DRAFT = UsageEvent(
    event_id=f"evt_{'0' * 22}",
    request_id=f"req_{'0' * 22}",
    started_at=0,
    ended_at=0,
    node="box/0",
    organisation="default",
    team="growth",
    project="search",
    environment="production",
    key="bench",
    surface="chat",
    alias="bench-plain",
    provider="lab",
    model="bench-plain",
    deployment="lab/bench-plain",
    cost_nanousd=NANO // 100,
    attempts=(AttemptRecord(1, "lab", "bench-plain", "lab/bench-plain", 0, 0),),
)
