"""The load generator: a process that makes one phase's calls and reports how long each took.

`python -m penstock.testing.bench.load` reads a `Job` as one line of JSON on stdin, opens its connections, makes one
uncounted call on each, prints `ready`, waits for a line on stdin, makes the calls and prints an `Outcome`. Every answer
is checked (status, and the number of events of a stream); the first wrong one ends the run, because figures of a
gateway that answers wrongly mean nothing.
"""

import asyncio
import re
import sys
from collections import deque
from time import perf_counter_ns
from typing import cast

import msgspec
import uvloop
from msgspec import Struct

LIMIT_S = 180.0
"""A phase that takes longer is stuck."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED_END = b"\r\n0\r\n\r\n"


class Job(Struct, frozen=True):
    """`rate` 0: every connection calls again as soon as it has its answer, the first calls spread over `spread_s`;
    else `rate` calls per second whether or not answers have come. `events`: of a complete stream, 0 for plain.
    `number`: the part of the request that each call replaces by a number of its own, as long, from `first` on; empty
    for calls that are all the same."""

    port: int
    request: bytes
    connections: int
    calls: int
    events: int
    rate: int = 0
    spread_s: float = 0.0
    number: bytes = b""
    first: int = 0


class Outcome(Struct, frozen=True):
    """`whole_ns`, `first_ns`: per call, from its sending (at a fixed rate: from when it was due) to the end of the
    answer, and to the first byte of the body. `fault`: what was wrong with the answer that ended the run."""

    elapsed_ns: int = 0
    whole_ns: tuple[int, ...] = ()
    first_ns: tuple[int, ...] = ()
    fault: str = ""


class Run:
    """The calls of one phase over its connections."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.whole_ns: list[int] = []
        self.first_ns: list[int] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._warming = job.connections
        self._unsent = 0
        self._unanswered = 0
        self._due_ns: deque[int] = deque()
        self._idle: deque[Connection] = deque()
        self._number = job.first

    async def connect(self) -> list["Connection"]:
        """Opens the connections and makes one call on each, which is not counted."""
        loop = asyncio.get_running_loop()
        connections = []
        for _ in range(self.job.connections):
            _, connection = await loop.create_connection(lambda: Connection(self), "127.0.0.1", self.job.port)
            connections.append(connection)
            connection.call(perf_counter_ns())
        await asyncio.wait_for(self.done, LIMIT_S)
        self.whole_ns.clear()
        self.first_ns.clear()
        return connections

    async def make_calls(self, connections: list["Connection"]) -> int:
        """How long all calls took, in nanoseconds."""
        loop = asyncio.get_running_loop()
        self.done = loop.create_future()
        self._unsent = self._unanswered = self.job.calls
        began_ns, began_s = perf_counter_ns(), loop.time()
        if self.job.rate:
            self._idle.extend(connections)
            for n in range(self.job.calls):
                loop.call_at(began_s + n / self.job.rate, self._arrive)
        else:
            for n, connection in enumerate(connections[: self.job.calls]):
                loop.call_at(began_s + n * self.job.spread_s / len(connections), self._call_again, connection)
        await asyncio.wait_for(self.done, LIMIT_S)
        return perf_counter_ns() - began_ns

    def request(self) -> bytes:
        """That of the next call."""
        job = self.job
        if not job.number:
            return job.request
        self._number += 1
        return job.request.replace(job.number, b"%0*d" % (len(job.number), self._number))

    def answered(self, connection: "Connection", whole_ns: int, first_ns: int) -> None:
        self.whole_ns.append(whole_ns)
        self.first_ns.append(first_ns)
        if self._warming:
            self._warming -= 1
            if not self._warming:
                self.done.set_result(None)
            return
        self._unanswered -= 1
        if not self._unanswered:
            self.done.set_result(None)
        elif self._due_ns:
            connection.call(self._due_ns.popleft())
        elif self.job.rate:
            self._idle.append(connection)
        else:
            self._call_again(connection)

    def fail(self, fault: str) -> None:
        if not self.done.done():
            self.done.set_exception(ValueError(fault))

    def _arrive(self) -> None:
        now_ns = perf_counter_ns()
        if self._idle:
            self._idle.popleft().call(now_ns)
        else:
            self._due_ns.append(now_ns)

    def _call_again(self, connection: "Connection") -> None:
        if self._unsent:
            self._unsent -= 1
            connection.call(perf_counter_ns())


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one call on it."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._events = run.job.events
        self._parts: list[bytes] = []
        self._began_ns = self._first_ns = 0
        self._has_length = False
        self._left = 0
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.fail("a connection was closed")

    def call(self, began_ns: int) -> None:
        self._began_ns = began_ns
        self._first_ns = 0
        self._parts = []
        self._transport.write(self._run.request())

    def data_received(self, data: bytes) -> None:
        now_ns = perf_counter_ns()
        if self._first_ns:
            self._parts.append(data)
            self._left -= len(data)
            self._tail = (self._tail + data)[-len(_CHUNKED_END) :]
        elif not self._read_head(data, now_ns):
            return
        if self._left <= 0 if self._has_length else self._tail == _CHUNKED_END:
            self._finish(now_ns)

    def _read_head(self, data: bytes, now_ns: int) -> bool:
        """Whether the body has begun."""
        received = b"".join([*self._parts, data])
        self._parts = [received]
        head_end = received.find(b"\r\n\r\n")
        if head_end < 0 or head_end + 4 == len(received):
            return False
        if not received.startswith(b"HTTP/1.1 200 "):
            self._run.fail(f"an answer began {received[:400]!r}")
            return False
        length = _LENGTH.search(received, 0, head_end)
        body = received[head_end + 4 :]
        self._has_length = length is not None
        self._left = int(length.group(1)) - len(body) if length else 0
        self._tail = received[-len(_CHUNKED_END) :]
        self._parts = [body]
        self._first_ns = now_ns
        return True

    def _finish(self, now_ns: int) -> None:
        if self._events:
            body = dechunk(b"".join(self._parts))
            if body.count(b"data: ") != self._events or not body.endswith(b"data: [DONE]\n\n"):
                self._run.fail(f"a stream of {body.count(b'data: ')} events, not {self._events}, ended {body[-200:]!r}")
                return
        self._run.answered(self, now_ns - self._began_ns, self._first_ns - self._began_ns)


def dechunk(body: bytes) -> bytes:
    """The content of a complete chunked body."""
    parts: list[bytes] = []
    at = 0
    while True:
        line_end = body.index(b"\r\n", at)
        size = int(body[at:line_end], 16)
        if not size:
            return b"".join(parts)
        at = line_end + 2 + size
        parts.append(body[line_end + 2 : at])
        at += 2


async def main() -> None:
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    run = Run(job)
    try:
        connections = await run.connect()
        print("ready", flush=True)  # noqa: T201 - the conversation with the benchmark
        if not await asyncio.to_thread(sys.stdin.buffer.readline):
            return
        elapsed_ns = await run.make_calls(connections)
        outcome = Outcome(elapsed_ns, tuple(run.whole_ns), tuple(run.first_ns))
    except (ValueError, OSError) as fault:
        outcome = Outcome(fault=str(fault))
    except TimeoutError:
        outcome = Outcome(fault=f"no end after {LIMIT_S:.0f} s; {len(run.whole_ns)} calls were answered")
    print(msgspec.json.encode(outcome).decode(), flush=True)  # noqa: T201 - the conversation with the benchmark


if __name__ == "__main__":
    uvloop.run(main())
