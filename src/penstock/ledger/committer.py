"""The committer (signatures first; the body follows within the hour)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from sqlalchemy import Connection, Engine

from penstock.domain.events import UsageEvent
from penstock.domain.policy import Charge, Limit

OnEvents = Callable[[Connection, Sequence[UsageEvent]], None]
"""Called inside the batch's transaction, in the committer's own thread, with a *synchronous* connection."""


class Alert(Struct, frozen=True):
    """`settled` has crossed `fraction` of the limit's amount on one balance."""

    limit: Limit
    window_start: int
    value: str
    fraction: float
    settled: int


class Opened(Struct, frozen=True):
    epoch: int
    journal: str
    balances: tuple[Charge, ...]


class Watch(Struct, frozen=True):
    limits: Callable[[], Mapping[str, Limit]]
    on_alert: Callable[[Alert], None]


class Committer:
    """`engine` is `store.engine.committer_engine(url)`; `clock` gives Unix nanoseconds."""

    def __init__(self, engine: Engine, directory: Path, on_events: OnEvents, watch: Watch | None = None) -> None: ...

    async def drain(self) -> int: ...
    async def open_epoch(self) -> Opened: ...
    def live(self, epoch: int) -> bool: ...
    async def held(self) -> dict[tuple[str, int, str], int]: ...
    def backlog_bytes(self) -> int: ...
    async def close(self) -> None: ...
