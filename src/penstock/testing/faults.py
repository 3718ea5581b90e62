"""The fault proxy: TCP between a gateway and its upstream that fails as networks fail.

It passes bytes on in both directions until the fault that is set says otherwise. A fault is taken up with a request
and works on the answer to it, so it can be changed between calls, also on a connection that is kept alive.
"""

import asyncio
import contextlib
import socket
from typing import Literal

from msgspec import Struct

from penstock.testing.wire import LoopServer, reset

Kind = Literal["none", "latency", "slow", "drop", "reset", "half_close", "black_hole", "garbage"]
GARBAGE = b"\x16\x03\x01\x00 these bytes belong to no answer\r\n\r\n"
READ_BYTES = 64 * 1024
SLOW_BYTES = 64
"""How much a slow connection passes on at a time."""


class Fault(Struct, frozen=True):
    """What happens to the answer of a request.

    `latency`: every piece comes `delay_ms` late. `slow`: 64 bytes at a time, `delay_ms` apart. The others let
    `after_bytes` of the answer through, then: `drop` closes both connections, `reset` resets the gateway's,
    `half_close` sends no more but keeps the socket open, `black_hole` swallows everything in silence, `garbage` goes on
    with bytes that are not the answer's and closes.
    """

    kind: Kind = "none"
    after_bytes: int = 0
    delay_ms: float = 0


class FaultProxy(LoopServer):
    """Listens in front of `upstream_port` on 127.0.0.1. `fault` may be replaced at any time."""

    def __init__(self, upstream_port: int) -> None:
        super().__init__()
        self.fault = Fault()
        self._upstream_port = upstream_port

    async def open(self, place: socket.socket) -> asyncio.AbstractServer:
        return await asyncio.start_server(self._connected, sock=place, backlog=2048)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            passage = _Passage(self, writer)
            requests = asyncio.create_task(passage.pass_requests(reader, upstream_writer))
            answers = asyncio.create_task(passage.pass_answers(upstream_reader))
            try:
                await asyncio.wait({requests, answers}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                requests.cancel()
                answers.cancel()
                upstream_writer.close()
        writer.close()


class _Passage:
    """One connection of the gateway's and the one behind it."""

    def __init__(self, proxy: FaultProxy, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._writer = writer
        self._fault = proxy.fault
        self._passed_bytes = 0

    async def pass_requests(self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter) -> None:
        """Until the gateway leaves."""
        with contextlib.suppress(OSError):
            while data := await reader.read(READ_BYTES):
                self._fault, self._passed_bytes = self._proxy.fault, 0
                upstream.write(data)
                await upstream.drain()

    async def pass_answers(self, upstream: asyncio.StreamReader) -> None:
        """Until the upstream or the fault ends the connection."""
        with contextlib.suppress(OSError):
            while data := await upstream.read(READ_BYTES):
                fault = self._fault
                if fault.kind in ("none", "latency", "slow"):
                    await self._pass(data, fault)
                    continue
                room = max(0, fault.after_bytes - self._passed_bytes)
                await self._pass(data[:room], fault)
                if len(data) > room:
                    await self._fail(fault.kind, upstream)
                    return

    async def _pass(self, data: bytes, fault: Fault) -> None:
        step = SLOW_BYTES if fault.kind == "slow" else max(1, len(data))
        for start in range(0, len(data), step):
            if fault.delay_ms:
                await asyncio.sleep(fault.delay_ms / 1000)
            self._writer.write(data[start : start + step])
            await self._writer.drain()
        self._passed_bytes += len(data)

    async def _fail(self, kind: Kind, upstream: asyncio.StreamReader) -> None:
        if kind == "reset":
            reset(self._writer.transport)
        elif kind == "garbage":
            self._writer.write(GARBAGE)
            await self._writer.drain()
        elif kind in ("half_close", "black_hole"):
            if kind == "half_close":
                self._writer.write_eof()
            while await upstream.read(READ_BYTES):
                continue
            # The upstream is through; the socket to the gateway stays open until the gateway leaves.
            await asyncio.Event().wait()
