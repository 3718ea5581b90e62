"""How calls end: aborts, cancellations, slow readers, late servers, early answers."""

import asyncio
import gc
import os
import time
from pathlib import Path

import pytest

from penstock.domain.http import Origin
from penstock.errors import UpstreamMalformed, UpstreamReset, UpstreamTimeout

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def nothing() -> None:
    """An `on_dispatch` that has nothing to do."""


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class Stream:
    """A script that streams for ever and notes when the client closed."""

    def __init__(self) -> None:
        self.sent_bytes = 0
        self.closed_at_s = 0.0

    async def __call__(self, peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        try:
            while not peer.reader.at_eof():
                await peer.send(b"a\r\n0123456789\r\n")
                self.sent_bytes += 10
                await asyncio.sleep(0.005)
        finally:
            self.closed_at_s = time.monotonic()


async def read_that_waits(response) -> asyncio.Task[bytes]:
    """One that finds nothing, once what has come has been read."""
    reading = asyncio.create_task(response.read())
    await asyncio.sleep(0)
    while reading.done():
        assert reading.result()
        reading = asyncio.create_task(response.read())
        await asyncio.sleep(0)
    return reading


async def closed_within(stream: Stream, begun_s: float) -> float:
    while not stream.closed_at_s and time.monotonic() < begun_s + 2:
        await asyncio.sleep(0.005)
    return (stream.closed_at_s or 1e9) - begun_s


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("way", ["abort", "cancel"])
async def test_the_server_sees_the_end_of_an_abandoned_stream_within_250_ms(
    way, secure, listen, connect, ask, server_tls, ca_file
):
    stream = Stream()
    server = await listen(stream, tls=server_tls if secure else None)
    transport = connect(ca_file=ca_file)
    response = await transport.send(ask(server.origin), nothing)
    assert await response.read()
    begun_s = time.monotonic()
    if way == "abort":
        response.abort()
        response.abort()
    else:
        reading = await read_that_waits(response)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert await closed_within(stream, begun_s) < 0.25
    with pytest.raises(UpstreamReset):
        await response.read()
    assert server.live == 0


async def test_an_abort_wakes_the_task_that_reads(listen, connect, ask):
    async def silent(peer):
        await peer.request()
        await peer.send(CHUNKED)
        await peer.gone()

    server = await listen(silent)
    response = await connect().send(ask(server.origin), nothing)
    reading = asyncio.create_task(response.read())
    await asyncio.sleep(0.01)
    response.abort()
    with pytest.raises(UpstreamReset):
        await reading


async def test_an_abort_after_the_end_hurts_no_other_call_on_the_connection(listen, connect, ask):
    async def two(peer):
        await peer.request()
        await peer.answer(b"first")
        await peer.request()
        await asyncio.sleep(0.03)
        await peer.answer(b"second")

    server = await listen(two)
    transport = connect()
    first = await transport.send(ask(server.origin), nothing)
    second = asyncio.create_task(transport.send(ask(server.origin), nothing))
    await asyncio.sleep(0.01)
    first.abort()
    assert await first.read_all(10) == b"first"
    assert await (await second).read_all(10) == b"second"
    assert server.connections == 1


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
async def test_a_call_cancelled_at_any_moment_leaves_no_socket_and_no_slot(
    secure, listen, connect, ask, server_tls, ca_file
):
    async def steps(peer):
        while True:
            await peer.request()
            await peer.send(CHUNKED)
            for _ in range(3):
                await asyncio.sleep(0)
                await peer.send(b"2\r\nok\r\n")
            await peer.send(b"0\r\n\r\n")

    server = await listen(steps, tls=server_tls if secure else None)
    transport = connect(max_connections=2, ca_file=ca_file)

    async def call() -> bytes:
        response = await transport.send(ask(server.origin, body=b"x" * 400_000), nothing)
        return await response.read_all(1_000)

    gc.collect()
    before = open_files()
    for turns in range(60):
        tasks = [asyncio.create_task(call()) for _ in range(4)]  # two of them wait for a slot
        for _ in range(turns):
            await asyncio.sleep(0.0002 if turns % 2 else 0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert await asyncio.wait_for(call(), 2) == b"okokok"
    await transport.close()
    await asyncio.sleep(0.05)
    gc.collect()
    assert server.live == 0
    assert open_files() <= before


async def test_a_cancelled_waiter_passes_its_turn_on(listen, connect, ask):
    release = asyncio.Event()

    async def gated(peer):
        while True:
            await peer.request()
            await release.wait()
            await peer.answer()

    server = await listen(gated)
    transport = connect(max_connections=1)

    async def call() -> bytes:
        return await (await transport.send(ask(server.origin), nothing)).read_all(10)

    calls = [asyncio.create_task(call()) for _ in range(6)]
    await asyncio.sleep(0.02)
    calls[1].cancel()
    calls[2].cancel()
    release.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [bytes, asyncio.CancelledError, asyncio.CancelledError, *[bytes] * 3]


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
async def test_a_slow_reader_pauses_the_upstream_and_loses_nothing(secure, listen, connect, ask, server_tls, ca_file):
    sent_bytes = 0
    total_bytes = 64 * 1024 * 1024

    async def flood(peer):
        nonlocal sent_bytes
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total_bytes)
        while sent_bytes < total_bytes:
            await peer.send(bytes(65536))
            sent_bytes += 65536
        await peer.gone()

    server = await listen(flood, tls=server_tls if secure else None)
    response = await connect(ca_file=ca_file).send(ask(server.origin, between_chunks_ms=300), nothing)
    await asyncio.sleep(0.4)
    stalled_at = sent_bytes
    await asyncio.sleep(0.2)
    assert sent_bytes == stalled_at < total_bytes / 3  # what the kernel's two buffers take, and little more
    assert len(await response.read_all(total_bytes)) == total_bytes


async def test_an_answer_longer_than_the_reader_takes_is_cut(listen, connect, ask):
    stream = Stream()
    server = await listen(stream)
    response = await connect().send(ask(server.origin), nothing)
    with pytest.raises(UpstreamMalformed):
        await response.read_all(50)
    assert await closed_within(stream, time.monotonic()) < 0.25


def silence(*before: bytes):
    """A script that says `before`, with pauses, and then nothing."""

    async def script(peer) -> None:
        await peer.request()
        for data in before:
            await peer.send(data)
            await asyncio.sleep(0.04)
        await peer.gone()

    return script


@pytest.mark.parametrize(
    ("said", "bounds", "phase"),
    [
        ([], {"first_byte_ms": 80}, "first_byte"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n"], {"first_byte_ms": 80}, "first_byte"),
        ([b"HTTP/1.1 200 OK\r\n"], {"between_chunks_ms": 80}, "between_chunks"),
        ([CHUNKED], {"between_chunks_ms": 80}, "between_chunks"),
        ([CHUNKED, b"1\r\nx\r\n", b"1\r\nx\r\n"], {"between_chunks_ms": 80}, "between_chunks"),
        ([], {"total_ms": 80}, "total"),
        ([CHUNKED, *[b"1\r\nx\r\n"] * 10], {"total_ms": 150, "between_chunks_ms": 90}, "total"),
    ],
    ids=["no-answer", "continue-only", "half-a-head", "no-body", "stalled-body", "total", "total-of-a-stream"],
)
async def test_each_phase_has_its_own_time_limit(said, bounds, phase, listen, connect, ask):
    server = await listen(silence(*said))
    begun_s = time.monotonic()
    with pytest.raises(UpstreamTimeout) as late:
        await (await connect().send(ask(server.origin, **bounds), nothing)).read_all(1_000)
    assert late.value.phase == phase
    assert 0.07 < time.monotonic() - begun_s < 0.6
    await asyncio.sleep(0.15)
    assert server.live == 0


async def test_a_tls_handshake_that_hangs_counts_towards_connect_ms(listen, connect, ask, ca_file):
    async def mute(peer):
        await peer.gone()

    server = await listen(mute)
    with pytest.raises(UpstreamTimeout) as late:
        origin = Origin("https", "127.0.0.1", server.port)
        await connect(ca_file=ca_file).send(ask(origin, connect_ms=80), nothing)
    assert late.value.phase == "connect"
    await asyncio.sleep(0.05)
    assert server.live == 0


async def test_a_chunk_in_time_every_time_never_times_out_and_neither_does_a_reader_that_pauses(listen, connect, ask):
    server = await listen(silence(CHUNKED, *[b"1\r\nx\r\n"] * 6, b"0\r\n\r\n"))
    response = await connect().send(ask(server.origin, between_chunks_ms=120, first_byte_ms=120), nothing)
    assert await response.read() == b"x"
    await asyncio.sleep(0.2)
    assert await response.read_all(100) == b"xxxxx"


async def test_a_call_that_nobody_reads_ends_with_its_total_time(listen, connect, ask):
    stream = Stream()
    server = await listen(stream)
    begun_s = time.monotonic()
    response = await connect().send(ask(server.origin, total_ms=100, between_chunks_ms=50), nothing)
    assert 0.08 < await closed_within(stream, begun_s) < 0.5
    assert await response.read()
    with pytest.raises(UpstreamTimeout) as late:
        await response.read()
    assert late.value.phase == "total"


async def test_deadlines_of_one_call_do_not_reach_into_the_next_on_the_same_connection(listen, connect, ask):
    async def slow(peer):
        while True:
            await peer.request()
            await asyncio.sleep(0.1)
            await peer.answer()

    server = await listen(slow)
    transport = connect()
    for first_byte_ms in (5_000, 150, 5_000, 150):
        response = await transport.send(ask(server.origin, first_byte_ms=first_byte_ms), nothing)
        assert await response.read_all(10) == b"ok"
    with pytest.raises(UpstreamTimeout):
        await transport.send(ask(server.origin, first_byte_ms=50), nothing)
    assert server.connections == 1


async def test_a_refusal_that_comes_before_the_body_is_sent_stops_the_upload(listen, connect, ask):
    async def refuse(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\nno")
        await asyncio.sleep(0.1)

    server = await listen(refuse)
    transport = connect()
    for _ in range(2):
        response = await transport.send(ask(server.origin, body=bytes(30_000_000)), nothing)
        assert (response.status, await response.read_all(10)) == (413, b"no")
    assert server.connections == 2


async def test_a_server_that_does_not_take_the_body_runs_into_first_byte_ms(listen, connect, ask):
    async def deaf(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(1)

    server = await listen(deaf)
    with pytest.raises(UpstreamTimeout) as late:
        await connect().send(ask(server.origin, body=bytes(30_000_000), first_byte_ms=100), nothing)
    assert late.value.phase == "first_byte"


async def test_a_server_that_takes_the_body_slowly_gets_all_of_it(listen, connect, ask):
    taken = bytearray()

    async def slow(peer):
        head = await peer.reader.readuntil(b"\r\n\r\n")
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(taken) < length:
            taken.extend(await peer.reader.read(1_000_000))
            await asyncio.sleep(0.001)
        await peer.answer()

    server = await listen(slow)
    body = os.urandom(1024) * 8 * 1024
    response = await connect().send(ask(server.origin, body=body, first_byte_ms=1_000), nothing)
    assert await response.read_all(10) == b"ok"
    assert taken == body


async def test_a_connection_that_breaks_during_the_upload_is_a_reset(listen, connect, ask):
    async def broken(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.reset()

    server = await listen(broken)
    with pytest.raises(UpstreamReset):
        await connect().send(ask(server.origin, body=bytes(30_000_000)), nothing)


async def test_a_cancelled_upload_closes_the_socket(listen, connect, ask):
    async def deaf(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.2)
        await peer.gone()

    server = await listen(deaf)
    sending = asyncio.create_task(connect().send(ask(server.origin, body=bytes(30_000_000)), nothing))
    await asyncio.sleep(0.1)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await asyncio.sleep(0.3)
    assert server.live == 0
