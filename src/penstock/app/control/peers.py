"""Who the control process talks to: the workers of its box, over their link, and the other boxes, over the database.

What workers ask is answered here, and what is news on one side is told to the other.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Mapping

import msgspec
import structlog

from penstock.app import box
from penstock.app.control.asides import Asides
from penstock.app.control.crowds import Crowds
from penstock.app.control.exchanges import Exchanges
from penstock.app.control.fleet import Answers, Fleet
from penstock.app.control.follower import Follower
from penstock.app.control.kept import KeptThings
from penstock.app.control.key_uses import KeyUses
from penstock.app.control.neighbours import Neighbours
from penstock.app.control.parts import Parts
from penstock.app.link import Adjusted, CredentialHeard, LeaseRequest, Welcome
from penstock.control import lost
from penstock.control.changes import Aside, News
from penstock.domain.lease import Granted, Place
from penstock.domain.snapshot import Change, Snapshot
from penstock.errors import StoreDown
from penstock.identity.virtual_keys import digest
from penstock.ledger import adjustments
from penstock.ledger.grantor import Grantor
from penstock.ledger.journal import journal_name
from penstock.records.receipts import own_receipt
from penstock.upstream.credentials import Heard

MAX_TOLD = 1_000
"""Adjustments that a worker is told of at a time; it asks again for the rest."""

log = structlog.get_logger()


class Peers:
    """`follower` and `neighbours`: None on a database that no other box can share."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        own, options, config = parts.box, parts.options, parts.config
        self._exchanges = Exchanges(parts.door, parts.metrics.failed)
        self._key_uses = KeyUses(parts.engine, parts.claim, parts.metrics.failed)
        self._kept = KeptThings(parts.door, parts.drain_confirmed, has_others=bool(own.id))
        self._crowds = Crowds()
        self.asides = Asides(parts.metrics, self._tell_of_credential, self._tell_boxes_of_credential)
        answers = Answers(
            self._welcome,
            lambda: parts.publisher.snapshot,
            self._questions(),
            self._is_fresh,
            self._lease,
            own.worker,
            self._on_beat,
            self.asides.hear,
            self.asides.messages,
        )
        expected = [own.worker(box.node_name(number)) for number in range(options.workers)]
        self.fleet = Fleet(answers, parts.metrics, expected)
        self._grantor = Grantor(parts.ledger_engine, lambda: parts.publisher.snapshot.limits, self._recall)
        self._has_sole_worker = (options.workers or config.server.workers) == 1 and not own.id
        self.follower: Follower | None = None
        self.neighbours: Neighbours | None = None
        if own.id:
            self.follower = Follower(parts.door, parts.engine, self._on_news, self.fleet.recall, self._on_aside)
            lost_after_s = config.server.box_lost_after_ms / 1000
            self.neighbours = Neighbours(parts.door, self.fleet, parts.claim, own, lost_after_s)

    async def listen(self, *, is_alone: bool) -> None:
        """Tells workers from now on what is published, and welcomes them. `is_alone`: none is there from before. Raises
        OSError."""
        parts = self._parts
        parts.publisher.subscribe(self._on_change)
        async with parts.door.read() as conn:
            self.fleet.adjusted = await conn.run_sync(adjustments.newest)
        if self.neighbours is not None:
            await self.neighbours.begin(is_alone=is_alone)
        await self.fleet.listen(parts.options.data / "control.sock")

    async def meet(self, within_s: float) -> None:
        """Returns when a worker serves calls, or after this time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self.fleet.heard.wait()

    async def close(self) -> None:
        await self.fleet.close()
        await self._grantor.close()

    # -- what happens -------------------------------------------------------------------------------------------------

    def _on_change(self, change: Change) -> None:
        if change.put_aliases or change.drop_aliases:
            self._parts.metrics.declare_aliases(self._parts.publisher.snapshot.aliases)
        self.fleet.publish(change)
        self.asides.publish(change)
        self.asides.look_again(self._parts.publisher.snapshot.providers, self._keyed)

    def _tell_of_credential(self, message: CredentialHeard) -> None:
        self.fleet.tell_of_credential(message)

    def _tell_boxes_of_credential(self, heard: Heard) -> None:
        if self.neighbours is not None:
            mark = self._keyed(heard.mark)
            self.neighbours.tell_aside(Aside(self._parts.box.id, heard.provider, heard.credential, mark, heard.verdict))

    def _keyed(self, mark: str) -> str:
        return digest(self._parts.agreed.pepper, mark)

    def _on_aside(self, told: Aside) -> None:
        if told.box != self._parts.box.id:
            self.asides.hear_elsewhere(told, self._parts.publisher.snapshot.providers, self._keyed)

    async def _on_news(self, news: News) -> None:
        """Tells the workers of the adjustments that other boxes made, and looks for the credentials of what they put in
        force."""
        if "credential" in news.names:
            self._parts.vault.look_soon()
        if "provider" in news.names:
            await self._parts.configuration.know_providers()
        more = "adjustment" in news.names
        while more:
            async with self._parts.door.read() as conn:
                made = await adjustments.after(conn, self.fleet.adjusted, MAX_TOLD)
            for each in made:
                self.fleet.adjust(Adjusted(each.number, each.charge))
            more = len(made) == MAX_TOLD

    def _is_fresh(self) -> bool:
        """Whether what is published is what the store said just now."""
        return self._parts.claim.is_fresh() and (self.follower is None or self.follower.is_fresh())

    def _on_beat(self) -> None:
        peaks, limits = self.fleet.peaks(), self._parts.publisher.snapshot.limits
        for alert in self._crowds.crossed(limits, peaks, time.monotonic()):
            self._parts.on_alert(alert)

    # -- what workers ask ---------------------------------------------------------------------------------------------

    def _questions(self) -> dict[str, Callable[..., Awaitable[bytes | None]]]:
        return {
            "receipt": self._answer_receipt,
            "deployment": self._answer_deployment,
            "adjustments": self._answer_adjustments,
            "signers": self._answer_signers,
            "take_key": self._key_uses.take,
            "release_key": self._key_uses.release,
            "exchange": self._exchanges.record,
            "kept": self._kept.find,
        }

    async def _welcome(self, epoch: int, starting: Collection[int]) -> Welcome | None:
        pepper = self._parts.agreed.pepper
        if self._parts.claim.is_lost:
            if epoch:
                return None
            await self._return()
        if epoch:
            if not self._parts.committer.live(epoch):
                return None
            journal = self._parts.options.data / "journals" / journal_name(epoch, 0)
            return Welcome(epoch, str(journal), Snapshot(), pepper, sole=self._has_sole_worker)
        opened = await self._parts.committer.open_epoch(starting, is_sole=self._has_sole_worker)
        return Welcome(
            opened.epoch,
            opened.journal,
            Snapshot(),
            pepper,
            opened.balances,
            opened.adjusted,
            self._has_sole_worker,
        )

    async def _lease(self, epoch: int, request: LeaseRequest) -> tuple[Granted, ...]:
        self._parts.claim.require()
        return await self._grantor.serve(epoch, request.number, request.wants, request.given)

    def _recall(self, recalls: Mapping[int, tuple[Place, ...]]) -> None:
        if self.neighbours is not None:
            self.neighbours.recall(recalls)
        else:
            self.fleet.recall(recalls)

    async def _return(self) -> None:
        """Makes this box, which the others have given up, one of them again. Raises StoreDown while one of its workers
        is left that began before."""
        if not await self._parts.committer.finish_dead():
            raise StoreDown("this box was given up by the others, and a worker from before has not ended yet")
        charges = await self._parts.door.change(lost.RETURNED, lost.take_back, self._parts.box.id)
        self._parts.claim.is_lost = False
        log.warning("this box is back: what was charged for it is taken back", charges=charges)

    async def _answer_receipt(self, request_id: str, asker: str) -> bytes | None:
        await self._parts.drain_confirmed()
        async with self._parts.door.read() as conn:
            found = await own_receipt(conn, request_id, asker)
        return None if found is None else msgspec.msgpack.encode(found)

    async def _answer_deployment(self, provider: str, model: str) -> bytes | None:
        found = self._parts.publisher.deployment(provider, model)
        return None if found is None else msgspec.msgpack.encode(found)

    async def _answer_adjustments(self, number: str) -> bytes | None:
        async with self._parts.door.read() as conn:
            made = await adjustments.after(conn, int(number), MAX_TOLD)
        return msgspec.msgpack.encode([Adjusted(each.number, each.charge) for each in made])

    async def _answer_signers(self) -> bytes | None:
        await self._parts.signers.look_again()
        return None
