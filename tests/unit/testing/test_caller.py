"""The caller on a bare socket leaves nothing open, whatever meets it."""

import gc
import socket
import struct
import threading
import warnings
from collections.abc import Iterator

import pytest

from penstock.testing.caller import Caller

MORE_THAN_ANY_BUFFER = bytes(16 << 20)


@pytest.fixture
def slammed() -> Iterator[str]:
    """The origin of a server that resets a connection as soon as it has it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def slam() -> None:
            connection, _ = listener.accept()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

        thread = threading.Thread(target=slam, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)


def test_a_request_that_cannot_be_sent_leaves_no_socket_behind(slammed: str) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):
            Caller(slammed).open("/", MORE_THAN_ANY_BUFFER)
        gc.collect()
    assert [str(one.message) for one in warned] == []
