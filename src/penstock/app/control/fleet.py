"""The fleet: the control process's end of the link to its workers.

A worker says `Hello` and is sent `Welcome`, either with an epoch and a journal of its own or, when it comes back after
this process was restarted, with the ones it has. From then on it is sent every change, and a pulse each second. What it
confirms and what it says of itself is kept per node, and stays when the node is gone: a stop must name whom it did not
reach. Workers that should be there and have not come yet are nodes too.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError

from penstock.app.arrival import parts, without_keys
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
from penstock.control.roll import KEPT_GENERATIONS, Confirmed, Report, kill_status
from penstock.domain.lease import Granted, Place
from penstock.domain.snapshot import Change, Snapshot
from penstock.errors import PenstockError, StoreDown
from penstock.records.metrics import Metrics, WorkerGauges
from penstock.records.receipts import rfc3339
from penstock.store.claim import reason
from penstock.upstream.credentials import Heard

PULSE_S = 1.0
HELLO_TIMEOUT_S = 5.0
REFUSAL_PAUSE_S = 0.5
MAX_UNSENT_BYTES = 256 * 1024 * 1024
"""A worker that lets more than this wait for it has stopped reading; it is cut off and must come back."""
MAX_CONFIRMATIONS = 10_000

log = structlog.get_logger()


@dataclass(frozen=True)
class Answers:
    """What the fleet may ask of the rest of the process.

    `welcome(epoch, starting)`: the welcome of a new worker (epoch 0) or of one that comes back; None for an epoch that
    is not known any more. `starting`: epochs of others that were welcomed just now and may not hold their journals yet.
    `questions`: kind -> the coroutine function that answers with the encoded value or None. `is_fresh`: whether the
    store was heard of just now; while it was not, no pulse vouches for the snapshot. `lease(epoch, request)`: what is
    granted; raises what the store raises, or PenstockError for what a sound worker does not ask. `named`: the name of
    the worker that calls itself so, which no other on the database has. `on_beat`: called after each beat of a worker.
    `on_credential(node, heard)`: what a worker has heard of a provider's credential; `asides`: what one that has just
    come has to know of them.
    """

    welcome: Callable[[int, Collection[int]], Awaitable[Welcome | None]]
    snapshot: Callable[[], Snapshot]
    questions: dict[str, Callable[..., Awaitable[bytes | None]]]
    is_fresh: Callable[[], bool] = lambda: True
    lease: Callable[[int, LeaseRequest], Awaitable[tuple[Granted, ...]]] | None = None
    named: Callable[[str], str] = lambda told: told
    on_beat: Callable[[], None] = lambda: None
    on_credential: Callable[[str, Heard], None] = lambda _node, _heard: None
    asides: Callable[[], Iterable[CredentialHeard]] = tuple


@dataclass
class Node:
    """One worker, connected while `writer` is not None. One that `has_spoken` since its welcome holds its journal."""

    name: str
    hello: Hello
    epoch: int
    connected_at: int
    writer: asyncio.StreamWriter | None
    has_spoken: bool = False
    beat: Beat | None = None
    beat_at: int = 0
    confirmations: list[Confirmed] = field(default_factory=list)

    def confirm(self, generation: int, streams_cut: int, at: int) -> None:
        last = self.confirmations[-1] if self.confirmations else None
        if last is not None and generation <= last.generation:
            self.confirmations[-1] = Confirmed(last.generation, last.at, last.streams_cut + streams_cut)
            return
        self.confirmations.append(Confirmed(generation, at, streams_cut))
        del self.confirmations[:-MAX_CONFIRMATIONS]

    def confirmation(self, generation: int) -> Confirmed | None:
        """The confirmation that covered `generation` first."""
        return next((each for each in self.confirmations if each.generation >= generation), None)


class Fleet:
    """`expected`: the nodes that should be there. `adjusted`: the number of the newest adjustment of a balance, which
    every worker must come to. `reported` is set whenever `reports` says something new, `heard` once a worker has taken
    up what it was given."""

    def __init__(self, answers: Answers, metrics: Metrics, expected: Iterable[str] = ()) -> None:
        self._answers = answers
        self._metrics = metrics
        self.adjusted = 0
        self.reported = asyncio.Event()
        self.heard = asyncio.Event()
        self._nodes = {name: Node(name, Hello(name, 0), 0, 0, None) for name in expected}
        for name in self._nodes:
            metrics.worker_down(name)
        self._opening = asyncio.Lock()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def listen(self, path: Path) -> None:
        """Serves the socket at `path`, for this user only. Raises OSError."""
        place = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        _bind_for_owner(place, path)
        self._server = await asyncio.start_unix_server(self._serve, sock=place, limit=2**20)
        self._spawn(self._pulse())

    async def close(self) -> None:
        """Lets go of every worker; they go on and look for the next control process."""
        for task in list(self._tasks):
            task.cancel()
        if self._server is not None:
            self._server.close()
        for writer in self._serving.values():
            writer.close()
        await asyncio.gather(*self._tasks, *self._serving, return_exceptions=True)

    def publish(self, change: Change) -> None:
        """Sends `change` to every connected worker."""
        self._broadcast(Changed(change))
        self._metrics.generation, self._metrics.version = change.generation, change.version

    def adjust(self, adjusted: Adjusted) -> None:
        """Tells every connected worker of an adjustment; the pulse tells those whom this does not reach."""
        self.adjusted = max(adjusted.number, self.adjusted)
        self._broadcast(adjusted)

    def refuse(self) -> None:
        """Tells every connected worker to end: its epoch is over, and the next one begins anew."""
        self._broadcast(Refused())
        for node in self._nodes.values():
            if node.writer is not None:
                node.writer.close()

    def tell_of_credential(self, message: CredentialHeard) -> None:
        """Tells every connected worker, the one that said it too."""
        self._broadcast(message)

    def recall(self, recalls: Mapping[int, tuple[Place, ...]]) -> dict[int, tuple[Place, ...]]:
        """Tells the workers of these epochs which places others lack. What is left of `recalls` is of other boxes."""
        rest = dict(recalls)
        for node in self._nodes.values():
            if node.epoch in rest:
                _tell(node, Recall(rest.pop(node.epoch)))
        return rest

    def kill_status(self, generation: int) -> list[dict[str, Any]]:
        """Per node: whether it obeys the kill, since when, and how many of its live calls were cut for it."""
        return [
            kill_status(node.name, node.writer is not None, node.confirmation(generation))
            for node in self._nodes.values()
        ]

    def reports(self) -> list[Report]:
        """What other boxes may know of the workers of this one."""
        return [
            Report(node.name, node.writer is not None, tuple(node.confirmations[-KEPT_GENERATIONS:]))
            for node in self._nodes.values()
        ]

    def status(self) -> list[dict[str, Any]]:
        """Per node: what it said of itself last."""
        return [_status(node) for node in self._nodes.values()]

    def held(self) -> dict[str, int]:
        """Limit id -> what the connected workers said last that they hold."""
        total: dict[str, int] = {}
        for node in self._nodes.values():
            if node.writer is not None and node.beat is not None:
                for limit, amount in node.beat.held.items():
                    total[limit] = total.get(limit, 0) + amount
        return total

    def peaks(self) -> dict[tuple[str, str], int]:
        """Limit id and value -> how many calls were in flight at once, as the connected workers said last."""
        total: dict[tuple[str, str], int] = {}
        for node in self._nodes.values():
            if node.writer is not None and node.beat is not None:
                for peak in node.beat.peaks:
                    total[peak.limit, peak.value] = total.get((peak.limit, peak.value), 0) + peak.amount
        return total

    # -- one connection -----------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        node: Node | None = None
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        try:
            incoming = messages(reader)
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                hello = await anext(incoming, None)
            if not isinstance(hello, Hello):
                return
            node = await self._welcome(hello, writer)
            if node is None:
                return
            async for message in incoming:
                self._hear(node, message)
        except (TimeoutError, msgspec.MsgspecError):
            self._metrics.failed("link")
            log.exception("a worker broke the link's protocol", node=node.name if node else "")
        except Exception:
            self._metrics.failed("link")
            log.exception("a worker could not be served", node=node.name if node else "")
            await asyncio.sleep(REFUSAL_PAUSE_S)
        finally:
            del self._serving[task]
            writer.close()
            if node is not None:
                self._leave(node)

    async def _welcome(self, hello: Hello, writer: asyncio.StreamWriter) -> Node | None:
        if hello.epoch:
            return await self._join(hello, writer)
        # One at a time: the next must know of the one before that its journal is not a dead worker's.
        async with self._opening:
            return await self._join(hello, writer)

    async def _join(self, hello: Hello, writer: asyncio.StreamWriter) -> Node | None:
        name = self._answers.named(hello.node)
        # Whoever had this worker's name is dead, even where its connection has not been seen to end.
        starting = {
            node.epoch
            for node in self._nodes.values()
            if node.writer is not None and not node.has_spoken and node.name != name
        }
        welcome = await self._answers.welcome(hello.epoch, starting)
        if welcome is None:
            log.warning("a worker came back with an epoch that is over", node=name, epoch=hello.epoch)
            writer.write(encode(Refused()))
            return None
        # From taking the snapshot to being in `_nodes` nothing is awaited, so no change falls between the two.
        snapshot = self._answers.snapshot()
        welcome = msgspec.structs.replace(welcome, snapshot=without_keys(snapshot), node=name)
        writer.write(encode(welcome))
        self._spawn(_send_keys(writer, snapshot))
        for aside in self._answers.asides():
            writer.write(encode(aside))
        before = self._nodes.get(name)
        if before is not None and before.writer is not None:
            before.writer.close()
        node = Node(name, hello, welcome.epoch, time.time_ns(), writer)
        if before is not None:
            # Whoever is welcomed obeys the newest kills at once, so what the process before it confirmed still holds.
            node.confirmations = before.confirmations
        self._nodes[name] = node
        self.reported.set()
        self._metrics.worker_up(name)
        log.info("a worker is connected", node=name, pid=hello.pid, epoch=node.epoch)
        return node

    def _hear(self, node: Node, message: Message) -> None:
        node.has_spoken = True
        self.heard.set()
        if isinstance(message, Confirm):
            node.confirm(message.generation, message.streams_cut, time.time_ns())
            self.reported.set()
        elif isinstance(message, Beat):
            node.beat, node.beat_at = message, time.time_ns()
            limits = self._answers.snapshot().limits
            held: dict[str, int] = {}
            for limit, amount in message.held.items():
                name = limits[limit].name if limit in limits else limit
                held[name] = held.get(name, 0) + amount
            gauges = WorkerGauges(
                message.in_flight,
                message.streams,
                held,
                message.loop_lag_ms,
                message.generation,
                message.version,
                message.refused_strangers,
            )
            self._metrics.worker_said(node.name, gauges)
            self._answers.on_beat()
        elif isinstance(message, Behind) and node.writer is not None:
            snapshot = self._answers.snapshot()
            _tell(node, World(without_keys(snapshot)))
            self._spawn(_send_keys(node.writer, snapshot))
        elif isinstance(message, Question):
            self._spawn(self._answer(node, message))
        elif isinstance(message, CredentialHeard):
            self._answers.on_credential(node.name, message.heard)
        elif isinstance(message, LeaseRequest) and self._answers.lease is not None:
            self._spawn(self._lease(node, message, self._answers.lease(node.epoch, message)))
        else:
            raise msgspec.ValidationError(f"a worker does not send {type(message).__name__}")

    async def _answer(self, node: Node, question: Question) -> None:
        value: bytes | None = None
        try:
            value = await self._answers.questions[question.kind](*question.arguments)
        except Exception:
            # No answer: the worker's own timeout says so to the caller, where "there is none" would be a lie.
            self._metrics.failed("question")
            log.exception("a worker's question could not be answered", kind=question.kind)
            return
        _tell(node, Answer(question.id, value))

    async def _lease(self, node: Node, request: LeaseRequest, serving: Awaitable[tuple[Granted, ...]]) -> None:
        granted: tuple[Granted, ...] | None = None
        try:
            granted = await serving
        except (SQLAlchemyError, StoreDown) as error:
            self._metrics.failed("lease")
            log.warning("leases could not be granted; the worker asks again", node=node.name, reason=reason(error))
        except PenstockError as error:
            self._metrics.failed("lease")
            log.warning("a worker asks for leases as none should; it starts again", node=node.name, reason=str(error))
            _tell(node, Refused())
            return
        except Exception:
            self._metrics.failed("lease")
            log.exception("leases could not be granted; the worker asks again", node=node.name)
        _tell(node, LeaseAnswer(request.number, granted))

    def _leave(self, node: Node) -> None:
        node.writer = None
        if self._nodes.get(node.name) is node:
            self.reported.set()
            self._metrics.worker_down(node.name)
            log.info("a worker is gone", node=node.name, epoch=node.epoch)

    # -- to all -------------------------------------------------------------------------------------------------------

    def _broadcast(self, message: Message) -> None:
        frame = encode(message)
        for node in self._nodes.values():
            writer = node.writer
            if writer is None or writer.is_closing():
                continue
            if writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
                log.error("a worker has stopped reading", node=node.name)
                writer.transport.abort()
                continue
            writer.write(frame)

    async def _pulse(self) -> None:
        while True:
            if self._answers.is_fresh():
                snapshot = self._answers.snapshot()
                self._broadcast(Pulse(snapshot.generation, snapshot.version, self.adjusted))
            await asyncio.sleep(PULSE_S)

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _bind_for_owner(place: socket.socket, path: Path) -> None:
    """Binds to `path`, in place of what a predecessor left there, for nobody but the owner."""
    path.unlink(missing_ok=True)
    place.bind(str(path))
    path.chmod(0o600)


async def _send_keys(writer: asyncio.StreamWriter, snapshot: Snapshot) -> None:
    """The keys of `snapshot`, at the pace of the worker. It never changes, whatever is published meanwhile."""
    for part in parts(snapshot):
        if writer.is_closing():
            return
        writer.write(encode(part))
        try:
            await writer.drain()
        except ConnectionError:
            return
        await asyncio.sleep(0)


def _tell(node: Node, message: Message) -> None:
    if node.writer is not None and not node.writer.is_closing():
        node.writer.write(encode(message))


def _status(node: Node) -> dict[str, Any]:
    beat = node.beat
    return {
        "node": node.name,
        "pid": node.hello.pid,
        "epoch": node.epoch,
        "state": "unreachable" if node.writer is None else "connected",
        "connected_at": rfc3339(node.connected_at) if node.connected_at else None,
        "last_beat_at": rfc3339(node.beat_at) if node.beat_at else None,
        "generation": beat.generation if beat else 0,
        "version": beat.version if beat else 0,
        "in_flight": beat.in_flight if beat else 0,
        "streams": beat.streams if beat else 0,
        "break_glass": beat.break_glass if beat else False,
        "loop_lag_ms": beat.loop_lag_ms if beat else 0.0,
    }
