"""A caller who hangs up closes the provider's connection within 250 ms, and is charged for what was used."""

import time

from penstock.testing.caller import OpenCall
from penstock.testing.lab import INPUT_NANOUSD, OUTPUT_NANOUSD, Lab, chat
from penstock.testing.scripted import endless, stalls
from penstock.testing.wire import Received, eventually

WORST_NANOUSD = 200 * INPUT_NANOUSD + 20 * OUTPUT_NANOUSD


def _open(lab: Lab, **more: object) -> OpenCall:
    return lab.caller("ci").open("/v1/chat/completions", chat(**more))


def _the_call(lab: Lab) -> Received:
    return eventually(lambda: lab.provider.calls("lab-upstream"), 3, "the call is upstream")[0]


def _hang_up(call: OpenCall, received: Received) -> float:
    """Milliseconds from hanging up to the end of the upstream connection."""
    call.hang_up()
    began = time.monotonic()
    eventually(lambda: received.gone_at, 2, "the upstream connection is closed")
    assert received.gone_at is not None
    return (received.gone_at - began) * 1000


def _newest_receipt(lab: Lab) -> dict[str, object]:
    def read() -> object:
        items = lab.gateway.admin("GET", "/admin/v1/receipts?limit=1").json()["items"]
        return items and items[0]["cause"] == "aborted" and items[0]

    receipt: dict[str, object] = eventually(read, 3, "a receipt of the aborted call")
    return receipt


def test_hanging_up_before_the_first_byte_closes_the_upstream(lab: Lab) -> None:
    lab.provider.on("lab-upstream", stalls())
    for stream in (False, True):
        lab.provider.received.clear()
        call = _open(lab, stream=stream)
        assert _hang_up(call, _the_call(lab)) < 250
        receipt = _newest_receipt(lab)
        assert receipt["cost_basis"] == "estimated"
        assert 0 < int(str(receipt["cost_nanousd"])) <= WORST_NANOUSD
        eventually(lambda: lab.gateway.held() == 0, 3, "nothing is held")


def test_hanging_up_in_the_middle_of_a_stream_closes_the_upstream(lab: Lab) -> None:
    lab.provider.on("lab-upstream", endless())
    call = _open(lab, stream=True)
    request_id = call.headers["x-request-id"]
    assert call.read_some()
    assert _hang_up(call, _the_call(lab)) < 250
    receipt = lab.gateway.receipt(request_id)
    assert receipt["cause"] == "aborted"
    assert receipt["cost_basis"] == "estimated"
    assert 0 < receipt["cost_nanousd"] <= WORST_NANOUSD
    eventually(lambda: lab.gateway.held() == 0, 3, "nothing is held")


def test_hanging_up_in_the_middle_of_a_plain_answer_closes_the_upstream(lab: Lab) -> None:
    lab.provider.on("lab-upstream", stalls(after=[b'{"id": "half']))
    call = _open(lab)
    received = _the_call(lab)
    time.sleep(0.05)
    assert _hang_up(call, received) < 250
    eventually(lambda: lab.gateway.held() == 0, 3, "nothing is held")


def test_hanging_up_while_the_provider_is_faster_than_the_caller_closes_the_upstream(lab: Lab) -> None:
    lab.provider.on("lab-upstream", endless(delay_ms=0))
    call = _open(lab, stream=True)
    assert call.read_some()
    received = _the_call(lab)
    time.sleep(0.3)
    paused_at = received.sent_bytes
    time.sleep(0.2)
    assert received.sent_bytes - paused_at < 8_000_000, "a slow caller must pause the provider"
    assert _hang_up(call, received) < 250
    eventually(lambda: lab.gateway.held() == 0, 3, "nothing is held")


def test_many_callers_who_hang_up_leave_nothing_behind(lab: Lab) -> None:
    lab.provider.on("lab-upstream", endless())
    calls = [_open(lab, stream=True) for _ in range(20)]
    for call in calls:
        assert call.read_some()
    for call in calls:
        call.hang_up()
    eventually(lambda: all(received.gone_at for received in lab.provider.calls("lab-upstream")), 2)
    eventually(lambda: lab.gateway.held() == 0, 3, "nothing is held")
    assert lab.chat("ci", model="other-model").status == 200
