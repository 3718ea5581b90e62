"""The transport against servers that people run."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from penstock.domain.http import Origin, header


@pytest.fixture
async def aiohttp_server() -> AsyncIterator[Origin]:
    async def echo(request: web.Request) -> web.Response:
        response = web.Response(body=await request.read(), headers={"x-seen": request.headers.get("x-seen", "")})
        if "gzip" in request.headers.get("accept-encoding", ""):
            response.enable_compression(web.ContentCoding.gzip)
        return response

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number in range(20):
            await response.write(b"data: %d\n\n" % number)
            await asyncio.sleep(0.001)
        return response

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/echo", echo)
    app.router.add_get("/stream", stream)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield Origin("http", "127.0.0.1", runner.addresses[0][1])
    await runner.cleanup()


def nothing() -> None:
    """An `on_dispatch` that has nothing to do."""


async def test_nginx_answers_over_connections_that_it_closes_every_fifth_request(nginx, connect, ask):
    transport = connect()
    for _ in range(23):
        response = await transport.send(ask(nginx["http"], "/hello"), nothing)
        assert (response.status, await response.read_all(100)) == (200, b"hello")


async def test_nginx_answers_over_tls(nginx, connect, ask, ca_file):
    transport = connect(ca_file=ca_file)
    for path, body in [("/hello", b"hello"), ("/none", b""), ("/hello", b"hello")]:
        response = await transport.send(ask(nginx["https"], path), nothing)
        assert await response.read_all(100) == body


async def test_nginx_sends_a_large_file_whole(nginx, connect, ask, ca_file):
    for scheme in ("http", "https"):
        response = await connect(ca_file=ca_file).send(ask(nginx[scheme], "/large"), nothing)
        assert len(await response.read_all(6_000_000)) == 5 * 1024 * 1024


async def test_nginx_answers_head_and_204_without_a_body_and_the_connection_goes_on(nginx, connect, ask):
    transport = connect(max_connections=1)
    for method, path, status in [("HEAD", "/large", 200), ("GET", "/none", 204), ("HEAD", "/absent", 404)]:
        response = await transport.send(ask(nginx["http"], path, method=method), nothing)
        assert (response.status, await response.read()) == (status, b"")
    response = await transport.send(ask(nginx["http"], "/hello"), nothing)
    assert await response.read_all(100) == b"hello"


async def test_gzip_of_nginx_is_undone_and_not_asked_for_unless_the_request_does(nginx, connect, ask):
    transport = connect()
    for headers in ([], [("accept-encoding", "gzip")]):
        response = await transport.send(ask(nginx["http"], "/zipped", headers=headers), nothing)
        assert header(response.headers, "content-encoding") is None
        assert await response.read_all(200_000) == b"a long text " * 10_000


async def test_the_413_of_nginx_arrives_although_the_body_is_still_on_its_way(nginx, connect, ask):
    transport = connect()
    response = await transport.send(ask(nginx["http"], "/upload", body=b"x" * 20_000_000), nothing)
    assert response.status == 413
    assert b"Too Large" in await response.read_all(10_000)


async def test_aiohttp_echoes_bodies_of_every_size(aiohttp_server, connect, ask):
    transport = connect()
    for size in (1, 1_000, 70_000, 262_144, 262_145, 5_000_000):
        body = bytes(size)
        response = await transport.send(ask(aiohttp_server, "/echo", body=body), nothing)
        assert await response.read_all(size) == body


async def test_aiohttp_compresses_and_the_reader_sees_plain_bytes(aiohttp_server, connect, ask):
    body = b"again and again " * 50_000
    request = ask(aiohttp_server, "/echo", body=body, headers=[("accept-encoding", "gzip")])
    assert await (await connect().send(request, nothing)).read_all(len(body)) == body


async def test_aiohttp_sends_100_continue_first_and_it_is_not_taken_for_the_answer(aiohttp_server, connect, ask):
    request = ask(aiohttp_server, "/echo", body=b"hi", headers=[("expect", "100-continue"), ("x-seen", "b\u00e9")])
    response = await connect().send(request, nothing)
    assert response.status == 200
    assert header(response.headers, "x-seen") is not None
    assert await response.read_all(10) == b"hi"


async def test_a_stream_is_handed_over_as_it_comes(aiohttp_server, granian, connect, ask):
    transport = connect()
    for origin in (aiohttp_server, granian):
        response = await transport.send(ask(origin, "/stream"), nothing)
        parts = []
        while part := await response.read():
            parts.append(part)
        assert b"".join(parts) == b"".join(b"data: %d\n\n" % number for number in range(20))
        assert len(parts) > 5


async def test_granian_echoes_in_parallel_over_few_connections(granian, connect, ask):
    transport = connect(max_connections=5)

    async def call(number: int) -> None:
        body = b"%d" % number * 100
        response = await transport.send(ask(granian, "/echo", body=body), nothing)
        assert await response.read_all(10_000) == body

    await asyncio.gather(*(call(number) for number in range(200)))


async def test_granian_refuses_early_and_the_refusal_is_read(granian, connect, ask):
    transport = connect()
    response = await transport.send(ask(granian, "/early", body=b"x" * 300), nothing)
    assert response.status == 413
    await response.read_all(1_000)
