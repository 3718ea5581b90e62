"""Requests in, answers out: keep-alive, pipelining, bodies, and what is refused."""

import asyncio
import re
from typing import Any

import pytest

from penstock.errors import BodyTooLarge, InvalidRequest
from penstock.surfaces.http1.request import Request


async def test_one_connection_carries_one_request_after_another(echo: Any) -> None:
    caller = await echo.call()
    for n in range(20):
        caller.post(b"x" * n, f"/{n}")
        status, headers, body = await caller.answer()
        assert (status, body) == (200, f"POST /{n} {{{'x' * n}}}".encode())
        assert "connection" not in headers
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", headers["date"])
    assert echo.server.connections == 1


async def test_requests_sent_at_once_are_answered_in_their_order(serve: Any) -> None:
    async def handle(request: Request) -> None:
        await asyncio.sleep(0.03 if request.path == "/0" else 0)
        request.respond(200, [], request.path.encode() + await request.body(99))

    caller = await (await serve(handle)).call()
    for n in range(30):
        caller.post(b"+" * n, f"/{n}")
    for n in range(30):
        assert (await caller.answer())[2] == f"/{n}".encode() + b"+" * n


async def test_many_bytes_behind_a_request_wait_in_the_socket(serve: Any, eventually: Any) -> None:
    release = asyncio.Event()

    async def handle(request: Request) -> None:
        await release.wait()
        request.respond(200, [], b"%d" % len(await request.body(50_000_000)))

    caller = await (await serve(handle)).call()
    caller.get()
    await asyncio.sleep(0.02)
    caller.post(b"x" * 30_000_000)
    await asyncio.sleep(0.2)
    assert caller.writer.transport.get_write_buffer_size() > 10_000_000
    release.set()
    assert (await caller.answer())[2] == b"0"
    assert (await caller.answer())[2] == b"30000000"


async def test_a_caller_that_asks_to_close_is_closed(echo: Any) -> None:
    for head in ("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"):
        caller = await echo.call()
        caller.say(head.encode())
        status, headers, _ = await caller.answer()
        assert status == 200
        assert headers["connection"] == "close"
        assert await caller.closed(1) == b""


async def test_a_head_request_gets_the_head_alone(serve: Any) -> None:
    async def handle(request: Request) -> None:
        if request.path == "/plain":
            request.respond(200, [], b"four")
        else:
            request.start(200, [])
            await request.write(b"four")
            request.end()

    caller = await (await serve(handle)).call()
    for path in ("/plain", "/stream", "/plain"):
        caller.say(f"HEAD {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        status, headers, _ = await caller.answer("HEAD")
        assert status == 200
        assert headers.get("content-length") == ("4" if path == "/plain" else None)


async def test_an_answer_without_content_has_no_length(serve: Any) -> None:
    async def handle(request: Request) -> None:
        request.respond(204, [], b"")

    caller = await (await serve(handle)).call()
    for _ in range(2):
        caller.get()
        status, headers, _ = await caller.answer()
        assert status == 204
        assert "content-length" not in headers


async def test_a_stream_is_chunked_and_the_connection_goes_on(serve: Any) -> None:
    async def handle(request: Request) -> None:
        request.start(200, [(b"content-type", b"text/event-stream")])
        for n in range(10):
            await request.write(b"%d" % n)
            await request.write(b"")
        request.end()

    caller = await (await serve(handle)).call()
    for _ in range(3):
        caller.get()
        _, headers, body = await caller.answer()
        assert headers["transfer-encoding"] == "chunked"
        assert body == b"0123456789"


async def test_a_stream_for_http_1_0_ends_with_the_connection(serve: Any) -> None:
    async def handle(request: Request) -> None:
        request.start(200, [])
        await request.write(b"one ")
        await request.write(b"two")
        request.end()

    caller = await (await serve(handle)).call()
    caller.say(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
    _, headers, body = await caller.answer()
    assert "transfer-encoding" not in headers
    assert headers["connection"] == "close"
    assert body == b"one two"


async def test_the_head_of_a_stream_does_not_wait_for_its_first_chunk(serve: Any) -> None:
    release = asyncio.Event()

    async def handle(request: Request) -> None:
        request.start(200, [(b"x-request-id", b"req_1")])
        await release.wait()
        await request.write(b"late")
        request.end()

    caller = await (await serve(handle)).call()
    caller.get()
    async with asyncio.timeout(1):
        assert b"x-request-id: req_1" in await caller.reader.readuntil(b"\r\n\r\n")
    release.set()
    assert await caller.chunk() == b"late"
    assert await caller.chunk() == b""


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
async def test_a_body_arrives_whole_by_length_and_by_chunks(echo: Any, size: int) -> None:
    caller = await echo.call()
    body = b"x" * size
    shown = size if size > 100 else "x" * size
    caller.post(body)
    assert (await caller.answer())[2] == f"POST / {{{shown}}}".encode()
    caller.say(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    for start in range(0, size, 50_000):
        piece = body[start : start + 50_000]
        caller.say(b"%x\r\n%b\r\n" % (len(piece), piece))
    caller.say(b"0\r\n\r\n")
    assert (await caller.answer())[2] == f"POST / {{{shown}}}".encode()


async def test_continue_is_said_when_the_body_is_wanted_and_only_then(serve: Any) -> None:
    async def handle(request: Request) -> None:
        if request.path == "/no":
            request.respond(401, [], b"no")
        else:
            request.respond(200, [], await request.body(100))

    served = await serve(handle)
    caller = await served.call()
    caller.say(b"POST /yes HTTP/1.1\r\nhost: x\r\nexpect: 100-Continue\r\ncontent-length: 2\r\n\r\n")
    assert (await caller.answer())[0] == 100
    caller.say(b"ok")
    assert (await caller.answer())[::2] == (200, b"ok")
    caller.say(b"POST /no HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
    status, headers, _ = await caller.answer()
    assert status == 401
    assert headers["connection"] == "close"  # nobody can know whether the body will come
    assert await caller.closed(1) == b""


async def _limited(request: Request) -> None:
    try:
        request.respond(200, [], b"%d" % len(await request.body(1000)))
    except BodyTooLarge:
        request.respond(413, [], b"too large")


async def test_a_declared_body_over_the_limit_is_refused_before_it_comes(serve: Any) -> None:
    served = await serve(_limited)
    for extra in (b"", b"expect: 100-continue\r\n"):
        caller = await served.call()
        caller.say(b"POST / HTTP/1.1\r\nhost: x\r\n%bcontent-length: 10000000000\r\n\r\n" % extra)
        status, headers, body = await caller.answer()
        assert (status, body) == (413, b"too large")
        assert headers["connection"] == "close"


async def test_a_chunked_body_over_the_limit_is_refused_as_soon_as_it_is(serve: Any) -> None:
    caller = await (await serve(_limited)).call()
    caller.say(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    caller.say(b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\nx\r\n")
    assert (await caller.answer())[::2] == (413, b"too large")


async def test_a_caller_in_the_middle_of_a_large_upload_can_read_the_refusal(serve: Any) -> None:
    served = await serve(_limited)
    for _ in range(5):
        caller = await served.call()
        caller.post(b"x" * 8_000_000)
        status, headers, body = await caller.answer()
        assert (status, headers["connection"], body) == (413, "close", b"too large")
        assert await caller.closed(1) == b""


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_small_body_that_nobody_read_does_not_cost_the_connection(serve: Any, is_chunked: bool) -> None:
    async def handle(request: Request) -> None:
        request.respond(200, [], request.path.encode())

    caller = await (await serve(handle)).call()
    for n in range(3):
        framing = b"transfer-encoding: chunked" if is_chunked else b"content-length: 20000"
        caller.say(b"POST /%d HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n" % (n, framing))
        status, headers, body = await caller.answer()
        assert (status, body) == (200, b"/%d" % n)
        assert "connection" not in headers
        caller.say(b"4e20\r\n" + b"x" * 20_000 + b"\r\n0\r\n\r\n" if is_chunked else b"x" * 20_000)


async def test_a_large_chunked_body_that_nobody_read_closes_the_connection(serve: Any) -> None:
    async def handle(request: Request) -> None:
        request.respond(200, [], b"unread")

    caller = await (await serve(handle)).call()
    caller.say(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    assert (await caller.answer())[2] == b"unread"
    for _ in range(10):
        caller.say(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
    assert await caller.closed(1) == b""


async def test_a_body_that_breaks_off_is_told_to_its_handler(serve: Any, eventually: Any) -> None:
    told: list[str] = []

    async def handle(request: Request) -> None:
        try:
            await request.body(1000)
        except InvalidRequest as error:
            told.append(error.message)

    caller = await (await serve(handle)).call()
    caller.say(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf")
    await asyncio.sleep(0.05)
    caller.leave()
    await eventually(lambda: told)
    assert told == ["The request's body did not arrive whole."]


HOST = b"POST / HTTP/1.1\r\nhost: x\r\n"
CHUNKED = HOST + b"transfer-encoding: chunked\r\n"
REFUSED = {
    "both lengths": (HOST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "both lengths, other order": (CHUNKED + b"content-length: 5\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (HOST + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello", 400),
    "a list of lengths": (HOST + b"content-length: 5, 5\r\n\r\nhello", 400),
    "a signed length": (HOST + b"content-length: +5\r\n\r\nhello", 400),
    "a negative length": (HOST + b"content-length: -5\r\n\r\nhello", 400),
    "a hexadecimal length": (HOST + b"content-length: 0x5\r\n\r\nhello", 400),
    "an endless length": (HOST + b"content-length: 18446744073709551617\r\n\r\n", 400),
    "no length after its name": (HOST + b"content-length:\r\n\r\n", 400),
    "two transfer-encodings": (CHUNKED + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked not last": (HOST + b"transfer-encoding: chunked, identity\r\n\r\n", 400),
    "an unknown transfer-encoding": (HOST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "a look-alike of chunked": (HOST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    "identity": (HOST + b"transfer-encoding: identity\r\n\r\n", 501),
    "a vertical tab before chunked": (HOST + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "chunked in HTTP/1.0": (b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a folded field": (HOST + b"a: b\r\n c\r\n\r\n", 400),
    "a folded transfer-encoding": (HOST + b"transfer-encoding:\r\n chunked\r\n\r\n", 400),
    "a space before the colon": (HOST + b"content-length : 5\r\n\r\nhello", 400),
    "a field without a name": (HOST + b": y\r\n\r\n", 400),
    "bare line feeds": (b"GET / HTTP/1.1\nhost: x\n\n", 400),
    "a bare carriage return": (b"GET / HTTP/1.1\r\nhost: x\ry: z\r\n\r\n", 400),
    "a null in a value": (b"GET / HTTP/1.1\r\nhost: x\0y\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nhost: x\r\n\r\n", 400),
    "HTTP/2.0 in words": (b"GET / HTTP/2.0\r\nhost: x\r\n\r\n", 505),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "bytes in the target": (b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "an encoded null in the path": (b"GET /%00 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "an unknown method": (b"BREW / HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a tunnel": (b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n", 405),
    "another expectation": (HOST + b"expect: 200-ok\r\n\r\n", 417),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "a head without end": (b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 400_000, 431),
    "a target without end": (b"GET /" + b"y" * 400_000, 431),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
async def test_what_could_be_read_in_two_ways_is_refused(echo: Any, is_refusal: Any, name: str) -> None:
    data, status = REFUSED[name]
    caller = await echo.call()
    caller.say(data)
    answer = await caller.answer()
    assert answer[0] == status
    assert is_refusal(answer)
    assert await caller.closed(1) == b""


BAD_CHUNKS = [
    b"5 \r\nhello\r\n",
    b"5\nhello\r\n",
    b"5\r\nhelloX0\r\n",
    b"0x5\r\nhello\r\n",
    b"-5\r\nhello\r\n",
    b"f" * 17 + b"\r\n",
]


@pytest.mark.parametrize("chunk", BAD_CHUNKS)
async def test_a_badly_chunked_body_is_not_a_body(serve: Any, chunk: bytes) -> None:
    async def handle(request: Request) -> None:
        try:
            request.respond(200, [], await request.body(1000))
        except InvalidRequest as error:
            request.respond(400, [], error.message.encode())

    caller = await (await serve(handle)).call()
    caller.say(CHUNKED + b"\r\n" + chunk + b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n")
    status, headers, _ = await caller.answer()
    assert (status, headers["connection"]) == (400, "close")
    assert await caller.closed(1) == b""


@pytest.mark.parametrize(
    "head",
    [
        b"GET http://other/absolute HTTP/1.1\r\nhost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost:\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx: caf\xe9\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
async def test_what_is_unusual_and_clear_is_served(echo: Any, head: bytes) -> None:
    caller = await echo.call()
    for _ in range(2):
        caller.say(head)
        assert (await caller.answer())[0] == 200


async def test_an_answer_with_a_line_break_in_a_header_becomes_a_fault_of_ours(
    serve: Any, is_refusal: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(request: Request) -> None:
        request.respond(200, [(b"x-model", b"a\r\nset-cookie: b")], b"")

    caller = await (await serve(handle)).call()
    caller.get()
    answer = await caller.answer()
    assert answer[0] == 500
    assert is_refusal(answer)
    assert "was not answered" in caplog.text
