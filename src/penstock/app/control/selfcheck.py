"""The self-check: the ledger verified soon after the start and every hour, while the gateway works.

It runs in a thread, with rests, and not longer than `WITHIN_S`; what a larger ledger holds beyond that is for
`penstock ledger verify`, which takes the time that it needs. Faults are logged, counted and kept until a check that
came to its end does not find them any more.
"""

import asyncio
import time
from typing import Any

import structlog
from sqlalchemy import Engine

from penstock.ledger import verify
from penstock.ledger.faults import Fault
from penstock.ledger.verify import Checked
from penstock.records.metrics import Metrics
from penstock.records.receipts import rfc3339

EVERY_S = 3600.0
AFTER_START_S = 60.0
"""It reads the whole ledger. A process that dies again and again does not begin with that, and one that has just come
back has what was left undone to see to."""
WITHIN_S = 60.0
MAX_LOGGED = 10
HISTORY = "journal_damaged"
"""A place that could not be read stays in the books for ever; it says nothing of how things are now."""

log = structlog.get_logger()


class SelfCheck:
    """`failing_since`: Unix seconds of the check that found the present faults first, None while there are none."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics
        self._last: Checked | None = None
        self._at = 0.0
        self._took_ms = 0
        self.failing_since: float | None = None

    async def run(self) -> None:
        """One check within its time."""
        await self._check(WITHIN_S)

    async def in_full(self) -> list[Fault]:
        """Every fault, however long it takes to find."""
        return (await self._check(None)).faults

    def shown(self) -> dict[str, Any]:
        """The last check: when, how long, whether it came to its end, and the first faults."""
        if self._last is None:
            return {"checked_at": None, "complete": False, "took_ms": 0, "fault_count": 0, "faults": []}
        faults = self._last.faults
        return {
            "checked_at": rfc3339(int(self._at * 1e9)),
            "complete": self._last.complete,
            "took_ms": self._took_ms,
            "fault_count": len(faults),
            "faults": [{"kind": fault.kind, "detail": fault.detail} for fault in faults[:MAX_LOGGED]],
        }

    async def _check(self, within_s: float | None) -> Checked:
        began = time.time()
        found = await asyncio.to_thread(verify.check, self._engine, within_s)
        self._took_ms = int((time.time() - began) * 1000)
        if not found.complete:
            # A check that did not come to its end acquits nobody.
            known = self._last.faults if self._last is not None else []
            found = Checked([*found.faults, *(fault for fault in known if fault not in found.faults)], complete=False)
            log.warning("the ledger is too large for the self-check; run penstock ledger verify", within_s=within_s)
        self._last, self._at = found, time.time()
        self._metrics.ledger_faults, self._metrics.ledger_checked_at_s = len(found.faults), self._at
        for fault in found.faults[:MAX_LOGGED]:
            log.error("the ledger disagrees with itself", kind=fault.kind, detail=fault.detail)
        present = any(fault.kind != HISTORY for fault in found.faults)
        self.failing_since = (self.failing_since or self._at) if present else None
        return found
