"""Values: what a limit with a balance for each customer takes up in memory, when a hundred thousand have called.

Each customer calls once, so each has something settled in the window that is open. With one worker the balances are
its own; with two, each has those of its callers, and has asked for a lease of each.
"""

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from penstock.testing.bench import gateways, processes
from penstock.testing.bench.load import Job
from penstock.testing.bench.run import Target, answering, run_job, upstream
from penstock.testing.bench.traffic import WORKLOADS, request

MANY, FEW = 100_000, 10_000
CONNECTIONS = 64
CALLS_AT_ONCE = 10_000
"""In one phase of the load generator, which may not take for ever."""
NUMBER = b"0000000"
FIRST_CALLS = 2_000
"""By one customer, before the memory is looked at for the first time: what every call takes up is not the values'."""


class Values(Struct, frozen=True):
    """`before_kib`, `after_kib`: the RSS of all workers, when `count` values more have been used between them."""

    contender: str
    count: int
    before_kib: int
    after_kib: int

    @property
    def bytes_each(self) -> float:
        return (self.after_kib - self.before_kib) * 1024 / self.count


def measure(count: int, folder: Path, tell: Callable[[str], None]) -> list[Values]:
    """Raises BenchFailed when a gateway does not start or answers wrongly."""
    found = []
    with upstream(folder) as upstream_port:
        for number, name in enumerate(gateways.PER_VALUE):
            with answering(gateways.make(name, folder / f"values-{number}", upstream_port)) as running:
                tell(f"{name}: before")
                target = running.target
                run_job(_job(target, FIRST_CALLS, 0, b""), target)
                before = processes.memory(target.pid, "worker")
                for first in range(0, count, CALLS_AT_ONCE):
                    tell(f"{name}: {first} of {count}")
                    run_job(_job(target, min(CALLS_AT_ONCE, count - first), first, NUMBER), target)
                after = processes.memory(target.pid, "worker")
                found.append(Values(name, count, before.rss_kib, after.rss_kib))
    return found


def _job(target: Target, calls: int, first: int, number: bytes) -> Job:
    """Opening the connections makes a call on each, with the numbers that the phase before it used last."""
    payload = request(WORKLOADS[0], "bench", target.key, f"customer=c{NUMBER.decode()}")
    return Job(target.port, payload, CONNECTIONS, calls, 0, number=number, first=max(0, first - CONNECTIONS))
