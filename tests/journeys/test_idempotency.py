"""A request that is sent twice under one Idempotency-Key goes to the provider once, whatever dies in between."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from penstock.testing.caller import Answer
from penstock.testing.lab import Lab, chat
from penstock.testing.postgres import Postgres
from penstock.testing.scripted import chunk, event, stalls, streamed
from penstock.testing.wire import eventually

MakeLab = Callable[..., Lab]
KEYS: dict[str, dict[str, Any]] = {"ci": {"team": "growth"}, "limited": {"team": "growth"}}
COST = 60_000


LIMITS: list[dict[str, Any]] = [
    {"name": "calls", "match": {"key": "ci"}, "unit": "requests", "amount": 1_000, "per": "day"},
    {"name": "one-call", "match": {"key": "limited"}, "unit": "requests", "amount": 1, "per": "day"},
]


@pytest.fixture(scope="module")
def running(file_lab: MakeLab) -> Lab:
    return file_lab(KEYS, LIMITS)


@pytest.fixture
def mortal(running: Lab) -> Lab:
    """A gateway whose processes the test may kill."""
    running.fresh()
    return running


def _send(lab: Lab, name: str, key: str = "ci", **more: Any) -> Answer:
    return lab.chat(key, {"idempotency-key": name}, **more)


def _refused(answer: Answer, first_request_id: str, status: int = 409, code: str = "idempotency_conflict") -> None:
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.headers["x-penstock-error"] == code
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-penstock-first-request-id"] == first_request_id
    assert first_request_id in answer.error["message"]


def test_a_second_request_is_refused_after_the_first_has_ended_and_names_it(lab: Lab) -> None:
    first = _send(lab, "ended")
    assert first.status == 200
    second = _send(lab, "ended")
    _refused(second, first.request_id)
    assert len(lab.provider.received) == 1
    assert "idempotency-key" not in lab.provider.received[0].headers
    assert lab.gateway.receipt(second.request_id)["error_code"] == "idempotency_conflict"
    found = lab.caller("ci").get(f"/v1/receipts/{second.headers['x-penstock-first-request-id']}")
    assert (found.status, found.json()["cost_nanousd"]) == (200, COST)


def test_a_second_request_is_refused_while_the_first_runs(lab: Lab) -> None:
    lab.provider.on("lab-upstream", stalls(after=[event(chunk("lab-upstream", {"content": "x"}))]))
    body, headers = chat(stream=True), {"idempotency-key": "running"}
    with lab.caller("ci").open("/v1/chat/completions", body, headers) as call:
        assert call.status == 200
        _refused(lab.caller("ci").post("/v1/chat/completions", body, headers), call.headers["x-request-id"])
    assert len(lab.provider.received) == 1


def test_of_many_that_come_together_one_is_sent(lab: Lab) -> None:
    lab.provider.on("lab-upstream", streamed(delay_ms=20))
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: _send(lab, "together", stream=True), range(16)))
    (first,) = [answer for answer in answers if answer.status == 200]
    for answer in answers:
        if answer is not first:
            _refused(answer, first.request_id)
    assert len(lab.provider.received) == 1


def test_of_many_that_come_to_several_workers_one_is_sent(own_lab: MakeLab) -> None:
    lab = own_lab(KEYS, LIMITS, workers=2)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: _send(lab, f"name-{number % 8}"), range(64)))
    assert sorted(answer.status for answer in answers) == [200] * 8 + [409] * 56
    assert len(lab.provider.received) == 8


def test_a_changed_body_is_told_apart(lab: Lab) -> None:
    first = _send(lab, "changed")
    _refused(_send(lab, "changed", max_tokens=19), first.request_id, 422, "idempotency_mismatch")
    _refused(_send(lab, "changed"), first.request_id)
    assert len(lab.provider.received) == 1


def test_embeddings_have_it_too(lab: Lab) -> None:
    body, headers = {"model": "embed", "input": "water"}, {"idempotency-key": "vectors"}
    first = lab.caller("ci").post("/v1/embeddings", body, headers)
    assert first.status == 200
    _refused(lab.caller("ci").post("/v1/embeddings", body, headers), first.request_id)


def test_another_virtual_key_is_free_to_use_the_same_words(lab: Lab) -> None:
    assert _send(lab, "shared").status == 200
    assert _send(lab, "shared", "second").status == 200


def test_words_that_are_no_key_are_refused(lab: Lab) -> None:
    for said in ("", "two words", "k" * 256):
        answer = _send(lab, said)
        assert (answer.status, answer.error["code"]) == (400, "invalid_request")
        assert "Idempotency-Key" in answer.error["message"]
    assert not lab.provider.received


def test_a_request_that_was_refused_can_be_sent_again(mortal: Lab) -> None:
    lab = mortal
    assert _send(lab, "one", "limited").status == 200
    assert _send(lab, "two", "limited").status == 429
    assert _send(lab, "two", "limited", model="no-such-model").status == 404
    shown = lab.gateway.run("limit", "raise", "one-call", "--by", "1", "--until", "1h", "--reason", "test")
    assert shown.returncode == 0, shown.stderr
    eventually(lambda: _send(lab, "two", "limited").status == 200, 5, "the raise has arrived")
    assert _send(lab, "two", "limited").status == 409
    assert len(lab.provider.received) == 2


def test_a_key_stays_taken_when_the_whole_tree_died(mortal: Lab) -> None:
    lab = mortal
    lab.provider.on("lab-upstream", streamed(["x"] * 50, delay_ms=100))
    ended = _send(lab, "ended", model="other-model")
    with lab.caller("ci").open("/v1/chat/completions", chat(stream=True), {"idempotency-key": "cut"}) as call:
        cut_request_id = call.headers["x-request-id"]
        assert call.read_some()
        lab.gateway.kill_tree()
    lab.gateway.start()
    _refused(_send(lab, "ended", model="other-model"), ended.request_id)
    _refused(_send(lab, "cut", stream=True), cut_request_id)
    assert lab.gateway.receipt(cut_request_id)["flags"] == ["crash"]
    assert len(lab.provider.received) == 2


def _in_flight(lab: Lab) -> int:
    return sum(node["in_flight"] for node in lab.gateway.admin("GET", "/admin/v1/status").json()["nodes"])


@pytest.fixture
def unreachable() -> Iterator[str]:
    """An address where connections are neither taken nor refused: its queue is full."""
    with ExitStack() as stack:
        place = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(place.getsockname())
        yield f"http://127.0.0.1:{place.getsockname()[1]}/v1"


def test_a_key_of_a_worker_that_died_before_it_had_sent_anything_is_free(mortal: Lab, unreachable: str) -> None:
    lab = mortal
    provider = {"name": "deaf", "kind": "compatible", "base_url": unreachable, "timeouts": {"connect": "60s"}}
    assert lab.gateway.admin("POST", "/admin/v1/providers", provider).status == 201
    model = {"name": "deaf", "targets": [{"provider": "deaf", "model": "x"}], "price": {"input": 1, "output": 1}}
    assert lab.gateway.admin("POST", "/admin/v1/models", model).status == 201
    eventually(lambda: b'"deaf"' in lab.caller("ci").get("/v1/models").body, 5)
    sent = _send(lab, "sent")
    with lab.caller("ci").open("/v1/chat/completions", chat("deaf"), {"idempotency-key": "unsent"}):
        eventually(lambda: _in_flight(lab) == 1, 5, "the call is being served")
        assert _send(lab, "unsent").status == 422
        lab.gateway.kill_tree()
    lab.gateway.start()
    assert _send(lab, "unsent").status == 200
    _refused(_send(lab, "sent"), sent.request_id)


def test_nothing_is_sent_while_the_control_process_is_dead(mortal: Lab) -> None:
    lab = mortal
    assert _send(lab, "before").status == 200
    sent = len(lab.provider.received)
    refusals = 0
    lab.gateway.kill("control")
    while not lab.gateway.admin_is_up():
        answer = _send(lab, "meanwhile")
        if answer.status == 200:
            break
        assert (answer.status, answer.headers["x-penstock-error"]) == (503, "store_unavailable")
        assert answer.headers["retry-after"]
        assert len(lab.provider.received) == sent
        refusals += 1
    assert refusals
    eventually(lambda: _send(lab, "meanwhile").status in (200, 409), 10, "the control process is back")
    eventually(lambda: _send(lab, "meanwhile").status == 409, 10)
    assert len(lab.provider.received) == sent + 1
    assert _send(lab, "before").status == 409


def test_nothing_is_sent_while_the_store_is_away_and_everything_works_when_it_is_back(
    own_lab: MakeLab, own_postgres: Postgres
) -> None:
    lab = own_lab(KEYS, LIMITS, store=own_postgres.url("postgres"))
    first = _send(lab, "before")
    assert first.status == 200
    own_postgres.stop()
    answer = _send(lab, "during")
    assert (answer.status, answer.headers["x-penstock-error"]) == (503, "store_unavailable")
    assert lab.chat("ci").status == 200, "a call without a key needs no store"
    own_postgres.start()
    eventually(lambda: _send(lab, "during").status == 200, 20, "the key is free, and the store is back")
    _refused(_send(lab, "before"), first.request_id)
    lab.gateway.kill_tree()
    lab.gateway.start()
    _refused(_send(lab, "before"), first.request_id)
    assert _send(lab, "during").status == 409
    assert len(lab.provider.received) == 3
