"""Servers to talk to, and both event loops to do it on."""

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from penstock.domain.http import HttpRequest, Origin, Timeouts
from penstock.testing.ports import free_ports
from penstock.upstream.http1 import Http1Transport, TransportSettings


def pytest_asyncio_loop_factories(config: Any, item: Any) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Peer:
    """The server's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def request(self) -> tuple[str, bytes]:
        """(request line and headers, body) of the next request; `EOFError` when the client is gone."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = [line.split(": ")[1] for line in head.split("\r\n") if line.startswith("content-length: ")]
        return head, await self.reader.readexactly(int(length[0]) if length else 0)

    async def send(self, data: bytes) -> None:
        if self.writer.transport.is_closing():
            raise ConnectionResetError
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body: bytes = b"ok", extra: str = "") -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
        await self.send(head.encode("latin-1") + body)

    async def gone(self) -> None:
        """Returns when the client has closed."""
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def reset(self) -> None:
        """Closes with a RST."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()


class Scripted:
    """A raw server. `connections` counts those accepted, `live` those that are open now."""

    def __init__(self, script: Callable[[Peer], Awaitable[None]]) -> None:
        self.script = script
        self.connections = 0
        self.live = 0
        self.faults: list[BaseException] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.scheme = "http"
        self.host = "127.0.0.1"

    @property
    def origin(self) -> Origin:
        return Origin(self.scheme, self.host, self.port)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        self.live += 1
        try:
            await self.script(Peer(reader, writer))
        except (EOFError, ConnectionError, ssl.SSLError):
            pass
        except Exception as fault:
            self.faults.append(fault)
        finally:
            self.live -= 1
            self.tasks.discard(task)
            writer.close()


@pytest.fixture
async def listen() -> AsyncIterator[Callable[..., Awaitable[Scripted]]]:
    """`await listen(script, tls=None)`: a server that runs `script(peer)` for each connection."""
    opened: list[tuple[asyncio.Server, Scripted]] = []

    async def start(script: Callable[[Peer], Awaitable[None]], tls: ssl.SSLContext | None = None) -> Scripted:
        scripted = Scripted(script)
        server = await asyncio.start_server(scripted.accept, "127.0.0.1", 0, ssl=tls)
        scripted.port = server.sockets[0].getsockname()[1]
        scripted.scheme = "https" if tls else "http"
        opened.append((server, scripted))
        return scripted

    yield start
    for server, scripted in opened:
        server.close()
        for task in list(scripted.tasks):
            task.cancel()
        await asyncio.gather(*scripted.tasks, return_exceptions=True)
        assert scripted.faults == []
    await asyncio.sleep(0.01)


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., Http1Transport]]:
    """`connect(max_connections=..., ...)`: a transport, closed after the test."""
    opened: list[Http1Transport] = []

    def make(**settings: Any) -> Http1Transport:
        opened.append(Http1Transport(TransportSettings(**settings)))
        return opened[-1]

    yield make
    for transport in opened:
        await transport.close()
    await asyncio.sleep(0.01)


@pytest.fixture
def ask() -> Callable[..., HttpRequest]:
    """`ask(origin, path="/", body=b"", repeatable=False, total_ms=..., ...)`: a request."""

    def make(origin: Origin, path: str = "/", **fields: Any) -> HttpRequest:
        bounds = {name: fields.pop(name) for name in list(fields) if name.endswith("_ms")}
        body = fields.pop("body", b"")
        method = fields.pop("method", "POST" if body else "GET")
        headers = fields.pop("headers", [])
        defaults = {"connect_ms": 5_000, "first_byte_ms": 10_000, "between_chunks_ms": 10_000, "total_ms": 30_000}
        return HttpRequest(method, origin, path, headers, body, Timeouts(**{**defaults, **bounds}), **fields)

    return make


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture
def tls_of() -> Callable[[trustme.LeafCert], ssl.SSLContext]:
    """The server's side of TLS with a certificate."""

    def make(certificate: trustme.LeafCert) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(context)
        return context

    return make


@pytest.fixture
def server_tls(authority: trustme.CA, tls_of: Callable[[trustme.LeafCert], ssl.SSLContext]) -> ssl.SSLContext:
    return tls_of(authority.issue_cert("localhost", "127.0.0.1"))


def started(command: list[str], port: int, folder: Path) -> Iterator[int]:
    """Runs a server until the tests are over; `port` once it accepts."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            for _ in range(200):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            process.wait(10)


NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; default_type text/plain; keepalive_requests 5; keepalive_timeout 2s;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; gzip_types text/plain; gzip_min_length 1;
  server {{
    listen 127.0.0.1:{port}; listen 127.0.0.1:{tls_port} ssl;
    ssl_certificate {folder}/chain.pem; ssl_certificate_key {folder}/chain.pem;
    root {folder}; client_max_body_size 1k;
    location = /hello {{ return 200 "hello"; }}
    location = /none {{ return 204; }}
    location = /zipped {{ gzip on; alias {folder}/text; }}
    location = /upload {{ proxy_pass http://127.0.0.1:1; }}
  }}
}}
"""


@pytest.fixture(scope="session")
def nginx(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Origin]]:
    """A real nginx: its origins `http` and `https`."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if binary is None:
        pytest.skip("nginx is not installed")
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o755)
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(folder / "chain.pem")
    (folder / "text").write_bytes(b"a long text " * 10_000)
    (folder / "large").write_bytes(os.urandom(1024) * 5 * 1024)
    port, tls_port = free_ports(2)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "conf").write_text(user + NGINX.format(folder=folder, port=port, tls_port=tls_port))
    command = [binary, "-p", str(folder), "-c", str(folder / "conf"), "-e", str(folder / "error.log")]
    for _ in started(command, port, folder):
        yield {"http": Origin("http", "127.0.0.1", port), "https": Origin("https", "127.0.0.1", tls_port)}


GRANIAN_APP = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("http only")
    body, more = b"", True
    while more and scope["path"] != "/early":
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    status = 413 if scope["path"] == "/early" else 200
    await send({"type": "http.response.start", "status": status, "headers": [(b"x-length", str(len(body)).encode())]})
    if scope["path"] == "/stream":
        for number in range(20):
            await send({"type": "http.response.body", "body": b"data: %d\\n\\n" % number, "more_body": True})
            await asyncio.sleep(0.005)
    await send({"type": "http.response.body", "body": b"" if scope["path"] == "/stream" else body})
"""


@pytest.fixture(scope="session")
def granian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    """A real Granian: echoes, streams on `/stream`, refuses on `/early` before the body is there."""
    folder = tmp_path_factory.mktemp("granian")
    (folder / "echoing.py").write_text(GRANIAN_APP)
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--port", str(port), "echoing:app"]
    for _ in started(command, port, folder):
        yield Origin("http", "127.0.0.1", port)
