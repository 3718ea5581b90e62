"""Where a gateway stands: what it takes of the file to start the processes of a box, read without the rest.

The control process checks the whole file when it starts. Whoever starts it does not have to wait for that twice.
"""

import re
from typing import NamedTuple

from penstock.config.document import read

MAX_WORKERS = 64
HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")


class Place(NamedTuple):
    """The settings of these names under `server`, and what they are where the file does not say."""

    listen: str = "127.0.0.1:8080"
    data: str = "./data"
    workers: int = 1


DEFAULT_PLACE = Place()


def place_in(content: bytes) -> Place | None:
    """None where what the file says of it is not plainly right: the check of the whole file tells why."""
    document = read(content)
    if document.faults or not isinstance(document.data, dict):
        return None
    server = document.data.get("server")
    if not isinstance(server, dict):
        return DEFAULT_PLACE if server is None else None
    found = Place(**{name: server[name] for name in Place._fields if name in server})
    is_right = (
        isinstance(found.listen, str)
        and is_listen_address(found.listen)
        and isinstance(found.data, str)
        and found.data != ""
        and is_count_of_workers(found.workers)
    )
    return found if is_right else None


def is_listen_address(text: str) -> bool:
    """Whether it is `host:port`; an IPv6 host stands in brackets."""
    host, colon, port = text.rpartition(":")
    is_port = port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536
    return bool(colon and HOST.fullmatch(host)) and is_port


def is_count_of_workers(value: object) -> bool:
    return type(value) is int and 1 <= value <= MAX_WORKERS
