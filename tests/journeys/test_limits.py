"""A limit is never exceeded, and a denial says which limit, what was left and when to come back."""

from collections.abc import Callable

import openai
import pytest

from penstock.testing.caller import Answer
from penstock.testing.lab import Lab, chat
from penstock.testing.scripted import chunk, event, stalls, streamed
from penstock.testing.wire import eventually

Sdk = Callable[..., openai.OpenAI]


def _until_denied(lab: Lab, key: str, **more: object) -> tuple[int, Answer]:
    """How many calls were admitted, and the first denial."""
    for admitted in range(100):
        answer = lab.chat(key, **more)
        if answer.status != 200:
            return admitted, answer
    raise AssertionError("a hundred calls were admitted")


def _denied(answer: Answer, code: str, *words: str) -> None:
    assert answer.status == 429
    assert answer.error["code"] == answer.headers["x-penstock-error"] == code
    for word in words:
        assert word in answer.error["message"]


def test_the_money_runs_out_before_the_limit_is_exceeded(lab: Lab) -> None:
    admitted, answer = _until_denied(lab, "tiny-usd")
    _denied(answer, "insufficient_quota", "tiny-usd", "month")
    assert answer.headers["x-should-retry"] == "false"
    assert answer.error["type"] == "insufficient_quota"
    assert admitted >= 2
    assert len(lab.provider.received) == admitted
    assert lab.gateway.settled("tiny-usd") == admitted * 60_000 <= 400_000


def test_a_call_whose_worst_case_is_too_dear_never_reaches_the_provider(lab: Lab) -> None:
    _denied(lab.chat("hold-usd", max_tokens=1000), "insufficient_quota", "hold-usd")
    assert not lab.provider.received
    assert lab.gateway.held() == 0


def test_a_call_is_denied_while_the_holds_of_others_are_in_the_way_and_admitted_afterwards(lab: Lab) -> None:
    lab.provider.on("other-upstream", stalls(after=[event(chunk("other-upstream", {"content": "x"}))]))
    with lab.caller("hold-usd").open("/v1/chat/completions", chat("other-model", max_tokens=85, stream=True)) as call:
        assert call.status == 200
        answer = lab.chat("hold-usd")
        _denied(answer, "limit_held", "hold-usd")
        assert float(answer.headers["retry-after"]) > 0
        assert answer.headers.get("x-should-retry") != "false"
    eventually(lambda: lab.gateway.held() == 0, 3, "the hold is resolved")


def test_tokens_of_a_window_run_out_until_it_turns(lab: Lab) -> None:
    admitted, answer = _until_denied(lab, "tiny-tokens")
    _denied(answer, "rate_limit_exceeded", "tiny-tokens", "day")
    assert 0 < float(answer.headers["retry-after"]) <= 86_400
    assert lab.gateway.settled("tiny-tokens") == admitted * 15 <= 160


def test_requests_of_a_window_run_out_until_it_turns(lab: Lab) -> None:
    admitted, answer = _until_denied(lab, "tiny-requests")
    assert admitted == 2
    _denied(answer, "rate_limit_exceeded", "tiny-requests", "hour")
    assert 0 < float(answer.headers["retry-after"]) <= 3600
    assert answer.error["type"] == "rate_limit_error"


def test_calls_at_once_are_bounded(lab: Lab) -> None:
    lab.provider.on("lab-upstream", streamed(delay_ms=100))
    body = chat(stream=True)
    with lab.caller("tiny-concurrent").open("/v1/chat/completions", body) as first:
        assert first.status == 200
        denied = lab.chat("tiny-concurrent")
        _denied(denied, "limit_held", "tiny-concurrent")
        assert float(denied.headers["retry-after"]) > 0
        assert first.read_all().endswith(b"data: [DONE]\n\n")
    assert lab.chat("tiny-concurrent", stream=True).status == 200


def test_an_observing_limit_counts_and_never_denies(lab: Lab) -> None:
    for _ in range(3):
        assert lab.chat("observed").status == 200
    eventually(lambda: lab.gateway.settled("observed") == 3, 3)


def test_each_customer_has_a_balance_of_its_own(lab: Lab) -> None:
    acme, zeta = {"x-penstock-tags": "customer=acme"}, {"x-penstock-tags": "customer=zeta"}
    assert lab.chat("tagged", acme).status == 200
    answer = lab.chat("tagged", acme)
    _denied(answer, "rate_limit_exceeded", "per-customer", "acme")
    assert lab.chat("tagged", zeta).status == 200
    rows = {row["value"]: row["settled"] for row in lab.gateway.limits() if row["limit"] == "per-customer"}
    assert rows == {"acme": 1, "zeta": 1}


def test_a_denial_is_the_sdks_rate_limit_error(lab: Lab, sdk: Sdk) -> None:
    with pytest.raises(openai.RateLimitError) as told:
        sdk(lab, "hold-usd").chat.completions.create(**chat(max_tokens=1000))
    assert told.value.code == "insufficient_quota"


def test_the_sdk_does_not_retry_what_a_retry_cannot_cure(lab: Lab, sdk: Sdk) -> None:
    def refusals() -> float:
        rows = lab.gateway.admin("GET", "/admin/v1/usage?by=key,cause").json()["rows"]
        return sum(row["calls"] for row in rows if (row["key"], row["cause"]) == ("hold-usd", "refused"))

    before = refusals()
    with pytest.raises(openai.RateLimitError):
        sdk(lab, "hold-usd", max_retries=2).chat.completions.create(**chat(max_tokens=1000))
    eventually(lambda: refusals() == before + 1, 3)


def test_a_price_that_nobody_knows_is_refused_under_a_dollar_limit_and_flagged_without_one(lab: Lab) -> None:
    answer = lab.chat("ci", model="unpriced")
    assert (answer.status, answer.error["code"]) == (400, "unpriced_model")
    assert not lab.provider.received
    free = lab.chat("outsider", model="unpriced")
    assert free.status == 200
    receipt = lab.gateway.receipt(free.request_id)
    assert (receipt["cost_basis"], receipt["cost_nanousd"]) == ("unpriced", 0)


def test_the_cap_of_the_alias_is_sent_when_the_caller_gives_none(lab: Lab) -> None:
    body = chat()
    del body["max_tokens"]
    assert lab.caller("ci").post("/v1/chat/completions", body).status == 200
    sent = lab.provider.calls("lab-upstream")[0].json()
    assert sent.get("max_completion_tokens") or sent.get("max_tokens")
    assert (sent.get("max_completion_tokens") or sent.get("max_tokens")) <= 1000


def test_a_refused_call_has_a_receipt_that_costs_nothing(lab: Lab) -> None:
    answer = lab.chat("hold-usd", max_tokens=1000)
    receipt = lab.gateway.receipt(answer.request_id)
    assert receipt["cause"] == "refused"
    assert receipt["error_code"] == "insufficient_quota"
    assert receipt["cost_nanousd"] == 0
    assert receipt["attempts"] == []


def test_a_lowered_limit_binds_the_next_call_and_a_raised_one_frees_it(lab: Lab) -> None:
    limit = {"name": "movable", "match": {"key": "second"}, "unit": "usd", "amount": 1, "per": "total"}
    made = lab.gateway.admin("POST", "/admin/v1/limits", limit)
    assert made.status in (200, 201), made.body
    try:
        assert lab.chat("second").status == 200
        assert lab.gateway.admin("PATCH", "/admin/v1/limits/movable", {"amount": "0.0001"}).status == 200
        eventually(lambda: lab.chat("second").status == 429, 2, "the lowered limit binds")
        assert lab.gateway.admin("PATCH", "/admin/v1/limits/movable", {"amount": 1}).status == 200
        eventually(lambda: lab.chat("second").status == 200, 2, "the raised limit frees")
    finally:
        assert lab.gateway.admin("DELETE", "/admin/v1/limits/movable").status in (200, 204)
