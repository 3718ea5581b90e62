"""Laws of the response: any split of the bytes tells the same story, and every truncation is told."""

import asyncio
import gzip
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.domain.http import Headers, HttpRequest, Origin
from penstock.errors import UpstreamError, UpstreamReset
from penstock.upstream.http1.response import Http1Response

REQUEST = HttpRequest("POST", Origin("http", "lab.example", 80), "/", [])
OK = b"HTTP/1.1 200 OK\r\n"
SAMPLES = {
    "length": OK + b"Content-Type: a/b \r\nx-empty:\r\ncontent-length: 11\r\n\r\nhello world",
    "chunked": OK + b"transfer-encoding: Chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nx-t: 1\r\n\r\n",
    "early": b"HTTP/1.1 100 Continue\r\nx: 1\r\n\r\n" + OK + b"content-length: 2\r\n\r\nok",
    "empty": b"HTTP/1.1 204 None\r\n\r\n",
    "gzip": OK
    + b"content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    % (len(gzip.compress(b"hello" * 99, mtime=0)), gzip.compress(b"hello" * 99, mtime=0)),
    "bad-chunk": OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\nworld\r\n0\r\n\r\n",
    "bad-head": OK + b"content-length: five\r\n\r\nhello",
    "twice": OK + b"content-length: 2\r\n\r\nok" + OK + b"content-length: 4\r\n\r\nevil",
    "not-http": b"SSH-2.0-OpenSSH\r\n\r\n",
    "until-close": OK + b"\r\nhello world",
}
WHOLE = ("length", "chunked", "early", "gzip")


class Socket:
    """The connection's side, noting what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def arm(self, deadline_s: float) -> None:
        """Time does not pass here."""

    def pause(self) -> None:
        self.said.append("pause")

    def resume(self) -> None:
        self.said.append("resume")

    def finish(self, is_reusable: bool, keep_alive_s: float) -> None:
        self.said.append("finish")

    def abort(self) -> None:
        self.said.append("abort")


Story = tuple[int, Headers, bytes, str, list[str]]


def story(parts: list[bytes], request: HttpRequest = REQUEST) -> Story:
    """(status, headers, body, fault, what the socket was told) of a server that says `parts` and closes."""

    async def tell() -> Story:
        loop = asyncio.get_running_loop()
        socket = Socket()
        response = Http1Response(socket, request, loop.time() + 60, loop)
        body, fault = b"", ""

        async def read() -> None:
            nonlocal body, fault
            try:
                await response.head()
                while data := await response.read():
                    body += data
            except UpstreamError as error:
                fault = f"{error.code}: {error}"

        reading = asyncio.create_task(read())
        for part in parts:
            await asyncio.sleep(0)
            response.feed(part)
        response.feed_eof(is_clean=True)
        await reading
        return response.status, response.headers, body, fault, socket.said

    return asyncio.run(tell())


@given(st.sampled_from(sorted(SAMPLES)), st.sets(st.integers(1, 250)))
@settings(max_examples=200, deadline=None)
def test_any_split_of_the_bytes_gives_the_same_result(name, cuts):
    data = SAMPLES[name]
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    parts = [data[start:end] for start, end in pairwise(places)]
    assert story(parts) == story([data])


@given(st.sampled_from(WHOLE), st.data())
@settings(max_examples=200, deadline=None)
def test_every_truncation_is_flagged_and_nothing_is_made_up(name, data):
    whole = SAMPLES[name]
    end = data.draw(st.integers(0, len(whole) - 1))
    _, _, body, fault, said = story([whole[:end]] if end else [])
    assert fault.startswith(UpstreamReset.code)
    assert story([whole])[2].startswith(body)
    assert said == ["abort"]


@given(st.binary(min_size=1, max_size=300), st.booleans())
@settings(max_examples=200, deadline=None)
def test_noise_is_a_fault_or_an_answer_and_never_an_exception_of_another_kind(noise, after_head):
    status, _, _, fault, said = story([OK + b"transfer-encoding: chunked\r\n\r\n" + noise if after_head else noise])
    assert fault or status
    assert len(said) == 1


def test_the_samples_tell_what_they_should():
    assert story([SAMPLES["length"]])[:4] == (
        200, [("content-type", "a/b"), ("x-empty", ""), ("content-length", "11")], b"hello world", "",
    )  # fmt: skip
    assert story([SAMPLES["chunked"]])[2] == b"hello world"
    assert story([SAMPLES["early"]])[:3] == (200, [("content-length", "2")], b"ok")
    assert story([SAMPLES["gzip"]])[2] == b"hello" * 99
    assert story([SAMPLES["until-close"]])[2:4] == (b"hello world", "")
    assert story([SAMPLES["bad-chunk"]])[2] == b"hello"
    assert story([SAMPLES["twice"]])[2:4] == (b"ok", "")


def test_an_answer_to_head_has_no_body_whatever_it_announces():
    request = HttpRequest("HEAD", REQUEST.origin, "/", [])
    for head in (b"content-length: 11\r\n", b"transfer-encoding: chunked\r\n", b"content-encoding: gzip\r\n", b""):
        status, _, body, fault, said = story([OK + head + b"\r\n"], request)
        assert (status, body, fault, said) == (200, b"", "", ["finish"])


def test_a_reader_that_waits_too_little_pauses_the_socket_and_resumes_it():
    async def tell() -> list[str]:
        loop = asyncio.get_running_loop()
        socket = Socket()
        response = Http1Response(socket, REQUEST, loop.time() + 60, loop)
        response.feed(OK + b"content-length: 600000\r\n\r\n")
        response.feed(bytes(200_000))
        assert socket.said == []
        response.feed(bytes(200_000))
        assert socket.said == ["pause"]
        assert len(await response.read()) == 400_000
        response.feed(bytes(200_000))
        assert len(await response.read()) == 200_000
        return socket.said

    assert asyncio.run(tell()) == ["pause", "resume", "finish"]


def test_two_tasks_cannot_read_one_response():
    async def tell() -> list[object]:
        loop = asyncio.get_running_loop()
        response = Http1Response(Socket(), REQUEST, loop.time() + 60, loop)
        response.feed(OK + b"content-length: 2\r\n\r\n")
        reads = [asyncio.create_task(response.read()) for _ in range(2)]
        await asyncio.sleep(0)
        response.feed(b"ok")
        return await asyncio.gather(*reads, return_exceptions=True)

    first, second = asyncio.run(tell())
    assert first == b"ok"
    assert isinstance(second, RuntimeError)
