"""A worker takes its first call when it can serve it: while it cannot, another one can."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from penstock.app import box
from penstock.app.arrival import Keys, without_keys
from penstock.app.link import Beat, Hello, Message, Welcome, encode
from penstock.domain.snapshot import Snapshot
from penstock.ledger.journal import create
from penstock.testing.caller import Caller
from penstock.testing.wire import eventually

_decoder = msgspec.msgpack.Decoder(Message)


class _ControlEnd:
    """The control process's end of one worker's link, in the hands of the test."""

    def __init__(self, place: socket.socket) -> None:
        self._link, _ = place.accept()
        self._link.settimeout(30)
        self._reader = self._link.makefile("rb")

    def hear(self, kind: type[Message]) -> None:
        """Reads up to the next message of this kind."""
        while not isinstance(_decoder.decode(self._reader.read(int.from_bytes(self._reader.read(4), "big"))), kind):
            pass

    def say(self, message: Message) -> None:
        self._link.sendall(encode(message))

    def close(self) -> None:
        self._reader.close()
        self._link.close()


@pytest.fixture
def addresses() -> Iterator[list[list[socket.socket]]]:
    bound = box.bind("127.0.0.1", 0, 1)
    yield bound
    box.close(bound)


@pytest.fixture
def control_end(tmp_path: Path, addresses: list[list[socket.socket]]) -> Iterator[_ControlEnd]:
    """Of a real worker that has just started."""
    (tmp_path / "journals").mkdir()
    (sockets,) = addresses
    words = ["--data", str(tmp_path), "--number", "0", "--listen", box.written(sockets)]
    with socket.socket(socket.AF_UNIX) as place:
        place.settimeout(30)
        place.bind(str(tmp_path / "control.sock"))
        place.listen()
        worker = subprocess.Popen(
            [sys.executable, "-m", "penstock.app.worker", *words],
            pass_fds=[sockets[0].fileno()],
            env={"PATH": os.environ.get("PATH", "")},
        )
        end = _ControlEnd(place)
        yield end
        worker.terminate()
        worker.wait(30)
        end.close()


def test_a_worker_listens_when_its_snapshot_is_whole_and_not_before(
    tmp_path: Path, addresses: list[list[socket.socket]], control_end: _ControlEnd
) -> None:
    port = addresses[0][0].getsockname()[1]
    control_end.hear(Hello)
    control_end.say(Welcome(7, str(create(tmp_path / "journals", 7)), without_keys(Snapshot(1)), b"pepper"))
    control_end.hear(Beat)
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        pass
    control_end.say(Keys((), last=True))

    def first_answer() -> int | None:
        try:
            return Caller(f"http://127.0.0.1:{port}").get("/readyz").status
        except ConnectionRefusedError:
            return None

    assert eventually(first_answer, 10, "it listens") == 200
