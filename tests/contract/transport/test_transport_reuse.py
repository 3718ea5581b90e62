"""Keep-alive: what is reused, what is dropped, and what is never sent twice."""

import asyncio
import random
import socket
import ssl
from collections import Counter

import pytest

from penstock.domain.http import Origin
from penstock.errors import UpstreamConnectFailed, UpstreamReset, UpstreamTimeout
from penstock.upstream.http1.pool import Pool, TransportSettings


def nothing() -> None:
    """An `on_dispatch` that has nothing to do."""


async def echo_forever(peer):
    while True:
        _, body = await peer.request()
        await peer.answer(body or b"ok")


async def call(transport, request):
    return await (await transport.send(request, nothing)).read_all(1_000_000)


async def test_calls_in_a_row_share_one_connection(listen, connect, ask):
    server = await listen(echo_forever)
    transport = connect()
    for _ in range(50):
        assert await call(transport, ask(server.origin)) == b"ok"
    assert server.connections == 1


async def test_each_origin_has_connections_of_its_own(listen, connect, ask):
    first, second = await listen(echo_forever), await listen(echo_forever)
    transport = connect()
    for server in (first, second, first, second):
        await call(transport, ask(server.origin))
    assert (first.connections, second.connections) == (1, 1)


async def test_the_connection_used_last_is_reused_first(listen, connect, ask):
    async def name_connection(peer):
        name = b"%d" % server.connections
        while True:
            await peer.request()
            await peer.answer(name)

    server = await listen(name_connection)
    transport = connect()
    await asyncio.gather(*(call(transport, ask(server.origin)) for _ in range(5)))
    names = {await call(transport, ask(server.origin)) for _ in range(10)}
    assert len(names) == 1


async def test_no_more_connections_are_open_than_the_bound_and_waiters_are_served_in_order(listen, connect, ask):
    order = []

    async def slow(peer):
        while True:
            head, _ = await peer.request()
            order.append(int(head.split()[1][1:]))
            await asyncio.sleep(0.002)
            await peer.answer()

    server = await listen(slow)
    transport = connect(max_connections=3)
    await asyncio.gather(*(call(transport, ask(server.origin, f"/{number}")) for number in range(30)))
    assert server.connections == 3
    assert all(abs(place - number) < 3 for place, number in enumerate(order))


async def test_waiting_for_a_connection_counts_towards_connect_ms(listen, connect, ask):
    async def never(peer):
        await peer.request()
        await peer.gone()

    server = await listen(never)
    transport = connect(max_connections=1)
    stuck = asyncio.create_task(transport.send(ask(server.origin), nothing))
    await asyncio.sleep(0.02)
    with pytest.raises(UpstreamTimeout) as late:
        await transport.send(ask(server.origin, connect_ms=50), nothing)
    assert late.value.phase == "connect"
    stuck.cancel()
    await asyncio.gather(stuck, return_exceptions=True)


async def test_no_more_than_max_idle_connections_are_kept(listen, connect, ask):
    server = await listen(echo_forever)
    transport = connect(max_idle=2)
    await asyncio.gather(*(call(transport, ask(server.origin)) for _ in range(10)))
    await asyncio.sleep(0.05)
    assert server.live == 2


async def test_an_idle_connection_is_closed_after_its_time(listen, connect, ask):
    server = await listen(echo_forever)
    transport = connect(idle_timeout_ms=60)
    await call(transport, ask(server.origin))
    assert server.live == 1
    await asyncio.sleep(0.2)
    assert server.live == 0
    assert await call(transport, ask(server.origin)) == b"ok"


async def test_the_servers_own_keep_alive_timeout_is_honoured_with_a_margin(listen, connect, ask):
    async def short(peer):
        while True:
            await peer.request()
            await peer.answer(extra="keep-alive: timeout=1, max=100\r\n")

    server = await listen(short)
    transport = connect()
    await call(transport, ask(server.origin))
    await asyncio.sleep(0.3)
    assert server.live == 1
    await asyncio.sleep(0.4)
    assert server.live == 0


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=0\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more than was announced",
        b"HTTP/1.1 204 OK\r\n\r\nok",
    ],
    ids=["close", "http-1.0", "timeout-0", "second-answer", "excess", "body-of-204"],
)
async def test_a_connection_is_not_reused_after(head, listen, connect, ask):
    async def once(peer):
        await peer.request()
        await peer.send(head)
        await peer.gone()

    server = await listen(once)
    transport = connect()
    for _ in range(3):
        assert await call(transport, ask(server.origin)) in (b"ok", b"")
    assert server.connections == 3
    await asyncio.sleep(0.05)
    assert server.live == 0


async def test_an_http_1_0_server_that_offers_keep_alive_is_taken_at_its_word(listen, connect, ask):
    async def old(peer):
        while True:
            await peer.request()
            await peer.send(b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok")

    server = await listen(old)
    transport = connect()
    for _ in range(3):
        await call(transport, ask(server.origin))
    assert server.connections == 1


async def test_bytes_that_nobody_asked_for_end_an_idle_connection_and_answer_no_call(listen, connect, ask):
    async def chatty(peer):
        await peer.request()
        await peer.answer(b"good")
        await asyncio.sleep(0.02)
        await peer.answer(b"evil")
        await peer.gone()

    server = await listen(chatty)
    transport = connect()
    assert await call(transport, ask(server.origin)) == b"good"
    await asyncio.sleep(0.06)
    assert server.live == 0
    assert await call(transport, ask(server.origin)) == b"good"


async def test_a_close_that_the_loop_has_not_seen_yet_is_noticed_before_anything_is_written(connect, ask):
    """The kernel knows of the close, the loop was busy: a POST must not be written to that connection."""
    accepted: list[socket.socket] = []

    def answer_one_request_per_connection() -> None:
        for _ in range(2):
            accepted.append(listener.accept()[0])
            accepted[-1].recv(65536)
            accepted[-1].sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = asyncio.create_task(asyncio.to_thread(answer_one_request_per_connection))
        transport = connect()
        origin = Origin("http", *listener.getsockname())
        await call(transport, ask(origin))
        accepted[0].close()  # and from here to the write the loop takes no turn
        assert await call(transport, ask(origin, body=b"once")) == b"ok"
        await server
        accepted[1].close()


async def stale_after_first(peer):
    """Answers one request; reads the second and drops it without a byte."""
    await peer.request()
    await peer.answer()
    await peer.request()


async def test_a_repeatable_call_on_a_stale_connection_is_sent_once_more_on_a_new_one(listen, connect, ask):
    server = await listen(stale_after_first)
    transport = connect()
    dispatched = []
    for _ in range(2):
        request = ask(server.origin, body=b"again", repeatable=True)
        response = await transport.send(request, lambda: dispatched.append(1))
        assert await response.read_all(10) == b"ok"
    assert server.connections == 2
    assert len(dispatched) == 2


async def test_the_second_try_may_take_the_slot_of_the_first(listen, connect, ask):
    server = await listen(stale_after_first)
    transport = connect(max_connections=1)
    for _ in range(4):
        assert await call(transport, ask(server.origin, repeatable=True)) == b"ok"


async def test_a_call_that_is_not_repeatable_is_never_sent_twice(listen, connect, ask):
    server = await listen(stale_after_first)
    transport = connect()
    await call(transport, ask(server.origin, body=b"1"))
    with pytest.raises(UpstreamReset):
        await call(transport, ask(server.origin, body=b"2"))
    assert server.connections == 1


async def test_nothing_is_repeated_once_a_byte_of_the_answer_came(listen, connect, ask):
    async def half(peer):
        await peer.request()
        await peer.answer()
        await peer.request()
        await peer.send(b"H")

    server = await listen(half)
    transport = connect()
    await call(transport, ask(server.origin, repeatable=True))
    with pytest.raises(UpstreamReset):
        await call(transport, ask(server.origin, repeatable=True))
    assert server.connections == 1


async def test_a_repeatable_call_is_repeated_only_once(listen, connect, ask):
    async def dead(peer):
        await peer.request()
        if server.connections == 1:
            await peer.answer()
            await peer.request()

    server = await listen(dead)
    transport = connect()
    await call(transport, ask(server.origin, repeatable=True))
    with pytest.raises(UpstreamReset):
        await call(transport, ask(server.origin, repeatable=True))
    assert server.connections == 2


async def test_a_first_connection_that_breaks_is_no_stale_one(listen, connect, ask):
    async def dead(peer):
        await peer.request()

    server = await listen(dead)
    with pytest.raises(UpstreamReset):
        await call(connect(), ask(server.origin, repeatable=True))
    assert server.connections == 1


@pytest.mark.parametrize("repeatable", [True, False], ids=["repeatable", "not-repeatable"])
async def test_a_server_that_closes_idle_connections_at_random_loses_and_doubles_nothing(
    repeatable, listen, connect, ask
):
    seen: Counter[str] = Counter()
    chance = random.Random(7)

    async def impatient(peer):
        patience_s = 5.0
        while True:
            head, _ = await asyncio.wait_for(peer.request(), patience_s)
            patience_s = chance.choice([5, 0.0005, 0.001, 0.002])
            seen[head.split()[1]] += 1
            await peer.answer()
            if chance.random() < 0.1:
                return

    async def patient(peer):
        try:
            await impatient(peer)
        except TimeoutError:
            if chance.random() < 0.5:
                peer.reset()

    server = await listen(patient)
    transport = connect(max_connections=8)
    outcomes: Counter[str] = Counter()

    async def client(number: int) -> None:
        for turn in range(250):
            request = ask(server.origin, f"/{number}-{turn}", body=b"x", repeatable=repeatable)
            try:
                assert await call(transport, request) == b"ok"
                outcomes["ok"] += 1
            except UpstreamReset:
                outcomes["reset"] += 1
            if chance.random() < 0.3:
                await asyncio.sleep(chance.choice([0, 0.0005, 0.001, 0.002]))

    await asyncio.gather(*(client(number) for number in range(8)))
    assert outcomes["ok"] + outcomes["reset"] == 2_000
    if repeatable:
        assert outcomes["ok"] == 2_000
    else:  # a close that crosses the request on its way can only be reported
        assert outcomes["ok"] > 1_000
        assert max(seen.values()) == 1
    assert server.connections > 100


async def test_on_dispatch_runs_once_and_when_it_raises_nothing_is_sent_and_the_connection_is_kept(
    listen, connect, ask
):
    requests = []

    async def note(peer):
        while True:
            requests.append(await peer.request())
            await peer.answer()

    def refuse() -> None:
        raise LookupError("no hold")

    server = await listen(note)
    transport = connect(max_connections=1)
    for _ in range(3):
        with pytest.raises(LookupError):
            await transport.send(ask(server.origin), refuse)
    assert requests == []
    assert await call(transport, ask(server.origin)) == b"ok"
    assert server.connections == 1


async def test_on_dispatch_never_runs_when_no_connection_can_be_made(connect, ask, unused_tcp_port):
    dispatched = []
    with pytest.raises(UpstreamConnectFailed):
        await connect().send(ask(Origin("http", "127.0.0.1", unused_tcp_port)), lambda: dispatched.append(1))
    with pytest.raises(UpstreamConnectFailed):
        await connect().send(ask(Origin("http", "no-such-host.invalid", 80)), lambda: dispatched.append(1))
    assert dispatched == []


async def test_failed_connects_leave_no_slot_taken(listen, connect, ask, unused_tcp_port):
    transport = connect(max_connections=1)
    for _ in range(5):
        with pytest.raises(UpstreamConnectFailed):
            await transport.send(ask(Origin("http", "127.0.0.1", unused_tcp_port), connect_ms=500), nothing)


async def test_a_server_that_hangs_up_at_once_takes_no_slot_with_it(listen, connect, ask):
    async def hang_up(peer):
        peer.reset()

    server = await listen(hang_up)
    transport = connect(max_connections=1)
    for _ in range(50):
        with pytest.raises((UpstreamConnectFailed, UpstreamReset)):
            await transport.send(ask(server.origin, body=b"x" * 600_000, connect_ms=1_000), nothing)
    await asyncio.sleep(0.02)
    assert server.connections == 50


async def test_close_ends_calls_under_way_idle_connections_and_waiters(listen, connect, ask):
    async def never(peer):
        await peer.request()
        await peer.gone()

    server, idle = await listen(never), await listen(echo_forever)
    transport = connect(max_connections=1)
    await call(transport, ask(idle.origin))
    calls = [asyncio.create_task(transport.send(ask(server.origin), nothing)) for _ in range(3)]
    await asyncio.sleep(0.02)
    await transport.close()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [UpstreamReset, UpstreamConnectFailed, UpstreamConnectFailed]
    await asyncio.sleep(0.05)
    assert (server.live, idle.live) == (0, 0)
    for origin in (idle.origin, Origin("http", "127.0.0.1", 9)):
        with pytest.raises(UpstreamConnectFailed):
            await transport.send(ask(origin), nothing)


@pytest.fixture
def pool_of():
    """`pool_of(server, max_connections)`: the bare pool, to bring about what calls rarely meet."""
    pools = []

    def make(server, max_connections: int) -> Pool:
        pools.append(
            Pool(server.origin, TransportSettings(max_connections=max_connections), ssl.create_default_context)
        )
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


async def test_a_second_try_takes_the_place_of_an_idle_connection_when_all_places_are_taken(listen, pool_of):
    server = await listen(echo_forever)
    pool = pool_of(server, 2)
    soon_s = asyncio.get_running_loop().time() + 1
    first, second = await pool.connect(soon_s), await pool.connect(soon_s)
    pool.release(first)
    fresh = await pool.connect(soon_s, must_be_fresh=True)
    assert fresh not in (first, second)
    assert not first.is_open
    assert second.is_open


async def test_a_second_try_that_waits_is_given_a_place_and_never_a_used_connection(listen, pool_of):
    server = await listen(echo_forever)
    pool = pool_of(server, 1)
    soon_s = asyncio.get_running_loop().time() + 1
    first = await pool.connect(soon_s)
    waiting = asyncio.create_task(pool.connect(soon_s, must_be_fresh=True))
    await asyncio.sleep(0.01)
    pool.release(first)
    assert (await waiting) is not first
    assert not first.is_open


async def test_a_connection_that_dies_on_its_way_to_a_waiter_costs_the_waiter_nothing(listen, pool_of):
    server = await listen(echo_forever)
    pool = pool_of(server, 1)
    soon_s = asyncio.get_running_loop().time() + 1
    first = await pool.connect(soon_s)
    waiting = asyncio.create_task(pool.connect(soon_s))
    await asyncio.sleep(0.01)
    pool.release(first)
    first.abort()
    assert (await waiting).is_open


async def test_what_is_on_its_way_to_a_cancelled_waiter_goes_to_the_next(listen, pool_of):
    server = await listen(echo_forever)
    pool = pool_of(server, 1)
    soon_s = asyncio.get_running_loop().time() + 1
    first = await pool.connect(soon_s)
    cancelled, patient = (asyncio.create_task(pool.connect(soon_s)) for _ in range(2))
    await asyncio.sleep(0.01)
    pool.release(first)
    cancelled.cancel()
    assert await patient is first
    assert cancelled.cancelled()
    assert server.connections == 1
