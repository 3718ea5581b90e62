"""The control process, wired: what is made in which order, what runs, and how it ends.

    data directory and lock -> file and secrets -> store -> declared configuration -> link to workers -> admin listener

From then on fourteen things run until the process is told to stop: the drain of the journals, the pulse to the workers,
the admin listener, the look at what changes outside the store, the end of temporary increases, the beginning of prices,
the vault, what rotates by itself, the pruning of old usage events and Idempotency-Keys, the note of when keys were
used, the look at the keys of trusted issuers, the ledger's self-check, the look at the break-glass file, the tale of
failed sign-ins. On a database with other boxes two more: the follower and the neighbours.
"""

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from penstock import __version__
from penstock.admission import key_uses
from penstock.app import box, break_glass, tls
from penstock.app.control import balances
from penstock.app.control.activity import WRITE_S, Activity
from penstock.app.control.asides import Asides
from penstock.app.control.bootstrap import (
    PREVIOUS,
    box_of,
    kept_secret,
    lock_directory,
    prepare_directory,
    previous_secret,
)
from penstock.app.control.commits import Committed, Drain
from penstock.app.control.crowds import Crowds
from penstock.app.control.exchanges import Exchanges
from penstock.app.control.fleet import Answers, Fleet
from penstock.app.control.follower import Follower
from penstock.app.control.key_uses import KeyUses
from penstock.app.control.listener import Listener
from penstock.app.control.neighbours import Neighbours
from penstock.app.control.prices import Prices
from penstock.app.control.selfcheck import AFTER_START_S, EVERY_S, SelfCheck
from penstock.app.control.signers import EVERY_S as SIGNERS_S
from penstock.app.control.signers import Signers
from penstock.app.link import Adjusted, CredentialHeard, LeaseRequest, Welcome
from penstock.config.environment import Environment, resolve_secret
from penstock.config.loading import load
from penstock.config.settings import Config
from penstock.control import adjustments as corrections
from penstock.control import break_glass as glass_log
from penstock.control import declared, installation, key_activity, lost, replays, roll
from penstock.control.actor import Actor
from penstock.control.adjustments import Correction
from penstock.control.changes import Aside, News
from penstock.control.configuration import Configuration
from penstock.control.credentials import DeclaredCredentials
from penstock.control.door import Door
from penstock.control.exports import Exports
from penstock.control.installation import Agreed
from penstock.control.publisher import Publisher, Sources
from penstock.control.replays import Request
from penstock.control.rotations import LOOK_S as ROTATIONS_S
from penstock.control.rotations import Rotations
from penstock.control.sign_in import TOLD_EVERY_S, SignIn
from penstock.control.vault import Values, Vault
from penstock.control.write import Write
from penstock.domain.events import UsageEvent
from penstock.domain.lease import Granted, Place
from penstock.domain.snapshot import Change, Secret, Snapshot
from penstock.errors import ConfigError, PenstockError, StoreDown
from penstock.identity.secret import Root, vault_key, verifier
from penstock.identity.secret import pepper as pepper_of
from penstock.identity.virtual_keys import digest
from penstock.ledger import adjustments
from penstock.ledger.adjustments import Adjustment
from penstock.ledger.committer import Alert, Committer, Watch, held_sums
from penstock.ledger.grantor import Grantor
from penstock.ledger.journal import journal_name
from penstock.ledger.postings import held_records
from penstock.records import retention
from penstock.records.events import write_events
from penstock.records.log import Level, LineWriter, configure, exchange_lines
from penstock.records.metrics import Metrics
from penstock.records.receipts import own_receipt, rfc3339
from penstock.store.claim import claim_on, reason
from penstock.store.engine import committer_engine, control_engine, database_url
from penstock.store.migrate import upgrade
from penstock.surfaces.admin import application
from penstock.surfaces.admin.entrance import Entrance, provider
from penstock.surfaces.admin.plane import Plane
from penstock.surfaces.ops import Operations
from penstock.upstream.credentials import Heard
from penstock.upstream.http1 import Http1Transport, TransportSettings
from penstock.vault.wrappers import RootWrapper, wrappers_of

OUTSIDE_S = 60.0
PRUNE_S = 3600.0
RAISES_S = 1.0
GLASS_S = 1.0
PRICES_S = 1.0
VAULT_S = 1.0
AGAIN_S = 5.0
MAX_TOLD = 1_000
"""Adjustments that a worker is told of at a time; it asks again for the rest."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Options:
    """The command line. `parent_fd`: the read end of a pipe whose end means that the supervisor is gone. `workers`: how
    many the supervisor keeps alive, all of which a stop must reach; 0 where there is no supervisor to say so."""

    config: Path
    data: Path
    parent_fd: int | None = None
    log_level: Level = "info"
    workers: int = 0


@dataclass(frozen=True)
class Secrets:
    """What the box is given. What comes from `root` is worked out when the store has been asked."""

    admin_key: Secret
    root: Root


class Control:
    """The running process. `start` makes it ready, `run` serves until it is told to stop."""

    # Made in `start`, when the store has said under which root secret it is.
    _agreed: Agreed
    _configuration: Configuration
    _sign_in: SignIn
    _oidc: Any

    def __init__(self, options: Options, config: Config, secrets: Secrets, lines: LineWriter) -> None:
        self._options = options
        self._config = config
        self._secrets = secrets
        self._lines = lines
        self._started_at = time.time_ns()
        self._failing: dict[str, float] = {}
        self._glass: break_glass.Glass | None = None
        self._aliases: frozenset[str] = frozenset()
        url = database_url(config.store, options.data)
        self._box = box_of(options.data, shares_store=url.get_backend_name() != "sqlite")
        self._engine = control_engine(url)
        self._ledger_engine = committer_engine(url)
        self._claim = claim_on(url, self._box)
        self._claim.guard(self._engine.sync_engine)
        self._claim.guard(self._ledger_engine)
        self._keeping: asyncio.Task[None] | None = None
        self._metrics = Metrics()
        self._prices = Prices()
        credentials = DeclaredCredentials(config.providers)
        opened = Values()
        self._transport = Http1Transport(TransportSettings(ca_file=config.upstream.ca_bundle or None))
        self._signers = Signers(config.identity, self._transport, self._renew_trust)
        sources = Sources(
            self._prices.resolve, credentials, opened, config.server_settings(), trust=self._signers.trust
        )
        self._publisher = Publisher(sources)
        self._door = Door(self._engine, self._publisher, require_store=self._claim.require)
        root = _root_wrapper(secrets.root)
        wrappers = wrappers_of(config.vault, root)
        self._vault = Vault(self._door, opened, wrappers, config.vault.wrapper, self._box.node)
        self._rotations = Rotations(self._door, self._vault, config.vault.rotations, self._metrics.failed)
        self._declared = credentials
        self._committed = Committed(self._ledger_engine, self._on_committed)
        self._committer = Committer(
            self._ledger_engine,
            options.data / "journals",
            self._on_events,
            Watch(lambda: self._publisher.snapshot.limits, self._on_alert),
            box=self._box.id,
        )
        self._activity = Activity(self._engine)
        self._self_check = SelfCheck(self._ledger_engine, self._metrics)
        self._drain = Drain(self._committer, self._metrics.failed)
        self._exchanges = Exchanges(self._door, self._metrics.failed)
        self._key_uses = KeyUses(self._engine, self._claim, self._metrics.failed)
        self._crowds = Crowds()
        self._asides = Asides(self._metrics, self._tell_of_credential, self._tell_boxes_of_credential)
        answers = Answers(
            self._welcome,
            lambda: self._publisher.snapshot,
            self._questions(),
            self._is_fresh,
            self._lease,
            self._box.worker,
            self._on_beat,
            self._asides.hear,
            self._asides.messages,
        )
        expected = [self._box.worker(box.node_name(number)) for number in range(options.workers)]
        self._fleet = Fleet(answers, self._metrics, expected)
        self._grantor = Grantor(self._ledger_engine, lambda: self._publisher.snapshot.limits, self._recall)
        self._has_sole_worker = (options.workers or config.server.workers) == 1 and not self._box.id
        self._follower: Follower | None = None
        self._neighbours: Neighbours | None = None
        if self._box.id:
            self._follower = Follower(self._door, self._engine, self._on_news, self._fleet.recall, self._on_aside)
            lost_after_s = config.server.box_lost_after_ms / 1000
            self._neighbours = Neighbours(self._door, self._fleet, self._claim, self._box, lost_after_s)
        self._listener: Listener | None = None

    # -- the life of the process --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Raises ConfigError, ControlError, AddressInUse, or what the store is: StoreTooNew, StoreInUse, StoreDown."""
        await self._claim.take()
        self._keeping = asyncio.ensure_future(self._claim.keep())
        await upgrade(self._engine)
        async with self._engine.begin() as conn:
            self._agreed = await installation.agree(conn, self._secrets.root, self._box.id)
        pepper, node = self._agreed.pepper, self._box.node
        self._configuration = Configuration(self._door, self._declared, self._config, node, pepper)
        self._sign_in = SignIn(self._door, pepper)
        self._oidc = provider(self._config.sign_in, pepper)
        await self._committer.own_journals()
        await self._claim.register(__version__)
        await self._door.load()
        await self._vault.open_new()
        applied = await self._door.change(declared.ACTOR, declared.apply, pepper, self._config, self._box.node)
        snapshot = self._publisher.snapshot
        self._metrics.generation, self._metrics.version = snapshot.generation, snapshot.version
        self._metrics.declare_aliases(snapshot.aliases)
        self._publisher.subscribe(self._on_change)
        async with self._door.read() as conn:
            self._fleet.adjusted = await conn.run_sync(adjustments.newest)
        if self._neighbours is not None:
            await self._neighbours.begin(is_alone=not self._committer.any_live())
        await self._fleet.listen(self._options.data / "control.sock")
        host, _, port = self._config.server.admin.rpartition(":")
        if (data_plane := self._config.server.tls) is not None:
            tls.server_context(data_plane.files())  # a fault of the workers' files is said before they start
        admin_tls = self._config.server.admin_tls
        files = None if admin_tls is None else admin_tls.files()
        self._listener = Listener.start(self._admin(), host.strip("[]"), int(port), files)
        # What is here now stays: the collector, which the module's entry turned off, need not look at it again.
        gc.freeze()
        gc.enable()
        log.info(
            "the control process is ready",
            admin=self._config.server.admin,
            configuration="applied" if applied.new_version else "unchanged",
            changes=len(applied.steps),
            boot_ms=(time.time_ns() - self._started_at) // 1_000_000,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serves until `stop`. An error in what must run for ever ends the process: the supervisor starts it again."""
        assert self._listener is not None and self._keeping is not None
        essential = [
            asyncio.ensure_future(stop.wait()),
            self._keeping,
            asyncio.ensure_future(self._drain.keep()),
            asyncio.ensure_future(self._every(OUTSIDE_S, "outside", self._refresh_outside)),
            asyncio.ensure_future(self._every(RAISES_S, "raises", self._door.end_raises)),
            asyncio.ensure_future(self._every(GLASS_S, "break_glass", self._look_at_glass, 0.0)),
            asyncio.ensure_future(self._every(PRICES_S, "prices", self._door.begin_prices)),
            asyncio.ensure_future(self._every(VAULT_S, "vault", self._vault.tend)),
            asyncio.ensure_future(self._every(ROTATIONS_S, "rotations", self._rotations.look)),
            asyncio.ensure_future(self._every(TOLD_EVERY_S, "sign_ins", self._sign_in.tell)),
            asyncio.ensure_future(self._every(PRUNE_S, "prune", self._prune)),
            asyncio.ensure_future(self._every(WRITE_S, "key_activity", self._note_activity)),
            asyncio.ensure_future(self._every(SIGNERS_S, "signers", self._signers.look, 0.0)),
            asyncio.ensure_future(self._every(EVERY_S, "self_check", self._self_check.run, AFTER_START_S)),
            self._listener.task,
        ]
        if self._follower is not None and self._neighbours is not None:
            essential += [asyncio.ensure_future(each.keep()) for each in (self._follower, self._neighbours)]
        done, _ = await asyncio.wait(essential, return_when=asyncio.FIRST_COMPLETED)
        for task in essential:
            if task is not self._listener.task:
                task.cancel()
        for task in done:
            task.result()

    async def close(self) -> None:
        """Takes nothing more in, brings the journals into the store, lets go of everything."""
        if self._listener is not None:
            await self._listener.stop()
            await self._last_drain()
        if self._keeping is not None:
            self._keeping.cancel()
        await self._fleet.close()
        await self._transport.close()
        await self._grantor.close()
        await self._committer.close()
        await self._engine.dispose()
        self._ledger_engine.dispose()
        await self._claim.release()

    async def _last_drain(self) -> None:
        try:
            await self._drain_confirmed()
            # A box that may stay away for long keeps nothing from the others that it has no use for.
            if self._box.id and await self._committer.finish_dead():
                await self._claim.leave()
        except (SQLAlchemyError, PenstockError) as error:
            log.warning("the journals keep what the store has not taken, until the next start", reason=reason(error))

    async def _drain_confirmed(self) -> int:
        """`Drain.now` where the store is there; StoreDown where it is not, instead of waiting for it."""
        self._claim.require()
        return await self._drain.now()

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
                self._failing.pop(name, None)
            except Exception:
                pause_s = min(interval_s, AGAIN_S)
                self._failing.setdefault(name, time.time())
                self._metrics.failed(name)
                log.exception("a recurring task failed; it is tried again", task=name)

    async def _refresh_outside(self) -> None:
        for fault in await self._configuration.look_again():
            log.warning("a secret could not be resolved again; the old one stays", reason=fault)
            self._metrics.failed("outside")

    async def _look_at_glass(self) -> None:
        """Tells the audit log of the break-glass file, as soon as the store is there to be told."""
        found = break_glass.read(self._options.data)
        if found == self._glass or not self._claim.is_confirmed():
            return
        pulled = None if found.pulled is None else asdict(found.pulled)
        last = None if found.last is None else (asdict(found.last[0]), asdict(found.last[1]))
        if await self._door.change(glass_log.ACTOR, glass_log.tell, self._box.node, pulled, last):
            log.warning("the audit log was told of the break-glass file", pulled=pulled, last=last)
        self._glass = found

    async def _note_activity(self) -> None:
        self._claim.require()
        await self._activity.write()

    async def _prune(self) -> None:
        now = time.time_ns()
        async with self._engine.begin() as conn:
            await key_activity.prune(conn)
        await retention.prune(self._engine, now, self._config.retention.usage_events_days)
        await key_uses.prune(self._engine, now)
        await replays.prune(self._engine, now)
        if self._box.id:
            async with self._engine.begin() as conn:
                await roll.prune(conn)

    # -- what happens -------------------------------------------------------------------------------------------------

    def _on_events(self, connection: Connection, events: Sequence[UsageEvent]) -> None:
        write_events(connection, events)
        self._committed.stage(connection, events)

    def _on_committed(self, events: Sequence[UsageEvent]) -> None:
        self._metrics.observe(events)
        self._activity.note(events)
        if lines := exchange_lines(events, self._options.log_level):
            self._lines.write(lines)

    def _on_change(self, change: Change) -> None:
        if change.put_aliases or change.drop_aliases:
            self._metrics.declare_aliases(self._publisher.snapshot.aliases)
        self._fleet.publish(change)
        self._asides.publish(change)
        self._asides.look_again(self._publisher.snapshot.providers, self._keyed)

    def _tell_of_credential(self, message: CredentialHeard) -> None:
        self._fleet.tell_of_credential(message)

    def _tell_boxes_of_credential(self, heard: Heard) -> None:
        if self._neighbours is not None:
            mark = self._keyed(heard.mark)
            self._neighbours.tell_aside(Aside(self._box.id, heard.provider, heard.credential, mark, heard.verdict))

    def _keyed(self, mark: str) -> str:
        return digest(self._agreed.pepper, mark)

    def _on_aside(self, told: Aside) -> None:
        if told.box != self._box.id:
            self._asides.hear_elsewhere(told, self._publisher.snapshot.providers, self._keyed)

    async def _on_news(self, news: News) -> None:
        """Tells the workers of the adjustments that other boxes made, and looks for the credentials of what they put in
        force."""
        if "credential" in news.names:
            self._vault.look_soon()
        if "provider" in news.names:
            await self._configuration.know_providers()
        more = "adjustment" in news.names
        while more:
            async with self._door.read() as conn:
                made = await adjustments.after(conn, self._fleet.adjusted, MAX_TOLD)
            for each in made:
                self._fleet.adjust(Adjusted(each.number, each.charge))
            more = len(made) == MAX_TOLD

    def _is_fresh(self) -> bool:
        """Whether what is published is what the store said just now."""
        return self._claim.is_fresh() and (self._follower is None or self._follower.is_fresh())

    def _on_beat(self) -> None:
        peaks, limits = self._fleet.peaks(), self._publisher.snapshot.limits
        for alert in self._crowds.crossed(limits, peaks, time.monotonic()):
            self._on_alert(alert)

    def _on_alert(self, alert: Alert) -> None:
        self._metrics.alerted(alert.limit.name, alert.fraction)
        log.warning(
            "a limit has crossed its mark",
            limit=alert.limit.name,
            fraction=alert.fraction,
            value=alert.value,
            settled=alert.settled,
            amount=alert.limit.amount,
            unit=alert.limit.unit,
        )

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
        }

    async def _welcome(self, epoch: int, starting: Collection[int]) -> Welcome | None:
        pepper = self._agreed.pepper
        if self._claim.is_lost:
            if epoch:
                return None
            await self._return()
        if epoch:
            if not self._committer.live(epoch):
                return None
            journal = self._options.data / "journals" / journal_name(epoch, 0)
            return Welcome(epoch, str(journal), Snapshot(), pepper, sole=self._has_sole_worker)
        opened = await self._committer.open_epoch(starting)
        welcome = Welcome(opened.epoch, opened.journal, Snapshot(), pepper, sole=self._has_sole_worker)
        if not self._has_sole_worker:
            return welcome
        return msgspec.structs.replace(welcome, balances=opened.balances, adjusted=opened.adjusted)

    async def _lease(self, epoch: int, request: LeaseRequest) -> tuple[Granted, ...]:
        self._claim.require()
        return await self._grantor.serve(epoch, request.number, request.wants, request.given)

    def _recall(self, recalls: Mapping[int, tuple[Place, ...]]) -> None:
        if self._neighbours is not None:
            self._neighbours.recall(recalls)
        else:
            self._fleet.recall(recalls)

    async def _return(self) -> None:
        """Makes this box, which the others have given up, one of them again. Raises StoreDown while one of its workers
        is left that began before."""
        if not await self._committer.finish_dead():
            raise StoreDown("this box was given up by the others, and a worker from before has not ended yet")
        charges = await self._door.change(lost.RETURNED, lost.take_back, self._box.id)
        self._claim.is_lost = False
        log.warning("this box is back: what was charged for it is taken back", charges=charges)

    async def _answer_receipt(self, request_id: str, asker: str) -> bytes | None:
        await self._drain_confirmed()
        async with self._door.read() as conn:
            found = await own_receipt(conn, request_id, asker)
        return None if found is None else msgspec.msgpack.encode(found)

    async def _answer_deployment(self, provider: str, model: str) -> bytes | None:
        found = self._publisher.deployment(provider, model)
        return None if found is None else msgspec.msgpack.encode(found)

    async def _answer_adjustments(self, number: str) -> bytes | None:
        async with self._door.read() as conn:
            made = await adjustments.after(conn, int(number), MAX_TOLD)
        return msgspec.msgpack.encode([Adjusted(each.number, each.charge) for each in made])

    async def _renew_trust(self) -> None:
        await self._door.renew_trust()

    async def _answer_signers(self) -> bytes | None:
        await self._signers.look_again()
        return None

    # -- what administrators ask --------------------------------------------------------------------------------------

    def _admin(self) -> Any:
        plane = Plane(
            door=self._door,
            configuration=self._configuration,
            vault=self._vault,
            admin_key=self._secrets.admin_key,
            pepper=self._agreed.pepper,
            exports=Exports(self._door),
            entrance=Entrance(self._sign_in, self._config.sign_in, self._oidc),
            rewrap=self._rewrap,
            drain=self._drain_confirmed,
            ledger=self._ledger_rows,
            adjust=self._adjust,
            verify=self._verify,
            kill_nodes=self._kill_nodes,
            status=self._status,
        )
        token = self._config.server.metrics_token
        secret = None if token is None else resolve_secret(token)
        return application.build(plane, Operations(self._metrics, self._refresh_gauges, self._failures, secret))

    async def _rewrap(self, actor: Actor) -> dict[str, Any]:
        """Puts the store and every data key under the root secret of now, or whoever wraps now."""

        async def move(write: Write) -> None:
            await installation.move(write, self._secrets.root, self._agreed.pepper)

        done = await self._vault.rewrap(actor, move)
        (self._options.data / PREVIOUS).unlink(missing_ok=True)
        self._agreed = replace(self._agreed, is_current=True)
        log.info("the data keys of the vault are wrapped again", **done)
        return done

    async def _kill_nodes(self, generation: int) -> list[dict[str, Any]]:
        if self._neighbours is not None:
            return await self._neighbours.kill_nodes(generation)
        return self._fleet.kill_status(generation)

    async def _ledger_rows(self) -> list[dict[str, Any]]:
        limits, now_s = self._publisher.snapshot.limits, int(time.time())
        # One picture of all: between two, a call that settles would be seen held and then settled as well.
        async with self._door.read() as conn:
            held = held_sums(await conn.run_sync(held_records))
            settled = await balances.settled_places(conn, limits, now_s)
            leased = await balances.leased_places(conn, limits, now_s)
        return balances.shown(limits, balances.Amounts(settled, held, leased), self._fleet.held(), now_s)

    async def _adjust(self, actor: Actor, asked: Correction, again: Request | None = None) -> replays.Answer:
        """The adjustment as it is shown, once it is durable and every worker within reach was told."""

        async def run() -> replays.Answer:
            made: list[Adjustment] = []

            async def adjust(write: Write) -> dict[str, Any]:
                adjustment, shown = await corrections.adjust(write, asked)
                made.append(adjustment)
                return shown

            await self._drain.now()
            answer = await self._door.change(actor, replays.once, again, adjust)
            for each in made:
                self._fleet.adjust(Adjusted(each.number, each.charge))
                log.info("a balance was adjusted", id=each.id, limit=asked.limit, amount=each.charge.amount)
            return answer

        # To the end even where the asker hangs up: what is durable is also told.
        return await asyncio.shield(asyncio.ensure_future(run()))

    async def _verify(self) -> list[dict[str, str]]:
        return [{"kind": fault.kind, "detail": fault.detail} for fault in await self._self_check.in_full()]

    async def _refresh_gauges(self) -> None:
        """Without the store the gauges that come from it stay as they were: whoever scrapes needs the others."""
        self._metrics.backlog_bytes = self._committer.backlog_bytes()
        self._metrics.credentials_due = self._vault.due
        try:
            async with self._door.read() as conn:
                ratios = await balances.settled_ratios(conn, self._publisher.snapshot.limits, int(time.time()))
        except (SQLAlchemyError, StoreDown) as error:
            self._metrics.failed("gauges")
            log.warning("the gauges of the limits are old: the store does not answer", reason=reason(error))
            return
        self._metrics.settled_ratios(ratios)

    def _failures(self) -> dict[str, float]:
        since = {
            "commit": self._drain.failing_since,
            "ledger": self._self_check.failing_since,
            "store": None if self._claim.is_confirmed() else time.time() - self._claim.silent_s(),
        }
        return {**self._failing, **{name: at for name, at in since.items() if at is not None}}

    def _status(self) -> dict[str, Any]:
        snapshot = self._publisher.snapshot
        pulled = break_glass.read(self._options.data).pulled
        return {
            "release": __version__,
            "node": self._box.node,
            "pid": os.getpid(),
            "started_at": rfc3339(self._started_at),
            "version": snapshot.version,
            "generation": snapshot.generation,
            "journal_backlog_bytes": self._committer.backlog_bytes(),
            "failing_since": {name: rfc3339(int(since * 1e9)) for name, since in self._failures().items()},
            "config": {"path": str(self._config.path), "digest": self._config.digest},
            "listen": self._config.server.listen,
            "listen_tls": self._config.server.tls is not None,
            "freshness_ms": snapshot.server.freshness_ms,
            "break_glass": None if pulled is None else asdict(pulled),
            "ledger": self._self_check.shown(),
            "credentials": self._credentials_shown(),
            "nodes": self._fleet.status(),
            "boxes": self._neighbours.shown() if self._neighbours is not None else [],
        }

    def _credentials_shown(self) -> dict[str, Any]:
        """What is wrong with the credentials of providers."""
        providers = self._publisher.snapshot.providers.values()
        return {
            "set_aside": self._asides.shown(),
            "missing": sorted(it.name for it in providers if it.needs_credential and not it.credentials),
            "unopened": self._vault.faults,
            "root_secret": "current" if self._agreed.is_current else "previous",
            "overdue": self._vault.overdue(),
            "unrotated": self._rotations.faults,
        }


def secrets_of(data: Path) -> Secrets:
    """The administrator's key and the root secret: from the environment or `data`, or made now. Raises ConfigError."""
    environment = Environment.read()

    def announce(what: str, path: Path) -> Callable[[str], None]:
        def say(value: str) -> None:
            # Once, on the way to a terminal or the service manager's log: nobody could get in without it.
            sys.stderr.write(f"penstock: made {what}, kept in {path}: {value}\n")
            sys.stderr.flush()

        return say

    admin_key_path, root_path = data / "admin_key", data / "secret"
    admin_key = kept_secret(environment.admin_key, admin_key_path, announce("an administrator's key", admin_key_path))
    root = kept_secret(environment.secret, root_path, announce("a root secret", root_path))
    try:
        pepper_of(root.reveal())
    except ValueError as error:
        raise ConfigError(str(error), "PENSTOCK_SECRET") from None
    return Secrets(admin_key, Root(root, previous_secret(environment.previous_secret, data / PREVIOUS)))


def _root_wrapper(root: Root) -> RootWrapper:
    value, previous = root.value.reveal(), root.previous
    before = None if previous is None else vault_key(previous.reveal())
    return RootWrapper(vault_key(value), verifier(pepper_of(value))[:16], before)


async def serve(options: Options) -> None:
    """The whole life of the process. Raises PenstockError when it cannot begin."""
    prepare_directory(options.data)
    lock = lock_directory(options.data)
    config = load(options.config, require_secrets=True)
    secrets = secrets_of(options.data)
    lines = LineWriter()
    configure(options.log_level, lines)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    if options.parent_fd is not None:
        _watch_parent(loop, options.parent_fd, stop)
    control = Control(options, config, secrets, lines)
    try:
        await control.start()
        await control.run(stop)
    finally:
        await control.close()
        log.info("the control process has stopped")
        lines.close()
        os.close(lock)


def _watch_parent(loop: asyncio.AbstractEventLoop, parent_fd: int, stop: asyncio.Event) -> None:
    def gone() -> None:
        loop.remove_reader(parent_fd)
        stop.set()

    loop.add_reader(parent_fd, gone)
