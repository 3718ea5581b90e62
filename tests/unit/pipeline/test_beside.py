"""Large answers are written beside the event loop, so that the streams of other calls go on."""

import asyncio
import threading

import pytest

from penstock.errors import UpstreamMalformed
from penstock.pipeline.attempt import BESIDE_BYTES, beside


@pytest.mark.parametrize(("size", "is_beside"), [(BESIDE_BYTES - 1, False), (BESIDE_BYTES, True)])
def test_a_large_answer_is_written_on_a_thread_of_its_own(size: int, is_beside: bool) -> None:
    threads: list[int] = []

    def write(read: bytes) -> bytes:
        threads.append(threading.get_ident())
        return read + b"!"

    assert asyncio.run(beside(size, write, b"told")) == b"told!"
    assert (threads[0] != threading.get_ident()) == is_beside


def test_a_fault_of_a_large_answer_is_told_like_any() -> None:
    def write(read: bytes) -> bytes:
        raise UpstreamMalformed("odd")

    with pytest.raises(UpstreamMalformed, match="odd"):
        asyncio.run(beside(BESIDE_BYTES, write, b""))
