"""The targets of an alias are tried in order until the first byte, and every try is on the receipt."""

from typing import Any

import pytest

from penstock.testing.lab import Lab, chat
from penstock.testing.scripted import chunk, event, fails, resets, stalls
from penstock.testing.wire import eventually


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
@pytest.mark.parametrize("stream", [False, True])
def test_the_next_target_answers_when_the_first_is_in_trouble(lab: Lab, status: int, stream: bool) -> None:
    lab.provider.on("pair-first", fails(status))
    answer = lab.chat("ci", model="pair", stream=stream)
    assert answer.status == 200
    assert answer.headers["x-penstock-model"] == "pair-second"
    assert answer.headers["x-penstock-attempts"] == "2"
    receipt = lab.gateway.receipt(answer.request_id)
    tried = [(attempt["n"], attempt["model"], attempt["status"]) for attempt in receipt["attempts"]]
    assert tried == [(1, "pair-first", status), (2, "pair-second", 200)]
    assert receipt["model"] == "pair-second"
    assert receipt["cost_nanousd"] == sum(attempt["cost_nanousd"] for attempt in receipt["attempts"]) == 60_000
    eventually(lambda: lab.gateway.held() == 0, 3)


def test_the_first_target_answers_when_it_can(lab: Lab) -> None:
    answer = lab.chat("ci", model="pair")
    assert answer.headers["x-penstock-attempts"] == "1"
    assert not lab.provider.calls("pair-second")


def test_a_target_that_cannot_be_reached_costs_nothing_and_the_rest_are_tried(lab: Lab) -> None:
    lab.provider.on("trio-second", fails(500))
    answer = lab.chat("ci", model="trio")
    assert answer.status == 200
    assert answer.headers["x-penstock-attempts"] == "3"
    attempts = lab.gateway.receipt(answer.request_id)["attempts"]
    assert [(attempt["provider"], attempt["error_code"] != "") for attempt in attempts] == [
        ("gone", True),
        ("lab", True),
        ("lab", False),
    ]
    assert attempts[0]["cost_nanousd"] == 0


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_fault_of_the_request_itself_is_not_tried_elsewhere(lab: Lab, status: int) -> None:
    lab.provider.on("pair-first", fails(status))
    answer = lab.chat("ci", model="pair")
    assert answer.status == status
    assert not lab.provider.calls("pair-second")


def test_our_credential_being_rejected_tries_the_next_target(lab: Lab) -> None:
    lab.provider.on("pair-first", fails(401))
    assert lab.chat("ci", model="pair").headers["x-penstock-attempts"] == "2"


@pytest.mark.parametrize("script", [resets(), stalls()])
def test_an_attempt_that_was_sent_and_never_answered_is_charged_and_the_next_target_tried(
    lab: Lab, script: Any
) -> None:
    lab.provider.on("hasty-upstream", script)
    answer = lab.chat("ci", model="hasty-pair")
    assert answer.status == 200
    receipt = lab.gateway.receipt(answer.request_id)
    first, second = receipt["attempts"]
    assert first["basis"] == "estimated"
    assert first["cost_nanousd"] > 0
    assert second["cost_nanousd"] == 60_000
    assert receipt["cost_nanousd"] == first["cost_nanousd"] + second["cost_nanousd"]


def test_the_last_error_is_told_when_every_target_fails(lab: Lab) -> None:
    lab.provider.on("pair-first", fails(500))
    told = {"error": {"message": "Full.", "type": "overloaded", "param": None, "code": "full"}}
    lab.provider.on("pair-second", fails(503, told))
    answer = lab.chat("ci", model="pair")
    assert answer.status == 503
    assert answer.error["message"] == "Full."
    assert answer.headers["x-penstock-attempts"] == "2"
    eventually(lambda: lab.gateway.held() == 0, 3)


def test_no_other_target_is_tried_after_the_first_byte(lab: Lab) -> None:
    lab.provider.on("pair-first", resets([event(chunk("pair-first", {"content": "Hel"}))]))
    with lab.caller("ci").open("/v1/chat/completions", chat("pair", stream=True)) as call:
        assert b'"upstream_reset"' in call.read_all()
    assert not lab.provider.calls("pair-second")
