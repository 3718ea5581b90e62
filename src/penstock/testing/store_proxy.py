"""The store proxy: TCP between a box and its PostgreSQL that can fail as a network does, or lose the calls alone.

`deaf` swallows what PostgreSQL calls out (LISTEN and NOTIFY) and passes everything else on: a box behind it learns of
changes only by looking. `cut` passes nothing in either direction and closes nothing, as a partition does; connections
that lived through one are broken when it ends.

Source of the frames: PostgreSQL documentation, "Message Formats" (a type byte, then a length that counts itself).
"""

import asyncio
import contextlib
import socket
from typing import Literal

from penstock.testing.wire import LoopServer, reset

Mode = Literal["open", "deaf", "cut"]
READ_BYTES = 64 * 1024
NOTIFICATION = ord("A")


class StoreProxy(LoopServer):
    """Listens in front of the PostgreSQL at `port` of 127.0.0.1. The connections must be without TLS."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._upstream_port = port
        self._mode: Mode = "open"
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def mode(self) -> Mode:
        return self._mode

    def become(self, mode: Mode) -> None:
        """From now on, for every connection."""
        was, self._mode = self._mode, mode
        if was == "cut":
            self._loop.call_soon_threadsafe(self._break)

    async def open(self, place: socket.socket) -> asyncio.AbstractServer:
        return await asyncio.start_server(self._connected, sock=place)

    def _break(self) -> None:
        for writer in self._writers:
            reset(writer.transport)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError):
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            passages = {
                asyncio.create_task(self._pass_questions(reader, upstream_writer)),
                asyncio.create_task(self._pass_answers(upstream_reader, writer)),
            }
            try:
                await asyncio.wait(passages, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in passages:
                    each.cancel()
                upstream_writer.close()
        self._writers.discard(writer)
        writer.close()

    async def _pass_questions(self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(READ_BYTES):
                if self._mode != "cut":
                    upstream.write(data)
                    await upstream.drain()

    async def _pass_answers(self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Whole messages, so that one can be left out, and as many at once as have come."""
        waiting = b""
        with contextlib.suppress(OSError):
            while data := await upstream.read(READ_BYTES):
                messages, waiting = split(waiting + data)
                if self._mode != "cut":
                    heard = [each for each in messages if self._mode == "open" or each[0] != NOTIFICATION]
                    writer.write(b"".join(heard))
                    await writer.drain()


def split(data: bytes) -> tuple[list[bytes], bytes]:
    """The whole messages at the beginning of `data`, and what follows them."""
    messages, at = [], 0
    while (start := at + 5) <= len(data):
        end = at + 1 + int.from_bytes(data[at + 1 : start], "big")
        if end > len(data):
            break
        messages.append(data[at:end])
        at = end
    return messages, data[at:]
