"""Ports for servers that a test starts.

A port that the system hands out for port 0 is of the range from which it also takes the near ends of outgoing
connections, so that one of these can have it before the server that it was meant for listens. The ports here are below
that range (32768 on, Linux's `net.ipv4.ip_local_port_range`; 49152 on, RFC 6335), and every process takes them from a
slice of its own.
"""

import itertools
import socket
from collections.abc import Iterator
from functools import cache

LOOPBACK = "127.0.0.1"
FIRST, SLICES, SLICE = 10_000, 50, 450


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, and that no other process is given by this function."""
    return list(itertools.islice(_ports_of_this_process(), count))


@cache
def _ports_of_this_process() -> Iterator[int]:
    """Round and round the slice; the system lets go of a slice when its process ends. `RuntimeError` when every slice
    is taken, or no port of it is free."""
    for first in range(FIRST, FIRST + SLICES * SLICE, SLICE):
        guard = _listening(first)
        if guard is not None:
            guard.detach()
            return _free(range(first + 1, first + SLICE))
    raise RuntimeError(f"every port of {LOOPBACK} that is kept for tests is taken")


def _free(ports: range) -> Iterator[int]:
    taken_in_a_row = 0
    for port in itertools.cycle(ports):
        place = _listening(port)
        if place is not None:
            place.close()
            taken_in_a_row = 0
            yield port
        elif (taken_in_a_row := taken_in_a_row + 1) == len(ports):
            raise RuntimeError(f"no port of {LOOPBACK} from {ports.start} to {ports.stop - 1} is free")


def _listening(port: int) -> socket.socket | None:
    try:
        return socket.create_server((LOOPBACK, port))
    except OSError:
        return None
