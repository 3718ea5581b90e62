"""A server on a real socket, on both event loops, and a caller that says exactly the bytes it wants."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
import uvloop

from penstock.app.box import bind
from penstock.surfaces.http1.protocol import ServerLimits
from penstock.surfaces.http1.request import Request
from penstock.surfaces.http1.server import HttpServer

Handle = Callable[[Request], Awaitable[None]]


def pytest_asyncio_loop_factories(config: Any, item: Any) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Caller:
    """One connection of a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    def get(self, path: str = "/", extra: str = "") -> None:
        self.say(f"GET {path} HTTP/1.1\r\nhost: x\r\n{extra}\r\n".encode())

    def post(self, body: bytes, path: str = "/", extra: str = "") -> None:
        self.say(f"POST {path} HTTP/1.1\r\nhost: x\r\n{extra}content-length: {len(body)}\r\n\r\n".encode() + body)

    async def answer(self, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body) of the next answer; `IncompleteReadError` when it is cut."""
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status = int(head[9:12])
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            if method == "HEAD" or status in (100, 204, 304):
                return status, fields, b""
            if "content-length" in fields:
                return status, fields, await self.reader.readexactly(int(fields["content-length"]))
            if "transfer-encoding" not in fields:
                return status, fields, await self.reader.read()
            body = bytearray()
            while piece := await self.chunk():
                body += piece
            return status, fields, bytes(body)

    async def chunk(self) -> bytes:
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def closed(self, within_s: float) -> bytes:
        """What still came, when the server has closed."""
        async with asyncio.timeout(within_s):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    def leave(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()


class Served:
    """A running server and the way to it."""

    def __init__(self, server: HttpServer, port: int) -> None:
        self.server = server
        self.port = port
        self.callers: list[Caller] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def call(self, receive_bytes: int | None = None) -> Caller:
        """Connects. `receive_bytes`: how little the kernel takes in for a caller that does not read."""
        raw = socket.socket()
        if receive_bytes:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        raw.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self.port))
        except OSError:
            raw.close()
            raise
        caller = Caller(*await asyncio.open_connection(sock=raw, limit=2**16))
        self.callers.append(caller)
        return caller


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[Served]]]:
    """`await serve(handle, max_connections=..., ...)`: a server of its own, closed after the test."""
    opened: list[Served] = []

    async def start(handle: Handle, **limits: int) -> Served:
        server = HttpServer(handle, ServerLimits(**limits))
        sockets = bind("127.0.0.1", 0, 1)
        await server.listen(sockets)
        served = Served(server, sockets[0][0].getsockname()[1])
        opened.append(served)
        return served

    yield start
    for served in opened:
        for caller in served.callers:
            caller.leave()
        await served.server.close(within_s=2)
        await asyncio.sleep(0.02)
        assert served.server.connections == 0


@pytest.fixture
async def echo(serve: Callable[..., Awaitable[Served]]) -> Served:
    """A server that says what it was asked: method, path, and body in braces."""

    async def handle(request: Request) -> None:
        body = await request.body(10_000_000)
        text = f"{request.method} {request.path} {{{len(body) if len(body) > 100 else body.decode()}}}"
        request.respond(200, [(b"x-request-id", b"req_1")], text.encode())

    return await serve(handle)


REQUEST_ID = re.compile(r"req_[0-9a-f]{27}")


@pytest.fixture
def is_refusal() -> Callable[[tuple[int, dict[str, str], bytes]], bool]:
    """Whether an answer is the server's own refusal, with all that one must have."""

    def check(answer: tuple[int, dict[str, str], bytes]) -> bool:
        status, headers, body = answer
        return (
            status >= 400
            and REQUEST_ID.fullmatch(headers["x-request-id"]) is not None
            and bool(headers["x-penstock-error"])
            and headers["content-type"] == "application/json"
            and headers["connection"] == "close"
            and b'"error"' in body
        )

    return check


async def eventually(condition: Callable[[], object], within_s: float = 3.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[..., Awaitable[None]]:
    return eventually
