"""Ports for a test's servers: nobody else is given them, the system included."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.testing import ports

SYSTEMS_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_the_system_gives_none_of_them_to_an_outgoing_connection() -> None:
    if not SYSTEMS_RANGE.exists():
        pytest.skip("only Linux says which ports it gives")
    first = int(SYSTEMS_RANGE.read_text().split()[0])
    if first < 32_768:
        pytest.skip(f"this machine is set to give ports from {first} on")
    assert ports.FIRST > 1023
    assert max(ports.free_ports(3)) < ports.FIRST + ports.SLICES * ports.SLICE <= first


def test_two_processes_are_given_none_in_common() -> None:
    mine = ports.free_ports(2 * ports.SLICE)
    program = (
        f"from penstock.testing.ports import free_ports; print(*free_ports({2 * ports.SLICE}), flush=True); input()"
    )
    others = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    given = []
    for other in others:
        assert other.stdout is not None
        given.append({int(word) for word in other.stdout.readline().split()})
    for other in others:
        other.communicate("\n")
    first, second = given
    assert len(first) > ports.SLICE // 2 and len(second) > ports.SLICE // 2
    assert not first & second and not (first | second) & set(mine)


def test_a_port_comes_again_only_after_all_the_others_and_never_while_somebody_listens() -> None:
    (port,) = ports.free_ports(1)
    assert port not in ports.free_ports(ports.SLICE // 2)
    with socket.create_server((ports.LOOPBACK, port)):
        assert port not in ports.free_ports(2 * ports.SLICE)


def test_where_all_are_taken_it_says_so() -> None:
    (port,) = ports.free_ports(1)
    with (
        socket.create_server((ports.LOOPBACK, port)),
        pytest.raises(RuntimeError, match=f"no port of 127.0.0.1 from {port} to {port} is free"),
    ):
        next(ports._free(range(port, port + 1)))
