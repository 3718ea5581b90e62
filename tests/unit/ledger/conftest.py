"""A worker's ledger on a real journal, a committer on a real database, and events to tell them apart by."""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from penstock.domain.events import AttemptRecord, UsageEvent
from penstock.ledger.committer import Committer

NOW_NS = 1_795_200_000 * 1_000_000_000


class Clock:
    """Unix nanoseconds, moved by hand."""

    def __init__(self) -> None:
        self.now = NOW_NS

    def __call__(self) -> int:
        return self.now

    def pass_s(self, seconds: int) -> None:
        self.now += seconds * 1_000_000_000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def event() -> Callable[..., UsageEvent]:
    def make(name: str, cost_nanousd: int = 0, **fields: object) -> UsageEvent:
        attempt = AttemptRecord(1, "lab", "m", "lab/m", NOW_NS, NOW_NS, cost_nanousd=cost_nanousd)
        known = {"started_at": NOW_NS, "ended_at": NOW_NS, "cost_nanousd": cost_nanousd, "attempts": (attempt,)}
        return UsageEvent(event_id=f"evt_{name}", request_id=f"req_{name}", **{**known, **fields})  # type: ignore[arg-type]

    return make


@pytest.fixture
def engine(whole_ledger: Engine) -> Engine:
    return whole_ledger


@pytest.fixture
def events() -> list[UsageEvent]:
    """What the committer handed on."""
    return []


@pytest.fixture
async def committer(engine: Engine, tmp_path: Path, events: list[UsageEvent], clock: Clock) -> AsyncIterator[Committer]:
    def collect(_connection: Connection, batch: Sequence[UsageEvent]) -> None:
        events.extend(batch)

    committer = Committer(engine, tmp_path / "journals", collect, clock=clock)
    yield committer
    await committer.close()
