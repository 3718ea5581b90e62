"""The benchmark's upstream: a process that answers chat completions, and messages, with prebuilt bytes.

`python -m penstock.testing.bench.upstream` binds a free port of 127.0.0.1, prints it on one line and serves until it is
terminated. A stream's chunks leave in one write each: unpaced with nothing but the other streams in between, paced one
every 10 ms, counted from the stream's beginning so that delays do not add up.
"""

import asyncio
import re
from typing import cast

import uvloop

from penstock.testing.bench.traffic import (
    PACE_S,
    STREAM_HEAD,
    message_chunks,
    plain_answer,
    plain_message,
    stream_chunks,
)

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream" ?: ?true')
_USAGE = re.compile(rb'"include_usage" ?: ?true')
_PLAIN_ANSWER = plain_answer()
_STREAMS = {False: stream_chunks(False), True: stream_chunks(True)}
_MESSAGES = b"POST /v1/messages "
_PLAIN_MESSAGE = plain_message()
_MESSAGE_STREAM = message_chunks()
_REFUSAL = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"


class Upstream(asyncio.Protocol):
    """One connection: requests with a content-length, one after the other."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._chunks: list[bytes] = []
        self._sent = 0
        self._began_s = 0.0
        self._timer: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        length = _LENGTH.search(self._received, 0, head_end)
        if length is None:
            self._received = b""
            self._transport.write(_REFUSAL)
            return
        end = head_end + 4 + int(length.group(1))
        if len(self._received) >= end:
            is_message = self._received.startswith(_MESSAGES)
            body, self._received = self._received[head_end + 4 : end], self._received[end:]
            self._answer(body, is_message)

    def _answer(self, body: bytes, is_message: bool) -> None:
        if not _STREAM.search(body):
            self._transport.write(_PLAIN_MESSAGE if is_message else _PLAIN_ANSWER)
            return
        self._chunks = _MESSAGE_STREAM if is_message else _STREAMS[_USAGE.search(body) is not None]
        self._transport.write(STREAM_HEAD + self._chunks[0])
        self._sent = 1
        self._began_s = self._loop.time()
        if b"bench-paced" in body:
            self._timer = self._loop.call_at(self._began_s + PACE_S, self._write_paced)
        else:
            self._timer = self._loop.call_soon(self._write_unpaced)

    def _write_unpaced(self) -> None:
        if self._write_next():
            self._timer = self._loop.call_soon(self._write_unpaced)

    def _write_paced(self) -> None:
        if self._write_next():
            self._timer = self._loop.call_at(self._began_s + self._sent * PACE_S, self._write_paced)

    def _write_next(self) -> bool:
        """Whether chunks are left after this one."""
        self._transport.write(self._chunks[self._sent])
        self._sent += 1
        return self._sent < len(self._chunks)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - the port is this process's answer
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
