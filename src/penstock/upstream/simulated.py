"""Plays the simulated provider's scripts as if they came over a socket."""

import asyncio
from collections.abc import Callable

import msgspec

from penstock.domain.http import Headers, HttpRequest
from penstock.domain.snapshot import Provider
from penstock.errors import UpstreamMalformed, UpstreamReset
from penstock.providers.simulated import Options, Script, play


class SimulatedTransport:
    """The transport of one simulated provider."""

    def __init__(self, provider: Provider) -> None:
        self._options = msgspec.convert(provider.options, Options)

    async def send(self, request: HttpRequest, on_dispatch: Callable[[], None]) -> "Playing":
        on_dispatch()
        script = play(self._options, request.path, request.body)
        if script.latency_ms:
            await asyncio.sleep(script.latency_ms / 1000)
        return Playing(script)

    async def close(self) -> None:
        """Nothing is open."""


class Playing:
    """One answer being played."""

    def __init__(self, script: Script) -> None:
        self.status = script.status
        self.headers: Headers = list(script.headers)
        self._script = script
        self._next = 0
        self._aborted = False

    async def read(self) -> bytes:
        if self._aborted:
            raise UpstreamReset("The call was given up.")
        chunks, delay_ms = self._script.chunks, self._script.chunk_delay_ms
        if self._next >= len(chunks):
            if self._script.cut:
                raise UpstreamReset("The simulated provider broke the connection.")
            return b""
        if not delay_ms:
            self._next, start = len(chunks), self._next
            return b"".join(chunks[start:])
        if self._next:
            await asyncio.sleep(delay_ms / 1000)
        self._next += 1
        return chunks[self._next - 1]

    async def read_all(self, limit_bytes: int) -> bytes:
        body = b""
        while part := await self.read():
            body += part
        if len(body) > limit_bytes:
            raise UpstreamMalformed("The provider's answer is too large.")
        return body

    def abort(self) -> None:
        self._aborted = True

    def unread(self) -> bytes:
        """A chunk is made when it is read: none waits."""
        return b""
