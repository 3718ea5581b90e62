"""The fault proxy passes everything on, until it is told to fail."""

import http.client
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.testing.bank import Bank
from penstock.testing.caller import Caller
from penstock.testing.faults import GARBAGE, Fault, FaultProxy
from penstock.testing.wire import eventually

PATH = "/v1/chat/completions"
BODY = {"model": "m", "messages": [], "user": "call-1", "max_tokens": 20}


@pytest.fixture
def bank() -> Iterator[Bank]:
    with Bank(delay_ms=1) as bank:
        yield bank


@pytest.fixture
def proxy(bank: Bank) -> Iterator[FaultProxy]:
    with FaultProxy(bank.port) as proxy:
        yield proxy


def call(proxy: FaultProxy, timeout_s: float = 5, **more: Any) -> bytes:
    return Caller(proxy.origin).post(PATH, {**BODY, **more}, timeout_s=timeout_s).body


def everything(proxy: FaultProxy, **more: Any) -> bytes:
    """The bytes of an answer, up to the end of the connection."""
    heard = b""
    with Caller(proxy.origin).open(PATH, {**BODY, **more}) as opened:
        while data := opened.socket.recv(65536):
            heard += data
    return heard


def test_without_a_fault_everything_passes(proxy: FaultProxy) -> None:
    assert b'"completion_tokens":20' in call(proxy)
    assert call(proxy, stream=True).endswith(b"data: [DONE]\n\n")


def test_a_late_and_a_slow_connection_bring_everything_in_the_end(proxy: FaultProxy) -> None:
    caller = Caller(proxy.origin)
    proxy.fault = Fault("latency", delay_ms=150)
    late = caller.post(PATH, BODY)
    assert late.elapsed_ms > 150
    proxy.fault = Fault("slow", delay_ms=10)
    slow = caller.post(PATH, BODY)
    assert slow.elapsed_ms > 10 * len(slow.body) / 64
    assert b'"completion_tokens":20' in slow.body


@pytest.mark.parametrize("kind", ["drop", "half_close"])
def test_an_answer_ends_after_the_bytes_that_were_let_through(proxy: FaultProxy, kind: Any) -> None:
    proxy.fault = Fault(kind, after_bytes=200)
    heard = everything(proxy)
    assert heard.startswith(b"HTTP/1.1 200")
    assert len(heard) == 200
    proxy.fault = Fault(kind)
    with pytest.raises(http.client.RemoteDisconnected):
        call(proxy)


def test_a_reset_is_a_reset(proxy: FaultProxy) -> None:
    proxy.fault = Fault("reset")
    with pytest.raises(ConnectionResetError):
        call(proxy)


def test_a_black_hole_says_nothing_and_stays_open_until_the_caller_leaves(proxy: FaultProxy, bank: Bank) -> None:
    proxy.fault = Fault("black_hole")
    with pytest.raises(TimeoutError):
        call(proxy, timeout_s=0.3)
    assert bank.statement[0].closed
    eventually(lambda: bank.open_connections == 0, 2, "the proxy has left the bank as well")


def test_garbage_takes_the_place_of_the_answer(proxy: FaultProxy) -> None:
    proxy.fault = Fault("garbage", after_bytes=600)
    heard = everything(proxy, stream=True)
    assert heard.startswith(b"HTTP/1.1 200")
    assert heard.endswith(GARBAGE)
    assert len(heard) == 600 + len(GARBAGE)


def test_a_fault_can_change_between_two_calls_of_one_connection(proxy: FaultProxy, bank: Bank) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=5)
    connection.request("POST", PATH, b'{"max_tokens": 1}')
    assert connection.getresponse().read()
    proxy.fault = Fault("drop")
    connection.request("POST", PATH, b'{"max_tokens": 1}')
    with pytest.raises(http.client.RemoteDisconnected):
        connection.getresponse()
    connection.close()
    assert bank.connections == 1


def test_a_caller_who_leaves_is_gone_for_the_bank(proxy: FaultProxy, bank: Bank) -> None:
    with Caller(proxy.origin).open(PATH, {**BODY, "stream": True, "max_tokens": 10_000}) as opened:
        assert opened.read_some()
    eventually(lambda: bank.statement[0].cut, 2, "the bank saw it")
