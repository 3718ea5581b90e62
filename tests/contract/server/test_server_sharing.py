"""Servers that share an address, each with a socket of its own, as the workers of one box do."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from penstock.app import box
from penstock.surfaces.http1.protocol import ServerLimits
from penstock.surfaces.http1.request import Request
from penstock.surfaces.http1.server import HttpServer


class Group:
    """Servers on one address. Each has the sockets of all, as a process of its own would."""

    def __init__(self, size: int) -> None:
        self.addresses = box.bind("127.0.0.1", 0, size)
        self.port = self.addresses[0][0].getsockname()[1]
        self.servers = [HttpServer(self._answer(number), ServerLimits()) for number in range(size)]

    def _answer(self, number: int) -> Callable[[Request], Any]:
        async def handle(request: Request) -> None:
            request.respond(200, [], b"%d" % number)

        return handle

    async def listen(self, *numbers: int) -> None:
        for number in numbers:
            await self.servers[number].listen([[place.dup() for place in self.addresses[0]]], number)

    async def ask(self) -> int:
        """Which of the servers answers a caller who has just come."""
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            return int(answer[-1:])

    async def close(self) -> None:
        for server in self.servers:
            await server.close(within_s=1)
        box.close(self.addresses)
        await asyncio.sleep(0.02)


@pytest.fixture
async def make() -> AsyncIterator[Callable[[int], Group]]:
    groups: list[Group] = []

    def group(size: int) -> Group:
        groups.append(Group(size))
        return groups[-1]

    yield group
    for each in groups:
        await each.close()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
async def test_callers_are_spread_over_the_servers(make: Callable[[int], Group], order: tuple[int, ...]) -> None:
    group = make(3)
    await group.listen(*order)
    answered = await asyncio.gather(*(group.ask() for _ in range(90)))
    assert set(answered) == {0, 1, 2}


async def test_what_comes_to_a_server_that_is_not_there_yet_is_served_by_the_others(
    make: Callable[[int], Group],
) -> None:
    group = make(4)
    await group.listen(2)
    assert {await group.ask() for _ in range(30)} == {2}


async def test_what_comes_to_a_server_that_has_stopped_is_served_by_the_others_and_its_successor(
    make: Callable[[int], Group],
) -> None:
    group = make(2)
    await group.listen(0, 1)
    group.servers[1].stop_accepting()
    await asyncio.sleep(0.02)
    assert {await group.ask() for _ in range(30)} == {0}
    group.servers[1] = HttpServer(group._answer(1), ServerLimits())
    await group.listen(1)
    assert set(await asyncio.gather(*(group.ask() for _ in range(60)))) == {0, 1}


async def test_connections_that_wait_for_a_dead_server_are_all_taken_over(make: Callable[[int], Group]) -> None:
    group = make(2)
    await group.listen(0, 1)
    group.servers[1].stop_accepting()
    await asyncio.sleep(0.02)
    assert set(await asyncio.gather(*(group.ask() for _ in range(300)))) == {0}


@pytest.mark.parametrize("number", [0, 1])
async def test_of_two_groups_that_bound_one_address_together_only_the_first_listens(
    make: Callable[[int], Group], number: int
) -> None:
    first = make(2)
    second = [socket.socket() for _ in range(2)]
    for place in second:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(("127.0.0.1", first.port))
    await first.listen(1)
    late = HttpServer(first._answer(9), ServerLimits())
    with pytest.raises(OSError, match="in use"):
        await late.listen([second], number)
    await late.close(within_s=1)
    box.close([second])
    assert {await first.ask() for _ in range(20)} == {1}


async def test_when_all_have_stopped_and_their_parent_has_let_go_callers_are_refused(
    make: Callable[[int], Group],
) -> None:
    group = make(2)
    await group.listen(0, 1)
    box.close(group.addresses)
    for server in group.servers:
        server.stop_accepting()
    await asyncio.sleep(0.05)
    with pytest.raises(ConnectionRefusedError):
        await group.ask()
