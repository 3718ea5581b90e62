"""What the processes of one box agree on: how workers are called, and the sockets that they listen on.

It imports nothing but the standard library, because the supervisor does not.

Every worker has a socket of its own on each address, and the kernel spreads connections over them: one socket for all
would leave most of a burst to whichever worker wakes first. The supervisor makes them and keeps them open, so that what
waits on the socket of a worker that died is not lost: the others look after it.
"""

import errno
import socket
from collections.abc import Sequence


def node_name(number: int) -> str:
    """What worker `number` of this box is called: `host/worker-0`."""
    return f"{socket.gethostname()}/worker-{number}"


def bind(host: str, port: int, workers: int) -> list[list[socket.socket]]:
    """For each address that `host` stands for, one socket per worker. None of them listens yet: until a worker is there
    to serve, callers are refused and not kept waiting. Raises `OSError` when an address is not this machine's, or
    another program listens there."""
    addresses: list[list[socket.socket]] = []
    try:
        for family, address in _addresses(host, port):
            sockets = [socket.socket(family, socket.SOCK_STREAM) for _ in range(workers)]
            addresses.append(sockets)
            for place in sockets:
                place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    place.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sockets[0].bind(address)
            for place in sockets[1:]:
                place.bind(sockets[0].getsockname())
    except OSError:
        close(addresses)
        raise
    return addresses


def close(addresses: Sequence[Sequence[socket.socket]]) -> None:
    """Lets go of them; who else has them keeps them."""
    for sockets in addresses:
        for place in sockets:
            place.close()


def written(sockets: Sequence[socket.socket]) -> str:
    """One address's sockets as a child's argument: `7,8`."""
    return ",".join(str(place.fileno()) for place in sockets)


def read(argument: str) -> list[socket.socket]:
    """The sockets behind `7,8`, which this process was given."""
    return [socket.socket(fileno=int(number)) for number in argument.split(",")]


def _addresses(host: str, port: int) -> Sequence[tuple[socket.AddressFamily, tuple[object, ...]]]:
    """Each once, without those of a family that this machine does not speak."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    distinct = dict.fromkeys((family, address) for family, _, _, _, address in found)
    spoken = [each for each in distinct if _is_spoken(each[0])]
    if not spoken:
        raise OSError(errno.EAFNOSUPPORT, "this machine does not speak that family of addresses")
    return spoken


def _is_spoken(family: socket.AddressFamily) -> bool:
    try:
        socket.socket(family, socket.SOCK_STREAM).close()
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return False
        raise
    return True
