"""What administrators ask of the control process: the admin surface, wired, and what only the running process knows.

Nothing else of the process imports the admin surface.
"""

import asyncio
import os
import time
from dataclasses import asdict, replace
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from penstock import __version__
from penstock.app import break_glass
from penstock.app.control import balances
from penstock.app.control.chores import Chores
from penstock.app.control.files import PREVIOUS
from penstock.app.control.parts import Parts
from penstock.app.control.peers import Peers
from penstock.app.link import Adjusted
from penstock.config.environment import resolve_secret
from penstock.control import adjustments as corrections
from penstock.control import installation, replays
from penstock.control.actor import Actor
from penstock.control.adjustments import Correction
from penstock.control.exports import Exports
from penstock.control.replays import Request
from penstock.control.sign_in import SignIn
from penstock.control.write import Write
from penstock.errors import StoreDown
from penstock.ledger.adjustments import Adjustment
from penstock.ledger.committer import held_sums
from penstock.ledger.postings import held_records
from penstock.records.receipts import rfc3339
from penstock.store.claim import reason
from penstock.surfaces.admin import application
from penstock.surfaces.admin.entrance import Entrance, provider
from penstock.surfaces.admin.plane import Plane
from penstock.surfaces.ops import Operations

log = structlog.get_logger()


class Administration:
    """Made when the parts have agreed with the store."""

    def __init__(self, parts: Parts, peers: Peers, chores: Chores) -> None:
        self._parts = parts
        self._peers = peers
        self._chores = chores
        self.sign_in = SignIn(parts.door, parts.agreed.pepper)
        self._oidc = provider(parts.config.sign_in, parts.agreed.pepper)

    def application(self) -> Any:
        """The ASGI application of the admin listener."""
        plane = Plane(
            door=self._parts.door,
            configuration=self._parts.configuration,
            vault=self._parts.vault,
            admin_key=self._parts.secrets.admin_key,
            pepper=self._parts.agreed.pepper,
            exports=Exports(self._parts.door),
            entrance=Entrance(self.sign_in, self._parts.config.sign_in, self._oidc),
            rewrap=self._rewrap,
            drain=self._parts.drain_confirmed,
            ledger=self._ledger_rows,
            adjust=self._adjust,
            verify=self._verify,
            kill_nodes=self._kill_nodes,
            status=self._status,
        )
        token = self._parts.config.server.metrics_token
        secret = None if token is None else resolve_secret(token)
        return application.build(plane, Operations(self._parts.metrics, self._refresh_gauges, self._failures, secret))

    async def _rewrap(self, actor: Actor) -> dict[str, Any]:
        """Puts the store and every data key under the root secret of now, or whoever wraps now."""

        async def move(write: Write) -> None:
            await installation.move(write, self._parts.secrets.root, self._parts.agreed.pepper)

        done = await self._parts.vault.rewrap(actor, move)
        (self._parts.options.data / PREVIOUS).unlink(missing_ok=True)
        self._parts.agreed = replace(self._parts.agreed, is_current=True)
        log.info("the data keys of the vault are wrapped again", **done)
        return done

    async def _kill_nodes(self, generation: int) -> list[dict[str, Any]]:
        if self._peers.neighbours is not None:
            return await self._peers.neighbours.kill_nodes(generation)
        return self._peers.fleet.kill_status(generation)

    async def _ledger_rows(self) -> list[dict[str, Any]]:
        limits, now_s = self._parts.publisher.snapshot.limits, int(time.time())
        # One picture of all: between two, a call that settles would be seen held and then settled as well.
        async with self._parts.door.read() as conn:
            held = held_sums(await conn.run_sync(held_records))
            settled = await balances.settled_places(conn, limits, now_s)
            leased = await balances.leased_places(conn, limits, now_s)
        return balances.shown(limits, balances.Amounts(settled, held, leased), self._peers.fleet.held(), now_s)

    async def _adjust(self, actor: Actor, asked: Correction, again: Request | None = None) -> replays.Answer:
        """The adjustment as it is shown, once it is durable and every worker within reach was told."""

        async def run() -> replays.Answer:
            made: list[Adjustment] = []

            async def adjust(write: Write) -> dict[str, Any]:
                adjustment, shown = await corrections.adjust(write, asked)
                made.append(adjustment)
                return shown

            await self._parts.drain.now()
            answer = await self._parts.door.change(actor, replays.once, again, adjust)
            for each in made:
                self._peers.fleet.adjust(Adjusted(each.number, each.charge))
                log.info("a balance was adjusted", id=each.id, limit=asked.limit, amount=each.charge.amount)
            return answer

        # To the end even where the asker hangs up: what is durable is also told.
        return await asyncio.shield(asyncio.ensure_future(run()))

    async def _verify(self) -> list[dict[str, str]]:
        return [{"kind": fault.kind, "detail": fault.detail} for fault in await self._parts.self_check.in_full()]

    async def _refresh_gauges(self) -> None:
        """Without the store the gauges that come from it stay as they were: whoever scrapes needs the others."""
        self._parts.metrics.backlog_bytes = self._parts.committer.backlog_bytes()
        self._parts.metrics.credentials_due = self._parts.vault.due
        try:
            async with self._parts.door.read() as conn:
                ratios = await balances.settled_ratios(conn, self._parts.publisher.snapshot.limits, int(time.time()))
        except (SQLAlchemyError, StoreDown) as error:
            self._parts.metrics.failed("gauges")
            log.warning("the gauges of the limits are old: the store does not answer", reason=reason(error))
            return
        self._parts.metrics.settled_ratios(ratios)

    def _failures(self) -> dict[str, float]:
        since = {
            "commit": self._parts.drain.failing_since,
            "ledger": self._parts.self_check.failing_since,
            "store": None if self._parts.claim.is_confirmed() else time.time() - self._parts.claim.silent_s(),
        }
        return {**self._chores.failing, **{name: at for name, at in since.items() if at is not None}}

    def _status(self) -> dict[str, Any]:
        snapshot = self._parts.publisher.snapshot
        pulled = break_glass.read(self._parts.options.data).pulled
        return {
            "release": __version__,
            "node": self._parts.box.node,
            "pid": os.getpid(),
            "started_at": rfc3339(self._parts.started_at),
            "version": snapshot.version,
            "generation": snapshot.generation,
            "journal_backlog_bytes": self._parts.committer.backlog_bytes(),
            "failing_since": {name: rfc3339(int(since * 1e9)) for name, since in self._failures().items()},
            "config": {"path": str(self._parts.config.path), "digest": self._parts.config.digest},
            "listen": self._parts.config.server.listen,
            "listen_tls": self._parts.config.server.tls is not None,
            "freshness_ms": snapshot.server.freshness_ms,
            "break_glass": None if pulled is None else asdict(pulled),
            "ledger": self._parts.self_check.shown(),
            "credentials": self._credentials_shown(),
            "nodes": self._peers.fleet.status(),
            "boxes": self._peers.neighbours.shown() if self._peers.neighbours is not None else [],
        }

    def _credentials_shown(self) -> dict[str, Any]:
        """What is wrong with the credentials of providers."""
        providers = self._parts.publisher.snapshot.providers.values()
        return {
            "set_aside": self._peers.asides.shown(),
            "missing": sorted(it.name for it in providers if it.needs_credential and not it.credentials),
            "unopened": self._parts.vault.faults,
            "root_secret": "current" if self._parts.agreed.is_current else "previous",
            "overdue": self._parts.vault.overdue(),
            "unrotated": self._parts.rotations.faults,
        }
