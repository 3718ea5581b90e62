"""A worker without a data plane: it speaks the link, obeys kills, and writes a real journal.

For tests of the control process, which cannot tell it from a real one.
"""

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from penstock.app.arrival import Arrival, Keys
from penstock.app.link import (
    Answer,
    Beat,
    Changed,
    Confirm,
    Hello,
    LeaseAnswer,
    LeaseRequest,
    Message,
    Pulse,
    Question,
    Recall,
    Refused,
    Welcome,
    encode,
    messages,
)
from penstock.domain.lease import Place
from penstock.domain.snapshot import Snapshot, applied
from penstock.ledger.journal import Journal

M = TypeVar("M")
PATIENCE_S = 10.0


class FakeWorker:
    """Connected from `connect` to `close`. `snapshot` follows the changes that it is sent; `recalled` are the places
    that it was asked to give back; `refused` says that it was told to end.

    `confirming`: whether it confirms kills; `streams_cut`: how many live calls it says it has cut for each.
    """

    def __init__(self, data: Path, node: str = "box/worker-0", epoch: int = 0) -> None:
        self.node = node
        self.epoch = epoch
        self.snapshot = Snapshot()
        self.pulse = Pulse(0, 0)
        self.confirming = True
        self.streams_cut = 0
        self.journal: Journal | None = None
        self._socket = data / "control.sock"
        self._welcome: Welcome | None = None
        self._welcomed: Welcome | None = None
        self._arrival: Arrival | None = None
        self._news = asyncio.Condition()
        self.recalled: list[Place] = []
        self.refused = False
        self._answers: dict[int, bytes | None] = {}
        self._leased: list[LeaseAnswer] = []
        self._asked = 0
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self.hung_up = False

    async def connect(self) -> Self:
        """Says hello and waits for the welcome. Raises ConnectionError when it is not given."""
        reader, self._writer = await asyncio.open_unix_connection(self._socket)
        self.hung_up = False
        self.say(Hello(self.node, os.getpid(), self.epoch))
        self._listening = asyncio.create_task(self._listen(reader))
        await self.until(lambda: self._welcome is not None or self.hung_up)
        if self._welcome is None:
            await self.close()
            raise ConnectionError("the control process does not welcome this worker")
        return self

    async def close(self) -> None:
        """Hangs up; the journal stays locked, as that of a living process does."""
        if self._listening is not None and self._writer is not None:
            self._listening.cancel()
            with suppress(asyncio.CancelledError):
                await self._listening
            self._writer.close()
        self._welcome = None

    @property
    def welcome(self) -> Welcome:
        assert self._welcome is not None
        return self._welcome

    def open_journal(self) -> Journal:
        self.journal = Journal(Path(self.welcome.journal))
        return self.journal

    def say(self, message: Message) -> None:
        assert self._writer is not None
        self._writer.write(encode(message))

    def beat(self, **gauges: Any) -> None:
        """Says how it is doing; `gauges` over an idle worker's."""
        idle = Beat(self.snapshot.generation, self.snapshot.version, 0, 0, {}, 0.0)
        self.say(msgspec.structs.replace(idle, **gauges))

    async def ask(self, kind: str, *arguments: str) -> bytes | None:
        """The answer to a question. Raises TimeoutError when there is none."""
        self._asked += 1
        number = self._asked
        self.say(Question(number, kind, arguments))
        await self.until(lambda: number in self._answers)
        return self._answers.pop(number)

    async def lease(self, request: LeaseRequest) -> LeaseAnswer:
        """The next answer to a request for leases. Raises TimeoutError when there is none."""
        self.say(request)
        await self.until(lambda: self._leased)
        return self._leased.pop(0)

    async def until(self, holds: Any) -> None:
        """Waits until `holds()` is true of what was heard so far. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(holds)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        async for message in messages(reader):
            self._hear(message)
            async with self._news:
                self._news.notify_all()
        self.hung_up = True
        async with self._news:
            self._news.notify_all()

    def _hear(self, message: Message) -> None:
        if isinstance(message, Welcome):
            self._welcomed, self.epoch = message, message.epoch
            self._arrival = Arrival(message.snapshot)
        elif isinstance(message, Keys):
            assert self._arrival is not None, "keys came that nobody asked for"
            if (snapshot := self._arrival.add(message)) is not None:
                self._arrival, self._welcome = None, self._welcomed
                self._adopt(snapshot)
        elif isinstance(message, Changed) and self._arrival is not None:
            self._arrival.follow(message.change)
        elif isinstance(message, Changed):
            assert message.change.version == self.snapshot.version + 1, "a change was lost"
            self._adopt(applied(self.snapshot, message.change))
        elif isinstance(message, Pulse):
            self.pulse = message
        elif isinstance(message, Answer):
            self._answers[message.id] = message.value
        elif isinstance(message, LeaseAnswer):
            self._leased.append(message)
        elif isinstance(message, Recall):
            self.recalled += message.places
        elif isinstance(message, Refused):
            self.refused = True

    def _adopt(self, snapshot: Snapshot) -> None:
        newer = snapshot.generation > self.snapshot.generation
        self.snapshot = snapshot
        if self.confirming:
            self.say(Confirm(snapshot.generation, self.streams_cut if newer else 0))
