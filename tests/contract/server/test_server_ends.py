"""How calls and connections end: callers that leave, that do not read, that say nothing; a server that stops."""

import asyncio
import time
from typing import Any

import pytest

from penstock.surfaces.http1.request import Request


class Watched:
    """A handler that waits in one place, and notes when its peer has gone."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.began = asyncio.Event()
        self.gone = asyncio.Event()
        self.gone_at: list[float] = []
        self.cancelled = False

    async def __call__(self, request: Request) -> None:
        task = asyncio.current_task()
        assert task is not None

        def leave() -> None:
            self.gone_at.append(time.monotonic())
            self.gone.set()
            if self.place != "nothing":
                task.cancel()

        request.on_disconnect = leave
        self.began.set()
        try:
            await self._wait(request)
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    async def _wait(self, request: Request) -> None:
        if self.place == "body":
            await request.body(1000)
        if self.place == "stream":
            request.start(200, [])
            while True:
                await request.write(b"x" * 10)
                await asyncio.sleep(0.005)
        if self.place == "reader":
            request.start(200, [])
            while True:
                await request.write(b"x" * 10_000)
        await self.gone.wait()
        with pytest.raises(ConnectionResetError):
            await request.write(b"too late")
        request.respond(200, [], b"too late")


@pytest.mark.parametrize("how", ["leave", "reset", "half-close"])
@pytest.mark.parametrize("place", ["body", "wait", "stream", "reader", "nothing"])
async def test_a_caller_that_leaves_is_noticed_at_once(serve: Any, eventually: Any, place: str, how: str) -> None:
    if place == "reader" and how == "half-close":
        pytest.skip("a caller that neither reads nor goes is bounded by time alone")
    watched = Watched(place)
    served = await serve(watched)
    caller = await served.call()
    caller.say(
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n" + (b"half" if place == "body" else b"0123456789")
    )
    await watched.began.wait()
    await asyncio.sleep(0.05)
    began = time.monotonic()
    if how == "half-close":
        caller.writer.write_eof()
    else:
        getattr(caller, how)()
    await eventually(lambda: watched.gone_at, 1)
    assert watched.gone_at[0] - began < 0.1
    await eventually(lambda: served.server.connections == 0, 1)
    assert watched.cancelled == (place != "nothing")
    assert len(watched.gone_at) == 1


async def test_no_handler_begins_for_a_caller_that_has_gone(serve: Any) -> None:
    begun: list[str] = []

    async def handle(request: Request) -> None:
        begun.append(request.path)
        await asyncio.sleep(0.05)
        request.respond(200, [], b"")

    served = await serve(handle)
    caller = await served.call()
    caller.get("/first")
    caller.get("/behind")
    await asyncio.sleep(0.02)
    caller.leave()
    await asyncio.sleep(0.15)
    assert begun == ["/first"]


async def test_an_aborted_answer_is_seen_to_be_cut(serve: Any) -> None:
    async def handle(request: Request) -> None:
        request.start(200, [])
        await request.write(b"part")
        await asyncio.sleep(0.02)
        request.abort()
        with pytest.raises(ConnectionResetError):
            await request.write(b"more")

    caller = await (await serve(handle)).call()
    caller.get()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await caller.answer()


@pytest.mark.parametrize("is_begun", [False, True])
async def test_a_handler_that_fails_leaves_no_caller_waiting(
    serve: Any, is_refusal: Any, caplog: pytest.LogCaptureFixture, is_begun: bool
) -> None:
    async def handle(request: Request) -> None:
        if is_begun:
            request.start(200, [])
            await request.write(b"part")
            await asyncio.sleep(0.01)
        raise KeyError("a secret")

    caller = await (await serve(handle)).call()
    caller.get()
    if is_begun:
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await caller.answer()
    else:
        answer = await caller.answer()
        assert answer[0] == 500
        assert is_refusal(answer)
        assert b"secret" not in answer[2]
    assert "a request was not answered" in caplog.text


@pytest.mark.parametrize("ending", ["return", "cancel"])
async def test_a_handler_that_ends_without_an_answer_is_a_500(serve: Any, ending: str) -> None:
    async def handle(request: Request) -> None:
        if ending == "cancel":
            raise asyncio.CancelledError

    caller = await (await serve(handle)).call()
    caller.get()
    assert (await caller.answer())[0] == 500


async def test_a_request_is_answered_once(serve: Any) -> None:
    async def handle(request: Request) -> None:
        request.respond(200, [], b"one")
        with pytest.raises(RuntimeError):
            request.respond(200, [], b"two")
        with pytest.raises(RuntimeError):
            request.start(200, [])
        with pytest.raises(ConnectionResetError):
            await request.write(b"two")
        request.end()
        request.abort()

    caller = await (await serve(handle)).call()
    for _ in range(2):
        caller.get()
        assert (await caller.answer())[2] == b"one"


async def test_a_slow_reader_holds_its_stream_back(serve: Any, eventually: Any) -> None:
    written = 0

    async def handle(request: Request) -> None:
        nonlocal written
        request.start(200, [])
        for _ in range(1200):
            await request.write(b"x" * 10_000)
            written += 10_000
        request.end()

    served = await serve(handle, high_water_bytes=65_536)
    caller = await served.call(receive_bytes=262_144)
    caller.get()
    await asyncio.sleep(0.3)
    held = written
    assert held < 8_000_000  # the sockets' buffers, and not much more
    await asyncio.sleep(0.1)
    assert written == held
    assert len((await caller.answer())[2]) == 12_000_000


async def test_a_reader_that_never_reads_is_cut_in_time(serve: Any, eventually: Any) -> None:
    watched = Watched("reader")
    served = await serve(watched, send_timeout_ms=300)
    caller = await served.call(receive_bytes=4096)
    caller.say(b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET /half")
    await eventually(lambda: watched.gone_at, 3)
    await eventually(lambda: served.server.connections == 0)


@pytest.mark.parametrize("extra", ["", "connection: close\r\n"])
async def test_a_slow_reader_gets_a_large_answer_whole(serve: Any, extra: str) -> None:
    async def handle(request: Request) -> None:
        request.respond(200, [], b"x" * 20_000_000)

    served = await serve(handle, keep_alive_timeout_ms=200, send_timeout_ms=3000)
    caller = await served.call(receive_bytes=65_536)
    caller.get(extra=extra)
    received = len(await caller.reader.readuntil(b"\r\n\r\n"))
    received = 0
    for _ in range(15):
        received += len(await caller.reader.read(65_536))
        await asyncio.sleep(0.1)
    while received < 20_000_000:
        piece = await caller.reader.read(2**20)
        assert piece, f"cut after {received} bytes"
        received += len(piece)


async def test_a_caller_that_reads_no_answers_gets_no_more_of_them(serve: Any) -> None:
    answered = 0

    async def handle(request: Request) -> None:
        nonlocal answered
        answered += 1
        request.respond(200, [], b"x" * 500_000)

    served = await serve(handle)
    caller = await served.call(receive_bytes=65_536)
    for _ in range(50):
        caller.get()
    await asyncio.sleep(0.3)
    assert answered < 30
    for _ in range(50):
        assert len((await caller.answer())[2]) == 500_000


@pytest.mark.parametrize(
    ("said", "status"),
    [(b"", None), (b"GET / HT", 408), (b"GET / HTTP/1.1\r\nhost: x\r\nx: y", 408), (b"\r\n", None)],
)
async def test_half_a_head_is_not_waited_for(echo: Any, serve: Any, said: bytes, status: int | None) -> None:
    async def handle(request: Request) -> None:
        request.respond(200, [], b"")

    served = await serve(handle, header_read_timeout_ms=300)
    caller = await served.call()
    caller.say(said)
    began = time.monotonic()
    if status:
        assert (await caller.answer())[0] == status
    assert await caller.closed(3) == b""
    assert 0.25 < time.monotonic() - began < 1.3


async def test_a_head_that_trickles_is_not_waited_for(serve: Any) -> None:
    async def handle(request: Request) -> None:
        request.respond(200, [], b"")

    served = await serve(handle, header_read_timeout_ms=300)
    caller = await served.call()
    caller.get()
    assert (await caller.answer())[0] == 200
    began = time.monotonic()
    answer = asyncio.create_task(caller.answer())
    for byte in b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 100:
        if answer.done():
            break
        caller.say(bytes([byte]))
        await asyncio.sleep(0.02)
    assert (await answer)[0] == 408
    assert time.monotonic() - began < 1.5


async def test_a_body_that_stalls_is_its_handlers_to_refuse(echo: Any, serve: Any) -> None:
    async def handle(request: Request) -> None:
        try:
            await request.body(100)
        except Exception as error:
            request.respond(400, [], str(error).encode())

    served = await serve(handle, body_timeout_ms=300)
    caller = await served.call()
    caller.say(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf")
    status, _, body = await caller.answer()
    assert (status, body) == (400, b"The request's body did not arrive whole.")
    await caller.closed(1)


async def test_a_handler_may_take_longer_than_every_timeout(serve: Any) -> None:
    async def handle(request: Request) -> None:
        body = await request.body(100)
        await asyncio.sleep(1.3)
        request.respond(200, [], body)

    bounds = dict.fromkeys(
        ("header_read_timeout_ms", "keep_alive_timeout_ms", "body_timeout_ms", "send_timeout_ms"), 100
    )
    caller = await (await serve(handle, **bounds)).call()
    caller.post(b"patient")
    assert (await caller.answer())[2] == b"patient"


async def test_an_idle_connection_is_closed_in_time(serve: Any) -> None:
    async def handle(request: Request) -> None:
        request.respond(200, [], b"")

    served = await serve(handle, keep_alive_timeout_ms=300)
    caller = await served.call()
    caller.get()
    await caller.answer()
    assert await caller.closed(2) == b""


async def test_connections_over_the_bound_are_turned_away(echo: Any, serve: Any, is_refusal: Any) -> None:
    async def handle(request: Request) -> None:
        request.respond(200, [], b"")

    served = await serve(handle, max_connections=2)
    callers = [await served.call() for _ in range(2)]
    await asyncio.sleep(0.02)
    answer = await (await served.call()).answer()
    assert answer[0] == 503
    assert is_refusal(answer)
    for caller in callers:
        caller.get()
        assert (await caller.answer())[0] == 200


async def test_stopping_closes_idle_connections_and_lets_busy_ones_finish(serve: Any) -> None:
    release = asyncio.Event()

    async def handle(request: Request) -> None:
        if request.path == "/busy":
            await release.wait()
        request.respond(200, [], b"done")

    served = await serve(handle)
    idle, busy, half = await served.call(), await served.call(), await served.call()
    idle.get()
    await idle.answer()
    busy.get("/busy")
    half.say(b"GET / HTTP/1.1\r\n")
    await asyncio.sleep(0.05)
    served.server.stop_accepting()
    assert await idle.closed(0.5) == b""
    with pytest.raises(OSError):
        await served.call()
    half.say(b"host: x\r\n\r\n")
    assert (await half.answer())[1]["connection"] == "close"
    release.set()
    status, headers, body = await busy.answer()
    assert (status, headers["connection"], body) == (200, "close", b"done")
    assert await busy.closed(0.5) == b""


async def test_closing_waits_for_the_last_byte_of_an_answer(serve: Any) -> None:
    async def handle(request: Request) -> None:
        await asyncio.sleep(0.1)
        request.respond(200, [], b"x" * 10_000_000)

    served = await serve(handle)
    caller = await served.call(receive_bytes=65_536)
    caller.get()
    await asyncio.sleep(0.03)
    closing = asyncio.create_task(served.server.close(within_s=5))
    assert len((await caller.answer())[2]) == 10_000_000
    began = time.monotonic()
    await closing
    assert time.monotonic() - began < 1


async def test_closing_cuts_what_does_not_end_in_time(serve: Any, eventually: Any) -> None:
    patient, stubborn = Watched("wait"), asyncio.Event()

    async def handle(request: Request) -> None:
        if request.path == "/stubborn":
            stubborn.set()
            await asyncio.sleep(60)
        await patient(request)

    served = await serve(handle)
    callers = [await served.call() for _ in range(2)]
    callers[0].get()
    callers[1].get("/stubborn")
    await patient.began.wait()
    await stubborn.wait()
    began = time.monotonic()
    await served.server.close(within_s=0.2)
    assert time.monotonic() - began < 2
    assert patient.cancelled
    assert served.server.connections == 0 or await eventually(lambda: served.server.connections == 0) is None


async def test_two_thousand_connections_are_served_and_forgotten(serve: Any, eventually: Any) -> None:
    async def handle(request: Request) -> None:
        request.respond(200, [], request.path.encode())

    served = await serve(handle)
    for _ in range(4):
        callers = await asyncio.gather(*[served.call() for _ in range(500)])
    await eventually(lambda: served.server.connections == 2000)
    for caller in served.callers:
        caller.get("/one")
    for caller in served.callers:
        assert (await caller.answer())[2] == b"/one"
    for caller in callers:
        caller.reset()
    await eventually(lambda: served.server.connections == 1500)
