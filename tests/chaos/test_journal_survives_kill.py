"""A worker that is killed at any moment: what its writes returned from is in the ledger, and nothing stays held."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection, text

from penstock.domain.events import UsageEvent
from penstock.domain.policy import Charge
from penstock.ledger.batch import decode_charges
from penstock.ledger.committer import Committer
from penstock.ledger.verify import verify
from penstock.store.engine import committer_engine, database_url
from penstock.store.tables import ledger as tables
from penstock.store.tables.control import limits
from penstock.store.tables.schema import metadata

CYCLES = 15
HOLD_NANOUSD, COST_NANOUSD = 100, 37

WORKER = """
import sys, time
from pathlib import Path
from penstock.domain.events import UsageEvent
from penstock.domain.policy import Limit
from penstock.domain.usage import Usage
from penstock.ledger import journal as journals
from penstock.ledger.journal import Journal
from penstock.ledger.ledger import Ask, Ledger
from penstock.testing.at_once import at_once

journals.PART_BYTES = 200_000
journal, cycle = Journal(Path(sys.argv[1])), sys.argv[2]
ledger = Ledger(journal, time.time_ns)
limits = [Limit("usd", "usd", "usd", 10**15), Limit("rpd", "rpd", "requests", 10**9, "month")]

def event(name, cost):
    now = time.time_ns()
    return UsageEvent(event_id=name, request_id=name, started_at=now, ended_at=now, cost_nanousd=cost)

def say(word, name):
    sys.stdout.write(f"{word} {name}\\n")
    sys.stdout.flush()

open_ones = []
for n in range(10**9):
    name = f"{cycle}-{n:07d}"
    say("begin", name)
    admission = at_once(ledger.reserve(limits, {}, Ask(100, 1, 1), name))
    admission.dispatch(event(name, 100))
    say("held", name)
    open_ones.append(admission)
    if len(open_ones) == 5:
        done = open_ones.pop(n % 5)
        say("end", done.attempt_id)
        done.post(done.owed(37, Usage()), "computed", event(done.attempt_id, 37))
        say("posted", done.attempt_id)
"""


def run_and_kill(journal: str, cycle: int, after_s: float) -> dict[str, set[str]]:
    """What the worker said before it was killed: attempts by word."""
    said: dict[str, set[str]] = {"begin": set(), "held": set(), "end": set(), "posted": set()}
    command = [sys.executable, "-c", WORKER, journal, str(cycle)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        lines = [worker.stdout.readline()]
        kill_at = time.monotonic() + after_s
        while time.monotonic() < kill_at:
            lines.append(worker.stdout.readline())
        worker.send_signal(signal.SIGKILL)
        lines += worker.stdout.readlines()
    for line in lines:
        word, _, name = line.rstrip("\n").partition(" ")
        # The last line may be cut; a word that is not whole says nothing.
        if line.endswith("\n"):
            said[word].add(name)
    return said


async def drain_for_a_while(committer: Committer, done: asyncio.Event) -> None:
    while not done.is_set():
        await committer.drain()
        await asyncio.sleep(0.02)


async def test_fifteen_kills_lose_nothing_and_leave_nothing_held(tmp_path: Path) -> None:
    engine = committer_engine(database_url("sqlite", tmp_path))
    ledger = [tables.entries, tables.carried, tables.balances, tables.shares, tables.open_holds, tables.journals]
    metadata.create_all(engine, tables=[*ledger, tables.leases, tables.lease_requests, limits])
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE seen (event_id TEXT PRIMARY KEY)")

    def record(connection: Connection, events: Sequence[UsageEvent]) -> None:
        connection.exec_driver_sql("INSERT INTO seen VALUES (?)", [(event.event_id,) for event in events])

    committer = Committer(engine, tmp_path / "journals", record)
    held: set[str] = set()
    posted: set[str] = set()
    begun: set[str] = set()
    ended: set[str] = set()
    balances: Sequence[Charge] = ()
    chance = random.Random(7)
    for cycle in range(CYCLES):
        opened = await committer.open_epoch()
        done = asyncio.Event()
        draining = asyncio.create_task(drain_for_a_while(committer, done))
        said = await asyncio.to_thread(run_and_kill, opened.journal, cycle, chance.uniform(0, 0.3))
        done.set()
        await draining
        held |= said["held"]
        posted |= said["posted"]
        begun |= said["begin"]
        ended |= said["end"]
    balances = (await committer.open_epoch()).balances

    with engine.begin() as connection:
        entries = {
            (row[0], row[1]): (row[2], tuple(decode_charges(row[3])))
            for row in connection.execute(text("SELECT attempt_id, step, kind, charges FROM entries"))
        }
        seen = {row[0] for row in connection.execute(text("SELECT event_id FROM seen"))}
    assert len(posted) > 100
    for attempt in posted:
        assert entries[(attempt, 1)][0] == "post"
    resolved = {attempt: kind for (attempt, step), (kind, _) in entries.items() if step == 1}
    on_record = {attempt for attempt, step in entries if step == 0}
    assert held <= on_record <= begun
    assert set(resolved) == on_record == seen
    assert {attempt for attempt, kind in resolved.items() if kind == "post"} <= ended
    assert all(resolved[attempt] == "estimate" for attempt in held - ended)
    estimates = sum(kind == "estimate" for kind in resolved.values())
    assert estimates <= CYCLES * 5
    spent = (len(resolved) - estimates) * COST_NANOUSD + estimates * HOLD_NANOUSD
    assert {(charge.limit, charge.amount) for charge in balances} == {("usd", spent), ("rpd", len(resolved))}
    assert await committer.held() == {}
    assert await verify(engine) == []
    await committer.close()
    engine.dispose()
