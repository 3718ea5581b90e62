"""Laws of a connection: any split of the bytes tells the same story, and no bytes break it."""

import asyncio
import re
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import InvalidRequest
from penstock.surfaces.http1.protocol import Connection, ServerLimits, Shared
from penstock.surfaces.http1.request import Request

HEAD = b"POST /a%20b?c=d HTTP/1.1\r\nHost: x\r\nX-Twice: 1 \r\nx-twice:2\r\nx-empty:\r\n"
SAMPLES = {
    "length": HEAD + b"Content-Length: 11\r\n\r\nhello world",
    "chunked": HEAD + b"transfer-encoding: Chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nx-twice: 3\r\n\r\n",
    "no-body": b"\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "pipelined": b"GET /1 HTTP/1.1\r\nhost: x\r\n\r\n"
    + HEAD
    + b"content-length: 2\r\n\r\nokGET /3 HTTP/1.1\r\nhost: x\r\n\r\n",
    "trailers-then": HEAD
    + b"transfer-encoding: chunked\r\n\r\n0\r\nauthorization: evil\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "upgrade": HEAD
    + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\ncontent-length: 2\r\n\r\n"
    + b"okGET /2 HTTP/1.1\r\nhost: x\r\n\r\n",
    "upgrade-chunked": HEAD
    + b"connection: upgrade\r\nupgrade: h2c\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "old": b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
    "close": b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\nGET /2 HTTP/1.1\r\nhost: x\r\n\r\n",
    "bad-chunk": HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\nworld\r\n0\r\n\r\n",
    "bad-after-good": b"GET / HTTP/1.1\r\nhost: x\r\n\r\nNOT HTTP\r\n\r\n",
    "not-http": b"\x16\x03\x01\x02\x00\x01\x00",
}


class Socket:
    """A transport that notes what is written. It takes everything at once."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def get_extra_info(self, name: str) -> object:
        return ("192.0.2.1", 4711) if name == "peername" else None

    def write(self, data: bytes) -> None:
        assert not self.closed, "written after the end"
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closed = True

    close = abort = write_eof

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int) -> None:
        """Nothing is ever kept here."""

    def pause_reading(self) -> None:
        """Nothing is ever kept here."""

    resume_reading = pause_reading


Heard = tuple[str, str, str, dict[str, str], bytes]


async def _story(parts: list[bytes], **limits: int) -> tuple[list[Heard], bytes, bool]:
    """(requests as the handler saw them, bytes answered, closed) of a client that says `parts`."""
    heard: list[Heard] = []

    async def handle(request: Request) -> None:
        try:
            body = await request.body(1_000_000)
        except InvalidRequest:
            request.respond(400, [], b"bad body")
            return
        heard.append((request.method, request.target, request.path, request.headers, body))
        request.respond(200, [], b"ok %d" % len(heard))

    socket = Socket()
    shared = Shared(handle, ServerLimits(**limits))
    connection = Connection(shared)
    connection.connection_made(cast(Any, socket))
    for part in parts:
        if not socket.closed:
            connection.data_received(part)
        for _ in range(3):
            await asyncio.sleep(0)
    for _ in range(300 if shared.tasks else 3):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    await asyncio.sleep(0)
    assert not shared.connections
    assert not shared.tasks
    written = re.sub(rb"date: [^\r]*|req_[0-9a-f]{27}", b"", socket.written)
    return heard, written, socket.closed


def story(parts: list[bytes], **limits: int) -> tuple[list[Heard], bytes, bool]:
    return asyncio.run(_story(parts, **limits))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(SAMPLES)), st.lists(st.integers(0, 300), max_size=6))
def test_any_split_of_the_bytes_tells_the_same_story(name: str, cuts: list[int]) -> None:
    data = SAMPLES[name]
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    assert story([data[a:b] for a, b in pairwise(edges)]) == story([data])


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_byte_by_byte_tells_the_same_story(name: str) -> None:
    data = SAMPLES[name]
    assert story([data[n : n + 1] for n in range(len(data))]) == story([data])


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(SAMPLES)), st.integers(0, 300), st.binary(max_size=8))
def test_damaged_bytes_are_answered_or_refused_and_never_break_it(name: str, at: int, damage: bytes) -> None:
    data = SAMPLES[name]
    _, written, _ = story([data[:at] + damage + data[at + len(damage) :]])
    assert written == b"" or written.startswith(b"HTTP/1.1 ")
    assert b" 500 " not in written


def test_a_request_is_what_was_sent() -> None:
    (request,), _, closed = story([SAMPLES["length"]])
    headers = {"host": "x", "x-twice": "1, 2", "x-empty": "", "content-length": "11"}
    assert request == ("POST", "/a%20b?c=d", "/a b", headers, b"hello world")
    assert not closed


def test_trailers_reach_neither_their_request_nor_the_next() -> None:
    heard, _, _ = story([SAMPLES["trailers-then"]])
    assert len(heard) == 2
    assert all("authorization" not in headers for _, _, _, headers, _ in heard)


def test_a_wish_to_upgrade_is_ignored_and_the_body_is_not_lost() -> None:
    heard, written, closed = story([SAMPLES["upgrade"]])
    assert [(request[2], request[4]) for request in heard] == [("/a b", b"ok"), ("/2", b"")]
    assert written.count(b"HTTP/1.1 200 OK") == 2
    assert not closed


def test_what_is_wrong_behind_a_good_request_does_not_take_its_answer() -> None:
    heard, written, closed = story([SAMPLES["bad-after-good"]])
    assert len(heard) == 1
    assert written.startswith(b"HTTP/1.1 200 OK")
    assert b"HTTP/1.1 400 Bad Request" in written
    assert closed


def test_a_badly_chunked_body_is_its_handlers_to_refuse() -> None:
    heard, written, closed = story([SAMPLES["bad-chunk"]])
    assert heard == []
    assert written.startswith(b"HTTP/1.1 400 Bad Request")
    assert b"connection: close" in written
    assert written.endswith(b"bad body")
    assert closed


def test_http_1_0_is_answered_and_closed() -> None:
    heard, written, closed = story([SAMPLES["old"]])
    assert len(heard) == 1
    assert b"connection: close" in written
    assert closed


def test_more_requests_at_once_than_may_wait_are_refused_after_those_before_them() -> None:
    heard, written, closed = story([b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 200])
    assert 60 <= len(heard) < 100
    assert written.count(b"HTTP/1.1 200 OK") == len(heard)
    assert written.count(b"HTTP/1.1 400 Bad Request") == 1
    assert closed


@pytest.mark.parametrize("size", [1, 7, 1000, 10**9])
@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 3000 + b"\r\n\r\n", 431),
        (b"GET /" + b"y" * 3000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"".join(b"x%d: y\r\n" % n for n in range(30)) + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 30 + b"\r\n", 431),
    ],
    ids=["value", "target", "fields", "repeated"],
)
def test_a_head_over_its_bounds_is_refused_however_it_comes(head: bytes, status: int, size: int) -> None:
    parts = [head[n : n + size] for n in range(0, len(head), size)]
    heard, written, closed = story(parts, max_head_bytes=2000, max_fields=20)
    assert heard == []
    assert int(written[9:12]) in (status, 431)
    assert closed


@pytest.mark.parametrize("size", [1, 7, 10**9])
def test_a_head_within_its_bounds_is_served_however_it_comes_and_whatever_follows(size: int) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9000\r\nx: " + b"y" * 1800 + b"\r\n\r\n" + b"z" * 9000
    heard, _, closed = story([head[n : n + size] for n in range(0, len(head), size)], max_head_bytes=2000)
    assert len(heard) == 1
    assert not closed


@pytest.mark.parametrize("endless", [b"x-t: " + b"y" * 100, b"x-t: y\r\n", b"x-t%d: y\r\n"])
def test_trailers_without_end_are_cut_off(endless: bytes) -> None:
    start = HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"
    parts = [start, *(endless % n if b"%d" in endless else endless for n in range(100))]
    heard, written, closed = story(parts, max_head_bytes=2000, max_fields=20)
    assert heard == []
    assert written.startswith(b"HTTP/1.1 400")
    assert closed
