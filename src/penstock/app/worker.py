"""One worker of the data plane: the pipeline's rooms, wired; the listener; the link to the control process.

It imports neither FastAPI nor SQLAlchemy nor genai-prices, holds no state that its journal does not, and lives from the
snapshot that the control process last sent: while that process is away, traffic goes on until `stop.freshness`.
"""

import gc

if __name__ == "__main__":
    # What is imported stays: before `main` the collector would look through it again and again, and find nothing.
    gc.disable()

import argparse
import asyncio
import importlib
import itertools
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Collection, Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from msgspec import structs

from penstock.app import box, break_glass, tls
from penstock.app.arrival import Arrival, Keys
from penstock.app.key_uses import KeyUses
from penstock.app.link import (
    Adjusted,
    Answer,
    Beat,
    Behind,
    Changed,
    Confirm,
    CredentialHeard,
    Hello,
    LeaseAnswer,
    LeaseRequest,
    Message,
    Pulse,
    Question,
    Recall,
    Refused,
    Welcome,
    World,
    encode,
    messages,
)
from penstock.domain.kept import Keeper
from penstock.domain.lease import Given, Want
from penstock.domain.snapshot import Change, Deployment, Kill, ServerSettings, Snapshot, applied
from penstock.domain.trust import Exchanged
from penstock.errors import ConfigError, StoreUnavailable
from penstock.ledger.journal import Journal
from penstock.ledger.ledger import Ledger
from penstock.ledger.lessee import Lessee
from penstock.pipeline import Asked, Gateway
from penstock.surfaces.http1.protocol import ServerLimits
from penstock.surfaces.http1.server import HttpServer
from penstock.surfaces.inference import Inference
from penstock.upstream.call import Upstream
from penstock.upstream.credentials import Credentials
from penstock.upstream.http1 import Http1Transport, TransportSettings

RECONNECT_S = 0.02
ANSWER_TIMEOUT_S = 5.0
BEAT_S = 1.0
GIVE_BACK_S = 1.0
EXIT_IN_USE = 3
"""The address of the data plane is taken; the supervisor stops the whole."""

EXIT_RESTART = 75
"""The control process no longer knows this worker's epoch: a new process starts with a new one."""


_log = logging.getLogger("penstock.worker")


class JsonLines(logging.Formatter):
    """One JSON object per record. A traceback is in it without local variables: they hold content and keys."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


class Worker:
    """The process. `run` returns its exit code. `number`: which of the box's workers it is; `addresses`: the sockets of
    all of them, see `box.bind`."""

    def __init__(self, data: Path, number: int, addresses: Sequence[Sequence[socket.socket]]) -> None:
        self._data = data
        self._socket = data / "control.sock"
        self._glass = False
        self._number = number
        self._node = box.node_name(number)
        self._addresses = addresses
        self._epoch = 0
        self._adjusted = 0
        self._ids = itertools.count(1)
        self._questions: dict[int, asyncio.Future[bytes | None]] = {}
        self._arrival: Arrival | None = None
        self._is_behind = False
        self._deployments: dict[tuple[str, str], Deployment] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._gateway: Gateway | None = None
        self._journal: Journal | None = None
        self._app: Inference | None = None
        self._server: HttpServer | None = None
        self._is_listening = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop_lag_ms = 0.0
        self._stop = asyncio.Event()
        self._exit_code = 0

    async def run(self, parent_fd: int | None) -> int:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._stop.set)
        if parent_fd is not None:
            loop.add_reader(parent_fd, self._stop.set)
        link = self._spawn(self._keep_linked())
        stopped = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait([link, stopped], return_when=asyncio.FIRST_COMPLETED)
        if parent_fd is not None:
            loop.remove_reader(parent_fd)
        await self._drain()
        if link.done() and not stopped.done():
            link.result()
            return EXIT_RESTART
        return self._exit_code

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- the link -----------------------------------------------------------------------------------------------------

    async def _keep_linked(self) -> None:
        """Connects, again and again; returns when the control process does not want this epoch back."""
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._socket, limit=2**20)
            except OSError:
                await asyncio.sleep(RECONNECT_S)
                continue
            self._writer, refused = writer, False
            self._send(Hello(self._node, os.getpid(), self._epoch))
            async for message in messages(reader):
                refused = isinstance(message, Refused)
                await self._obey(message)
            self._writer = self._arrival = None
            self._is_behind = False
            writer.close()
            self._fail_questions()
            if refused:
                return
            await asyncio.sleep(RECONNECT_S)

    async def _obey(self, message: Message) -> None:
        if isinstance(message, Welcome):
            await self._welcome(message)
        elif isinstance(message, Answer):
            question = self._questions.pop(message.id, None)
            if question is not None and not question.done():
                question.set_result(message.value)
        elif isinstance(message, LeaseAnswer):
            self._leases().answered(message.number, message.granted)
        elif isinstance(message, Recall):
            self._leases().recalled(message.places)
        elif isinstance(message, World):
            self._expect(message.snapshot)
        elif isinstance(message, Keys):
            self._take(message)
        elif isinstance(message, CredentialHeard):
            self._require_gateway().upstream.credentials.learn(message.heard)
        elif isinstance(message, Changed):
            self._follow(message.change)
        elif isinstance(message, Adjusted):
            if message.number > self._adjusted + 1:
                self._spawn(self._catch_up_adjustments())
            else:
                self._adjust(message)
        elif isinstance(message, Pulse):
            gateway = self._require_gateway()
            if message.version > gateway.snapshot.version or message.generation > gateway.snapshot.generation:
                self._catch_up()
            elif self._arrival is None:
                gateway.confirm_fresh()
            if message.adjusted > self._adjusted:
                self._spawn(self._catch_up_adjustments())

    async def _welcome(self, welcome: Welcome) -> None:
        if self._gateway is None:
            self._epoch, self._adjusted = welcome.epoch, welcome.adjusted
            self._node = welcome.node or self._node
            journal = self._journal = Journal(Path(welcome.journal))
            ledger = Ledger(journal, time.time_ns, None if welcome.sole else self._say_what_is_lacked)
            ledger.seed(welcome.balances)
            key_uses = KeyUses(self._ask, welcome.epoch)
            asked = Asked(self._deployment, key_uses, self._find_kept)
            credentials = Credentials(lambda heard: self._send(CredentialHeard(heard)))
            upstream = Upstream(_transport(welcome.snapshot.server), credentials)
            self._gateway = Gateway(ledger, upstream, asked, time.time_ns)
            self._gateway.pepper = welcome.pepper
            record = self._record_exchange
            self._app = Inference(self._gateway, self._node, self._receipt, self._look_for_signers, record)
            self._spawn(journal.keep_synced())
            self._spawn(self._beat())
            self._look()
            self._spawn(self._keep_looking())
            self._spawn(key_uses.keep_releasing())
        self._expect(welcome.snapshot)
        if self._gateway.ledger.leases is not None:
            self._gateway.ledger.leases.linked()

    def _look(self) -> None:
        """Obeys the break-glass file, or its absence, whoever else can be reached."""
        pulled = break_glass.is_pulled(self._data)
        if pulled == self._glass:
            return
        self._glass = pulled
        gateway = self._require_gateway()
        gateway.snapshot = break_glass.seen_through(gateway.snapshot, pulled)
        if pulled:
            _log.warning("the break-glass file is there: every call is refused, %d were cut", gateway.cut_killed())
        else:
            _log.warning("the break-glass file is gone: calls are admitted again")

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(break_glass.LOOK_EVERY_S)
            self._look()

    def _leases(self) -> Lessee:
        leases = self._require_gateway().ledger.leases
        if leases is None:
            raise RuntimeError("the control process speaks of leases, and there are none")
        return leases

    def _say_what_is_lacked(self, number: int, wants: tuple[Want, ...], given: tuple[Given, ...]) -> None:
        self._send(LeaseRequest(number, wants, given))

    def _adopt(self, snapshot: Snapshot) -> None:
        """From here on every admission sees `snapshot`. A newer kill also cuts what runs, and is confirmed."""
        gateway = self._require_gateway()
        if gateway.assertions is None and snapshot.trust.every_issuer():
            # Only now: whoever trusts nobody is spared some 20 MB.
            gateway.assertions = importlib.import_module("penstock.identity.assertions").Assertions()
        gateway.snapshot = break_glass.seen_through(snapshot, self._glass)
        self._deployments.clear()
        self._send(Confirm(snapshot.generation, gateway.cut_killed() if snapshot.kills else 0))

    def _expect(self, rest: Snapshot) -> None:
        """A whole snapshot is on its way. Its kills hold at once; the rest is taken up when it is complete."""
        self._arrival, self._is_behind = Arrival(rest), False
        self._obey_kills(rest.kills, rest.generation)

    def _take(self, part: Keys) -> None:
        if self._arrival is None or (snapshot := self._arrival.add(part)) is None:
            return
        self._arrival = None
        self._adopt(snapshot)
        self._require_gateway().confirm_fresh()
        if not self._is_listening:
            # Not before: until the keys are here every call would be refused, which another worker could have served.
            self._is_listening = True
            self._spawn(self._listen(snapshot.server))

    def _follow(self, change: Change) -> None:
        snapshot = self._require_gateway().snapshot
        if self._arrival is not None:
            self._arrival.follow(change)
            if change.generation > snapshot.generation:
                kills = {number: kill for number, kill in snapshot.kills.items() if number not in change.drop_kills}
                self._obey_kills(kills | change.put_kills, change.generation)
        elif change.version == snapshot.version + 1:
            self._adopt(applied(snapshot, change))
        elif change.version > snapshot.version:
            self._catch_up()

    def _obey_kills(self, kills: dict[int, Kill], generation: int) -> None:
        snapshot = self._require_gateway().snapshot
        self._adopt(structs.replace(snapshot, kills=kills, generation=generation))

    def _catch_up(self) -> None:
        """A push was lost: ask for the whole snapshot. Until that has come, what is here grows stale."""
        if self._arrival is None and not self._is_behind:
            self._is_behind = True
            self._send(Behind())

    def _adjust(self, told: Adjusted) -> None:
        """Applies the adjustment unless it was applied already."""
        if told.number > self._adjusted:
            self._require_gateway().ledger.adjust(told.charge)
            self._adjusted = told.number

    async def _catch_up_adjustments(self) -> None:
        """Pushes were lost: ask for what came after the last adjustment that was applied. The next pulse tells whether
        that was all."""
        value = await self._ask("adjustments", str(self._adjusted))
        if value is not None:
            for told in msgspec.msgpack.decode(value, type=list[Adjusted]):
                self._adjust(told)

    async def _beat(self) -> None:
        gateway, app = self._require_gateway(), self._app
        assert app is not None
        while True:
            due = time.monotonic() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self._loop_lag_ms = max(0.0, (time.monotonic() - due) * 1000)
            if gateway.ledger.leases is not None:
                gateway.ledger.leases.tick()
            live = gateway.live.values()
            self._send(
                Beat(
                    gateway.snapshot.generation,
                    gateway.snapshot.version,
                    len(live),
                    sum(exchange.streaming for exchange in live),
                    gateway.ledger.held(),
                    self._loop_lag_ms,
                    app.refused_strangers,
                    gateway.ledger.peaks(),
                    self._glass,
                )
            )

    # -- questions ----------------------------------------------------------------------------------------------------

    async def _ask(self, kind: str, *arguments: str) -> bytes | None:
        """The answer of the control process; `StoreUnavailable` when it is away or slow."""
        unavailable = StoreUnavailable("The gateway's control process cannot be reached. Try again.", retry_after_s=2)
        if self._writer is None:
            raise unavailable
        question = Question(next(self._ids), kind, arguments)
        future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._questions[question.id] = future
        self._send(question)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await future
        except (TimeoutError, ConnectionError):
            raise unavailable from None
        finally:
            self._questions.pop(question.id, None)

    async def _receipt(self, request_id: str, key_id: str) -> bytes | None:
        """The public receipt as JSON, when it is of a call of this key."""
        value = await self._ask("receipt", request_id, key_id)
        return None if value is None else msgspec.json.encode(msgspec.msgpack.decode(value))

    async def _look_for_signers(self) -> None:
        """Has the control process look for new keys of trusted issuers; what it finds has come when it answers."""
        await self._ask("signers")

    async def _record_exchange(self, made: Exchanged) -> None:
        """Has it written to the audit log that a token is given. Raises StoreUnavailable where it cannot be."""
        if await self._ask("exchange", msgspec.json.encode(made).decode()) is None:
            raise StoreUnavailable("The gateway's store cannot record this. Try again.", retry_after_s=2)

    async def _find_kept(self, owner: str, needed: Collection[str], mentioned: Collection[str]) -> list[Keeper]:
        """Where what is kept under these ids lies. Raises StoreUnavailable where nobody can say."""
        value = await self._ask("kept", owner, str(len(needed)), *needed, *mentioned)
        if value is None:
            raise StoreUnavailable("The gateway's store cannot be reached. Try again.", retry_after_s=2)
        return msgspec.msgpack.decode(value, type=list[Keeper])

    async def _deployment(self, provider: str, model: str) -> Deployment:
        """What an undeclared model can do and cost; remembered until the world changes."""
        cached = self._deployments.get((provider, model))
        if cached is None:
            version = self._require_gateway().snapshot.version
            value = await self._ask("deployment", provider, model)
            cached = Deployment(provider, model) if value is None else msgspec.msgpack.decode(value, type=Deployment)
            if len(self._deployments) < 10_000 and version == self._require_gateway().snapshot.version:
                self._deployments[provider, model] = cached
        return cached

    def _send(self, message: Message) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(message))

    def _fail_questions(self) -> None:
        for future in self._questions.values():
            if not future.done():
                future.set_exception(ConnectionError("the link is gone"))

    # -- the listener -------------------------------------------------------------------------------------------------

    async def _listen(self, settings: ServerSettings) -> None:
        """Ends the process when the address cannot be had: starting again would not cure it."""
        assert self._app is not None
        limits = ServerLimits(header_read_timeout_ms=settings.header_read_timeout_ms)
        certificates = None if settings.tls is None else tls.Certificates(settings.tls)
        self._server = HttpServer(self._app.handle, limits, None if certificates is None else certificates.context)
        if certificates is not None:
            self._spawn(_keep_renewing(certificates))
        try:
            await self._server.listen(self._addresses, self._number)
        except OSError as error:
            _log.error("cannot listen on %s:%d: %s", settings.listen_host, settings.listen_port, error.strerror)
            self._exit_code = EXIT_IN_USE
            self._stop.set()

    async def _drain(self) -> None:
        """Admits nothing more, lets live calls end within the drain timeout, cuts the rest, closes."""
        gateway = self._gateway
        if gateway is None:
            return
        gateway.draining = True
        if self._server is not None:
            self._server.stop_accepting()
        deadline = time.monotonic() + gateway.snapshot.server.drain_timeout_ms / 1000
        while gateway.live and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        gateway.cut(gateway.live.values(), "aborted")
        while gateway.live and time.monotonic() < deadline + 1:
            await asyncio.sleep(0.01)
        if self._server is not None:
            await self._server.close(within_s=1.0)
        if gateway.ledger.leases is not None:
            await gateway.ledger.leases.give_all_back(within_s=GIVE_BACK_S)
        await gateway.upstream.close()
        if self._journal is not None:
            self._journal.close()

    def _require_gateway(self) -> Gateway:
        if self._gateway is None:
            raise RuntimeError("the control process spoke before its welcome")
        return self._gateway


def _transport(settings: ServerSettings) -> Http1Transport:
    return Http1Transport(TransportSettings(ca_file=settings.ca_bundle or None))


async def _keep_renewing(certificates: tls.Certificates) -> None:
    while True:
        await asyncio.sleep(tls.LOOK_S)
        try:
            if certificates.renew():
                _log.info("the certificate was read again")
        except ConfigError as error:
            _log.warning("a new certificate cannot be used, the old one stays: %s", error)


def main() -> int:
    parser = argparse.ArgumentParser(prog="penstock.app.worker")
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--number", required=True, type=int)
    parser.add_argument("--listen", required=True, action="append", type=box.read)
    parser.add_argument("--parent-fd", type=int)
    arguments = parser.parse_args()

    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # A call makes some hundred small objects and no cycles: the collector need not look after every 700 of them, nor
    # ever again at what the imports left.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()

    async def run() -> int:
        return await Worker(arguments.data, arguments.number, arguments.listen).run(arguments.parent_fd)

    return uvloop.run(run())


if __name__ == "__main__":
    sys.exit(main())
