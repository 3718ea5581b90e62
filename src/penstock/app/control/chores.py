"""What the control process does again and again beside its main work, and which of it is failing."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict

import structlog

from penstock.admission import key_uses
from penstock.app import break_glass
from penstock.app.control.activity import WRITE_S
from penstock.app.control.parts import Parts
from penstock.app.control.selfcheck import AFTER_START_S
from penstock.app.control.selfcheck import EVERY_S as SELF_CHECK_S
from penstock.app.control.signers import EVERY_S as SIGNERS_S
from penstock.control import break_glass as glass_log
from penstock.control import key_activity, replays, roll
from penstock.control.rotations import LOOK_S as ROTATIONS_S
from penstock.control.sign_in import TOLD_EVERY_S
from penstock.ledger.carrying import carry_forward
from penstock.records import retention

OUTSIDE_S = 60.0
PRUNE_S = 3600.0
RAISES_S = 1.0
GLASS_S = 1.0
PRICES_S = 1.0
CATALOGUE_S = 60.0
VAULT_S = 1.0
AGAIN_S = 5.0

log = structlog.get_logger()


class Chores:
    """`failing`: what failed last time -> since when, in Unix seconds."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._glass: break_glass.Glass | None = None
        self.failing: dict[str, float] = {}

    def begin(self, tell_sign_ins: Callable[[], Awaitable[None]]) -> list[asyncio.Task[None]]:
        """A task for each, which ends only when it is cancelled. `tell_sign_ins` tells of the failed ones."""
        parts = self._parts
        chores = (
            self._every(OUTSIDE_S, "outside", self._refresh_outside),
            self._every(RAISES_S, "raises", parts.door.end_raises),
            self._every(GLASS_S, "break_glass", self._look_at_glass, 0.0),
            self._every(PRICES_S, "prices", parts.door.begin_prices),
            self._every(CATALOGUE_S, "catalogue", self._keep_catalogue),
            self._every(VAULT_S, "vault", parts.vault.tend),
            self._every(ROTATIONS_S, "rotations", parts.rotations.look),
            self._every(TOLD_EVERY_S, "sign_ins", tell_sign_ins),
            self._every(PRUNE_S, "prune", self._prune),
            self._every(WRITE_S, "key_activity", self._note_activity),
            self._every(SIGNERS_S, "signers", parts.signers.look, 0.0),
            self._every(SELF_CHECK_S, "self_check", parts.self_check.run, AFTER_START_S),
        )
        return [asyncio.ensure_future(each) for each in chores]

    async def _every(
        self, interval_s: float, name: str, work: Callable[[], Awaitable[None]], first_s: float | None = None
    ) -> None:
        """Does `work` once per interval, for the first time after `first_s` (None: an interval). A failure is logged,
        counted and shown in `/healthz` until it works again, which is tried soon."""
        pause_s = interval_s if first_s is None else first_s
        while True:
            await asyncio.sleep(pause_s)
            pause_s = interval_s
            try:
                await work()
                self.failing.pop(name, None)
            except Exception:
                pause_s = min(interval_s, AGAIN_S)
                self.failing.setdefault(name, time.time())
                self._parts.metrics.failed(name)
                log.exception("a recurring task failed; it is tried again", task=name)

    async def _refresh_outside(self) -> None:
        for fault in await self._parts.configuration.look_again():
            log.warning("a secret could not be resolved again; the old one stays", reason=fault)
            self._parts.metrics.failed("outside")

    async def _keep_catalogue(self) -> None:
        """Loads it, where the start did without, so that no change has to wait for it; and keeps what it said for the
        next start."""
        prices = self._parts.prices
        if not prices.is_loaded:
            await asyncio.to_thread(prices.load)
            gc.freeze()
        await asyncio.to_thread(prices.keep)

    async def _look_at_glass(self) -> None:
        """Tells the audit log of the break-glass file, as soon as the store is there to be told."""
        found = break_glass.read(self._parts.options.data)
        if found == self._glass or not self._parts.claim.is_confirmed():
            return
        pulled = None if found.pulled is None else asdict(found.pulled)
        last = None if found.last is None else (asdict(found.last[0]), asdict(found.last[1]))
        if await self._parts.door.change(glass_log.ACTOR, glass_log.tell, self._parts.box.node, pulled, last):
            log.warning("the audit log was told of the break-glass file", pulled=pulled, last=last)
        self._glass = found

    async def _note_activity(self) -> None:
        self._parts.claim.require()
        await self._parts.activity.write()

    async def _prune(self) -> None:
        now = time.time_ns()
        async with self._parts.engine.begin() as conn:
            await key_activity.prune(conn)
        await retention.prune(self._parts.engine, now, self._parts.config.retention.usage_events_days)
        await carry_forward(self._parts.engine, now, self._parts.config.retention.ledger_entries_days)
        await key_uses.prune(self._parts.engine, now)
        await replays.prune(self._parts.engine, now)
        if self._parts.box.id:
            async with self._parts.engine.begin() as conn:
                await roll.prune(conn)
