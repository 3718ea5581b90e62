"""Keys: what a hundred thousand of them take up in a worker, and how long a change of one stands in the way.

The control plane is the real one, over SQLite, in this process; what it publishes goes, as frames of the link, to what
a worker does with them, the first snapshot in a process of its own. What is told is CPU time, which other work on the
machine does not add to: how long one turn of an event loop takes at most, while nothing else is done.
"""

import asyncio
import gc
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.app.arrival import Arrival, Keys, parts, without_keys
from penstock.app.link import Changed, World, encode
from penstock.control import keys as verbs
from penstock.control import projects, teams
from penstock.control.door import Door
from penstock.control.publisher import Publisher, Sources
from penstock.domain.snapshot import Change, Deployment, Snapshot, applied
from penstock.store.engine import control_engine, database_url
from penstock.store.migrate import upgrade
from penstock.store.tables import control as tables

MANY, FEW = 100_000, 10_000
TEAMS, PROJECTS, USERS = 50, 500, 5_000
CHANGES = 200
ROWS_AT_ONCE = 2_000
_PROVENANCE = {"origin": "api", "created_at": 0, "created_by": "bench", "updated_at": 0}


class Kept(Struct, frozen=True):
    """`rss_kib`: what a worker grew by. `longest_turn_us`: of CPU time; of the control process and of a worker while
    one key after another is changed, and of a worker while the first snapshot comes."""

    count: int
    rss_kib: int
    control_us: float
    worker_us: float
    arrival_us: float


def measure(count: int, folder: Path, tell: Callable[[str], None]) -> Kept:
    return asyncio.run(_measure(count, folder, tell))


async def _measure(count: int, folder: Path, tell: Callable[[str], None]) -> Kept:
    engine = control_engine(database_url("sqlite", folder))
    await upgrade(engine)
    tell(f"keys: making {count}")
    publisher = Publisher(Sources(lambda _provider, model, _price, _cap: Deployment("", model), lambda _n, _u: ()))
    door = Door(engine, publisher)
    await door.load()
    await _fill(engine, door, count)
    tell("keys: the first snapshot")
    snapshot = await door.load()
    received = _received(snapshot, folder / "frames")
    tell(f"keys: {CHANGES} changes")
    gc.collect()
    gc.freeze()
    seen: list[Change] = []
    publisher.subscribe(seen.append)
    control_us = await _longest_turn_us(door)
    worker_us = max(_adopting_us(snapshot, seen))
    await engine.dispose()
    return Kept(count, received.rss_kib, control_us, worker_us, received.longest_us)


async def _fill(engine: AsyncEngine, door: Door, count: int) -> None:
    """Keys as a large company has them: of some teams and projects, most of them with a user and a list of models."""
    for number in range(TEAMS):
        await door.change("bench", teams.create, {"name": f"team-{number}"})
    for number in range(PROJECTS):
        fields = {"name": f"project-{number}", "team": f"team-{number % TEAMS}", "environment": "production"}
        await door.change("bench", projects.create, fields)
    async with engine.begin() as conn:
        await conn.execute(insert(tables.users), [{"name": _user(number), **_PROVENANCE} for number in range(USERS)])
        for first in range(0, count, ROWS_AT_ONCE):
            rows = [_row(number) for number in range(first, min(count, first + ROWS_AT_ONCE))]
            await conn.execute(insert(tables.keys), rows)


def _row(number: int) -> dict[str, object]:
    return {
        "id": f"key_{secrets.token_hex(16)}",
        "name": f"service-{number:06}-production",
        "digest": secrets.token_hex(32),
        "prefix": "pk-abcd",
        "team": f"team-{number % PROJECTS % TEAMS}",
        "project": f"project-{number % PROJECTS}",
        "user": _user(number),
        "models": ["gpt-4.1", "openai/*"] if number % 3 else [],
        "tags": {"feature": f"feature-{number % 20}"},
        **_PROVENANCE,
    }


def _user(number: int) -> str:
    return f"user-{number % USERS}@example.com"


async def _longest_turn_us(door: Door) -> float:
    """Of the event loop, in which the changes are the only other work."""
    longest, changing = 0.0, True
    await _change(door, CHANGES)  # what is done for the first time is prepared for all the others

    async def watch() -> None:
        nonlocal longest
        while changing:
            before = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - before)

    watching = asyncio.ensure_future(watch())
    for number in range(CHANGES):
        await _change(door, number)
    changing = False
    await watching
    return longest * 1e6


async def _change(door: Door, number: int) -> None:
    await door.change("bench", verbs.update, f"service-{number:06}-production", {"tags": {"feature": "another"}})


def _adopting_us(snapshot: Snapshot, changes: list[Change]) -> list[float]:
    """What each change costs a worker: from its frame to the snapshot that is in force then."""
    decoder, taken = msgspec.msgpack.Decoder(Changed), []
    for frame in [encode(Changed(change)) for change in changes]:
        before = time.thread_time()
        snapshot = applied(snapshot, decoder.decode(frame[4:]).change)
        taken.append((time.thread_time() - before) * 1e6)
    return taken


class Received(Struct, frozen=True):
    rss_kib: int
    longest_us: float


def _received(snapshot: Snapshot, path: Path) -> Received:
    """What a process takes up that imports what a worker does, and is sent this snapshot."""
    with path.open("wb") as file:
        file.write(encode(World(without_keys(snapshot))))
        for part in parts(snapshot):
            file.write(encode(part))
    done = subprocess.run([sys.executable, "-m", __name__, str(path)], capture_output=True, check=True)
    return msgspec.json.decode(done.stdout, type=Received)


def receive(path: Path) -> Received:
    """Takes in the frames of a file as a worker does."""
    before_kib, longest, decoder = _rss_kib(), 0.0, msgspec.msgpack.Decoder(World | Keys)
    arrival: Arrival | None = None
    whole: Snapshot | None = None
    with path.open("rb") as file:
        while size := int.from_bytes(file.read(4), "big"):
            frame = file.read(size)
            began = time.thread_time()
            message = decoder.decode(frame)
            if isinstance(message, World):
                arrival = Arrival(message.snapshot)
            elif arrival is not None:
                whole = arrival.add(message)
            longest = max(longest, time.thread_time() - began)
    assert whole is not None
    return Received(_rss_kib() - before_kib, longest * 1e6)


def _rss_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


if __name__ == "__main__":
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    sys.stdout.write(msgspec.json.encode(receive(Path(sys.argv[1]))).decode())
