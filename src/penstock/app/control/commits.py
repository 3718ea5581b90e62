"""Commits: keeps the journals draining into the store, and tells metrics and log what was committed.

An error is logged, counted and shown in `/healthz`, and the drain is tried again with growing pauses: nothing is lost,
because the journals keep what the store has not taken.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

import structlog
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError

from penstock.domain.events import UsageEvent
from penstock.errors import StoreDown
from penstock.ledger.committer import Committer
from penstock.store.claim import reason

POLL_S = 0.25
STUCK_POLL_S = 1.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0

log = structlog.get_logger()


class Committed:
    """Hands on the events of a batch once its transaction is committed, and forgets those of one that is rolled back.

    `stage` runs inside the transaction, in the committer's thread; `on_committed` on the event loop.
    """

    def __init__(self, engine: Engine, on_committed: Callable[[Sequence[UsageEvent]], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_committed = on_committed
        self._staged: dict[Connection, list[UsageEvent]] = {}
        event.listen(engine, "commit", self._commit)
        event.listen(engine, "rollback", self._roll_back)

    def stage(self, connection: Connection, events: Sequence[UsageEvent]) -> None:
        self._staged.setdefault(connection, []).extend(events)

    def _commit(self, connection: Connection) -> None:
        if (events := self._staged.pop(connection, None)) is not None:
            self._loop.call_soon_threadsafe(self._on_committed, events)

    def _roll_back(self, connection: Connection) -> None:
        self._staged.pop(connection, None)


class Drain:
    """`failing_since`: Unix seconds of the first error of the present trouble, None while all is well."""

    def __init__(self, committer: Committer, on_error: Callable[[str], None]) -> None:
        self._committer = committer
        self._on_error = on_error
        self.failing_since: float | None = None

    async def now(self) -> int:
        """Everything that is in the journals at this moment is in the store when this returns: how many records moved.
        Raises what the store raises."""
        moved = await self._committer.drain()
        self.failing_since = None
        return moved

    async def keep(self) -> None:
        """Drains as long as it runs. Looks at the journals' sizes four times a second. A backlog that does not shrink
        (the torn last record of a worker that died) is looked into once a second only."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                moved = await self.now() if self._committer.backlog_bytes() else 0
                stuck = not moved and self._committer.backlog_bytes()
                pause_s = FIRST_PAUSE_S
                await asyncio.sleep(STUCK_POLL_S if stuck else POLL_S)
            except Exception as error:
                self.failing_since = self.failing_since or time.time()
                self._on_error("commit")
                foreseen = isinstance(error, OperationalError | StoreDown)
                log.log(
                    logging.WARNING if foreseen else logging.ERROR,
                    "the journals could not be committed; trying again",
                    reason=reason(error),
                    pause_s=pause_s,
                    exc_info=not foreseen,
                )
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
