"""What a damaged or hostile server can say, over real sockets. The parser's laws are in the unit tests."""

import asyncio
import gzip
import zlib

import pytest

from penstock.domain.http import header
from penstock.errors import UpstreamConnectFailed, UpstreamMalformed, UpstreamReset, UpstreamTimeout

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


def nothing() -> None:
    """An `on_dispatch` that has nothing to do."""


@pytest.fixture
def answer_of(listen, connect, ask):
    """`await answer_of(data, reset=False)`: (response, body) of a server that says `data` and closes."""

    async def call(data: bytes, reset: bool = False, step: int = 0, **fields):
        async def say(peer):
            await peer.request()
            width = step or len(data) or 1
            for start in range(0, len(data), width):
                await peer.send(data[start : start + width])
                await asyncio.sleep(0)
            if reset:
                await asyncio.sleep(0.02)
                peer.reset()

        server = await listen(say)
        try:
            response = await connect().send(ask(server.origin, **fields), nothing)
            return response, await response.read_all(10_000_000)
        finally:
            await asyncio.sleep(0.03)
            assert server.live == 0

    return call


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (OK + b"content-length: 2\r\n\r\nok", b"ok"),
        (CHUNKED + b"1\r\no\r\n1;ext=1\r\nk\r\n0\r\nx-trailer: 1\r\n\r\n", b"ok"),
        (OK + b"\r\nuntil the close", b"until the close"),
        (b"HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nuntil the close", b"until the close"),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
            + OK
            + b"content-length: 0\r\n\r\n",
            b"",
        ),
        (OK + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nok", b"ok"),
        (OK + b"content-encoding: identity\r\ncontent-length: 2\r\n\r\nok", b"ok"),
    ],
    ids=["length", "chunked", "close", "http-1.0-close", "informational", "upgrade-offered", "identity"],
)
@pytest.mark.parametrize("step", [0, 1, 7])
async def test_every_framing_is_read_in_any_pieces(data, body, step, answer_of):
    response, read = await answer_of(data, step=step)
    assert (response.status, read) == (200, body)
    assert header(response.headers, "x-trailer") is None
    assert header(response.headers, "link") is None


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize(
    "data",
    [b"", b"HTTP/1", OK + b"content-le", OK + b"content-length: 5\r\n\r\n", OK + b"content-length: 5\r\n\r\nfour",
     CHUNKED, CHUNKED + b"5\r\nhe", CHUNKED + b"5\r\nhello\r\n", CHUNKED + b"5\r\nhello\r\n0\r\n",
     b"HTTP/1.1 100 Continue\r\n\r\n"],
)  # fmt: skip
async def test_every_truncation_is_a_reset(data, reset, answer_of):
    with pytest.raises(UpstreamReset):
        await answer_of(data, reset)


async def test_a_body_until_the_close_that_ends_in_a_rst_is_a_reset(answer_of):
    with pytest.raises(UpstreamReset):
        await answer_of(OK + b"\r\nuntil the", reset=True)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
        b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"RTSP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 20x OK\r\n\r\n",
        b"HTTP/1.1 000 No\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
        OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        OK + b"content-length: -5\r\n\r\nhello",
        OK + b"content-length: 99999999999999999999\r\n\r\n",
        OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        CHUNKED + b"zz\r\nhello\r\n",
        CHUNKED + b"fffffffffffffffff\r\nhello\r\n",
        CHUNKED + b"5\r\nhelloXX0\r\n\r\n",
        CHUNKED + b"5\nhello\n0\n\n",
        CHUNKED + b"5;" + b"x" * 200_000,
        CHUNKED + b"0\r\nx-trailer: " + b"x" * 200_000,
        OK + b"bad header\r\n\r\n",
        OK + b"x: a\r\n folded\r\n\r\n",
        OK + b"x: \0\r\n\r\n",
        OK + b"".join(b"x-%d: 1\r\n" % number for number in range(201)) + b"content-length: 0\r\n\r\n",
        OK + b"x: " + b"x" * 70_000 + b"\r\ncontent-length: 0\r\n\r\n",
        OK + b"x" * 1_000_000,
        OK + b"content-encoding: br\r\ncontent-length: 2\r\n\r\nok",
    ],
    ids=lambda data: data[:60].hex()[:12] + str(len(data)),
)
async def test_what_is_not_well_formed_is_malformed(data, answer_of):
    with pytest.raises(UpstreamMalformed):
        await answer_of(data)


async def test_the_largest_allowed_head_is_taken(answer_of):
    head = b"".join(b"x-%d: %b\r\n" % (number, b"v" * 300) for number in range(199))
    response, _ = await answer_of(OK + head + b"content-length: 0\r\n\r\n")
    assert len(response.headers) == 200


async def test_what_came_before_a_fault_is_handed_over_first(listen, connect, ask):
    async def damage(peer):
        await peer.request()
        await peer.send(CHUNKED + b"5\r\nhello\r\nzz\r\n")
        await peer.gone()

    server = await listen(damage)
    response = await connect().send(ask(server.origin), nothing)
    assert await response.read() == b"hello"
    for _ in range(2):
        with pytest.raises(UpstreamMalformed):
            await response.read()


async def test_the_end_of_a_body_stays_its_end(answer_of):
    response, _ = await answer_of(OK + b"content-length: 2\r\n\r\nok")
    assert [await response.read(), await response.read()] == [b"", b""]


async def test_a_server_that_talks_before_it_is_asked_is_believed_once_at_most(listen, connect, ask):
    async def eager(peer):
        await peer.send(OK + b"content-length: 5\r\n\r\nearly")
        await peer.gone()

    server = await listen(eager)
    transport = connect()
    outcomes = []
    for _ in range(5):
        try:
            response = await transport.send(ask(server.origin, first_byte_ms=50), nothing)
            outcomes.append(await response.read_all(10))
        except (UpstreamConnectFailed, UpstreamReset, UpstreamTimeout) as fault:
            outcomes.append(fault.code.encode())
    assert server.connections >= outcomes.count(b"early")


def deflated(data: bytes, window: int) -> bytes:
    coder = zlib.compressobj(wbits=window)
    return coder.compress(data) + coder.flush()


TEXT = b"a line of text\n" * 5_000


@pytest.mark.parametrize(
    ("coding", "coded"),
    [
        ("gzip", gzip.compress(TEXT)),
        ("X-GZIP", gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:])),
        ("deflate", deflated(TEXT, 15)),
        ("deflate", deflated(TEXT, -15)),
    ],
    ids=["gzip", "two-members", "zlib", "bare-deflate"],
)
@pytest.mark.parametrize("step", [0, 11])
async def test_a_coded_body_is_undone_and_the_headers_say_so(coding, coded, step, answer_of):
    head = f"content-encoding: {coding}\r\ncontent-length: {len(coded)}\r\nx-other: 1\r\n\r\n".encode()
    response, body = await answer_of(OK + head + coded, step=step)
    assert body == TEXT
    assert response.headers == [("x-other", "1")]


@pytest.mark.parametrize("damage", ["cut", "changed", "excess"])
async def test_a_damaged_coded_body_is_malformed_and_stays_so(damage, listen, connect, ask):
    coded = gzip.compress(TEXT)
    coded = {"cut": coded[:-9], "changed": coded[:-8] + bytes(8), "excess": coded + b"more"}[damage]

    async def say(peer):
        await peer.request()
        await peer.answer(coded, "content-encoding: gzip\r\n")
        await peer.gone()

    server = await listen(say)
    response = await connect().send(ask(server.origin), nothing)
    for _ in range(2):
        with pytest.raises(UpstreamMalformed):
            await response.read_all(1_000_000)


async def test_a_bomb_stops_at_the_readers_limit(listen, connect, ask):
    bomb = deflated(bytes(300_000_000), 31)

    async def say(peer):
        await peer.request()
        await peer.answer(bomb, "content-encoding: gzip\r\n")
        await peer.gone()

    server = await listen(say)
    response = await connect().send(ask(server.origin), nothing)
    assert 0 < len(await response.read()) <= 256 * 1024
    with pytest.raises(UpstreamMalformed):
        await response.read_all(2_000_000)
