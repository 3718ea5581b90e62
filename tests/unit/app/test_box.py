"""The sockets that the workers of one box listen on."""

import os
import socket

import pytest

from penstock.app import box


def test_every_worker_has_a_socket_on_the_address_and_none_listens_yet() -> None:
    addresses = box.bind("127.0.0.1", 0, 3)
    (sockets,) = addresses
    assert len(sockets) == 3
    (address,) = {place.getsockname() for place in sockets}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)
    box.close(addresses)


def test_a_name_stands_for_each_of_its_addresses_once() -> None:
    addresses = box.bind("localhost", 0, 2)
    hosts = [sockets[0].getsockname()[0] for sockets in addresses]
    assert "127.0.0.1" in hosts
    assert len(set(hosts)) == len(hosts)
    box.close(addresses)


def test_an_address_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        box.bind("127.0.0.1", taken.getsockname()[1], 2)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_this_machine_s_is_refused(host: str) -> None:
    with pytest.raises(OSError):
        box.bind(host, 0, 1)


def test_a_child_reads_what_its_parent_wrote() -> None:
    addresses = box.bind("127.0.0.1", 0, 2)
    copies = [os.dup(place.fileno()) for place in addresses[0]]
    found = box.read(",".join(map(str, copies)))
    assert box.written(found) == ",".join(map(str, copies))
    assert [place.getsockname() for place in found] == [place.getsockname() for place in addresses[0]]
    box.close([*addresses, found])
