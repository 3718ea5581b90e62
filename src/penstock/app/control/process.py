"""The life of the control process: what is made in which order, what runs, and how it ends.

    file -> data directory, lock and secrets -> store -> declared configuration -> admin listener -> link to workers
    -> admin surface

Calls wait for no more than the link. What administrators use, a third of all that is loaded, comes after it: whoever
asks before that waits for the answer.

From then on these run until the process is told to stop: the drain of the journals, the sign of life in the store, the
pulse to the workers, the admin listener, and the chores. On a database with other boxes two more: the follower and the
neighbours.
"""

import asyncio
import contextlib
import gc
import os
import signal
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from penstock import __version__
from penstock.app import tls
from penstock.app.control.bootstrap import Options, lock_directory, prepare_directory, secrets_of
from penstock.app.control.listener import Listener, Surface
from penstock.app.control.parts import Parts
from penstock.app.control.peers import Peers
from penstock.app.control.spared import spared, worked_out_late
from penstock.config.loading import load
from penstock.control import declared
from penstock.errors import PenstockError
from penstock.records.log import LineWriter, configure
from penstock.store.claim import reason
from penstock.store.migrate import upgrade

if TYPE_CHECKING:
    from penstock.app.control.administration import Administration
    from penstock.app.control.chores import Chores

FIRST_WORKER_WITHIN_S = 0.5
"""For how long all else waits until a worker serves calls."""

log = structlog.get_logger()


class Control:
    """The running process. `start` makes it ready, `run` serves until it is told to stop."""

    # Made in `start`, when the store has said under which root secret it is.
    _administration: "Administration"
    _chores: "Chores"

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._peers = Peers(parts)
        self._keeping: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        self._listener: Listener | None = None

    async def start(self) -> None:
        """Raises ConfigError, ControlError, AddressInUse, or what the store is: StoreTooNew, StoreInUse, StoreDown."""
        parts = self._parts
        await parts.claim.take()
        self._keeping = asyncio.ensure_future(parts.claim.keep())
        await upgrade(parts.engine)
        async with parts.engine.begin() as conn:
            await parts.agree(conn)
        await parts.committer.own_journals()
        await parts.claim.register(__version__)
        await parts.door.load()
        self._measure_snapshot()
        # Settling takes the locks by which the living are known. It has its turn before any worker can be welcomed.
        is_alone = not parts.committer.any_live()
        self._settling = asyncio.ensure_future(self._settle_dead())
        await parts.vault.open_new()
        applied = await parts.door.change(
            declared.ACTOR, declared.apply, parts.agreed.pepper, parts.config, parts.box.node
        )
        self._measure_snapshot()
        if (data_plane := parts.config.server.tls) is not None:
            tls.server_context(data_plane.files())  # a fault of the workers' files is said before they start
        surface = Surface()
        self._listener = self._listen(surface)
        await self._peers.listen(is_alone=is_alone)
        if parts.options.workers:
            await self._peers.meet(FIRST_WORKER_WITHIN_S)
        _say_so(parts.options.word_fd)
        self._administration, application = await asyncio.to_thread(self._administer)
        surface.serve(application)
        await asyncio.to_thread(parts.prices.keep)
        # What is here now stays: the collector, which the module's entry turned off, need not look at it again.
        gc.freeze()
        gc.enable()
        log.info(
            "the control process is ready",
            admin=parts.config.server.admin,
            configuration="applied" if applied.new_version else "unchanged",
            changes=len(applied.steps),
            boot_ms=(time.time_ns() - parts.started_at) // 1_000_000,
        )

    def _measure_snapshot(self) -> None:
        metrics, snapshot = self._parts.metrics, self._parts.publisher.snapshot
        metrics.generation, metrics.version = snapshot.generation, snapshot.version
        metrics.declare_aliases(snapshot.aliases)

    async def _settle_dead(self) -> None:
        """Settles the journals of workers that died, beside what else a start asks the store: the first worker has to
        wait for it. What fails is tried again then."""
        try:
            await self._parts.committer.finish_dead()
        except (SQLAlchemyError, PenstockError) as error:
            log.warning("the journals of dead workers are not settled yet", reason=reason(error))

    def _listen(self, surface: Surface) -> Listener:
        server = self._parts.config.server
        host, _, port = server.admin.rpartition(":")
        files = None if server.admin_tls is None else server.admin_tls.files()
        return Listener.start(surface, host.strip("[]"), int(port), files)

    def _administer(self) -> tuple["Administration", Any]:
        """Loaded and put together in a thread: workers are given what they begin with, and ask, meanwhile."""
        with spared(), worked_out_late():
            self._chores = import_module("penstock.app.control.chores").Chores(self._parts)
            module = import_module("penstock.app.control.administration")
            administration: Administration = module.Administration(self._parts, self._peers, self._chores)
            return administration, administration.application()

    async def run(self, stop: asyncio.Event) -> None:
        """Serves until `stop`. An error in what must run for ever ends the process: the supervisor starts it again."""
        assert self._listener is not None and self._keeping is not None
        essential = [
            asyncio.ensure_future(stop.wait()),
            self._keeping,
            asyncio.ensure_future(self._parts.drain.keep()),
            *self._chores.begin(self._administration.sign_in.tell),
            self._listener.task,
        ]
        follower, neighbours = self._peers.follower, self._peers.neighbours
        if follower is not None and neighbours is not None:
            essential += [asyncio.ensure_future(each.keep()) for each in (follower, neighbours)]
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
        await self._peers.close()
        await self._parts.close()

    async def _last_drain(self) -> None:
        parts = self._parts
        try:
            await parts.drain_confirmed()
            # A box that may stay away for long keeps nothing from the others that it has no use for.
            if parts.box.id and await parts.committer.finish_dead():
                await parts.claim.leave()
        except (SQLAlchemyError, PenstockError) as error:
            log.warning("the journals keep what the store has not taken, until the next start", reason=reason(error))


async def serve(options: Options) -> None:
    """The whole life of the process. Raises PenstockError when it cannot begin."""
    with spared():
        config = load(options.config, require_secrets=True)
    prepare_directory(options.data)
    lock = lock_directory(options.data)
    secrets = secrets_of(options.data)
    lines = LineWriter()
    configure(options.log_level, lines)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    if options.parent_fd is not None:
        _watch_parent(loop, options.parent_fd, stop)
    with spared():
        control = Control(Parts(options, config, secrets, lines))
    try:
        await control.start()
        await control.run(stop)
    finally:
        await control.close()
        log.info("the control process has stopped")
        lines.close()
        os.close(lock)


def _say_so(word_fd: int | None) -> None:
    """To the supervisor: a worker serves. One that has not listened to many words before has heard enough of them."""
    if word_fd is not None:
        with contextlib.suppress(BlockingIOError):
            os.write(word_fd, b".")


def _watch_parent(loop: asyncio.AbstractEventLoop, parent_fd: int, stop: asyncio.Event) -> None:
    def gone() -> None:
        loop.remove_reader(parent_fd)
        stop.set()

    loop.add_reader(parent_fd, gone)
