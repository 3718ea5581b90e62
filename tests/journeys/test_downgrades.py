"""A limit that is used up hands its calls to a cheaper model, visibly, and refuses when that one may not or cannot."""

from collections.abc import Callable
from typing import Any

import pytest

from penstock.testing.caller import Answer
from penstock.testing.lab import Lab, chat
from penstock.testing.scripted import chunk, event, stalls
from penstock.testing.wire import eventually

MakeLab = Callable[..., Lab]
KEYS: dict[str, dict[str, Any]] = {
    "ci": {"team": "growth"},
    "narrow": {"team": "growth", "models": ["lab-model", "embed"]},
}
DOWNGRADE = {"downgrade": "other-model"}
COST = 60_000


def _dollars(name: str, model: str, amount: float, **more: Any) -> dict[str, Any]:
    return {"name": name, "match": {"model": model}, "unit": "usd", "amount": amount, "per": "month", **more}


BIG = _dollars("big-monthly", "lab-model", 0.0004, on_exceeded=DOWNGRADE)
SMALL = _dollars("small-monthly", "other-model", 0.0004)


def _calls(lab: Lab, key: str, count: int, **more: Any) -> list[Answer]:
    return [lab.chat(key, **more) for _ in range(count)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_used_up_limit_hands_over_to_the_other_model_until_that_is_used_up_too(
    own_lab: MakeLab, workers: int
) -> None:
    lab = own_lab(KEYS, [BIG, SMALL], workers=workers)
    answers = _calls(lab, "ci", 10)
    models = [answer.headers.get("x-penstock-model") for answer in answers]
    big, small = models.count("lab-upstream"), models.count("other-upstream")
    assert models == ["lab-upstream"] * big + ["other-upstream"] * small + [None] * (10 - big - small)
    assert big and small and big + small < 10
    assert [answer.headers.get("x-penstock-downgraded") for answer in answers[big : big + small]] == (
        ["big-monthly"] * small
    )
    refused = answers[-1]
    assert (refused.status, refused.error["code"]) == (429, "insufficient_quota")
    assert "limit big-monthly" in refused.error["message"]
    assert lab.gateway.settled("big-monthly") == big * COST <= 400_000
    assert lab.gateway.settled("small-monthly") == small * COST <= 400_000
    receipt = lab.gateway.receipt(answers[big].request_id)
    assert receipt["alias"] == "other-model"
    assert receipt["decision"] == {"downgrade": {"limit": "big-monthly", "from": "lab-model", "to": "other-model"}}
    shown = lab.gateway.run("receipt", answers[big].request_id)
    assert "from lab-model to other-model by limit big-monthly" in " ".join(shown.stdout.split())
    refusal = lab.gateway.receipt(refused.request_id)
    assert refusal["alias"] == "lab-model"
    assert refusal["decision"]["downgrade"]["refused"] == "insufficient_quota"
    metrics = lab.gateway.admin("GET", "/metrics").body.decode()
    assert f'penstock_downgrades_total{{limit="big-monthly"}} {small}.0' in metrics
    assert lab.gateway.held() == 0
    assert lab.gateway.verify().returncode == 0


def test_streams_and_embeddings_hand_over_too(own_lab: MakeLab) -> None:
    once = {"unit": "requests", "amount": 1, "per": "day"}
    limits = [
        {"name": f"once-{model}", "match": {"model": model}, **once, "on_exceeded": to}
        for model, to in (("lab-model", DOWNGRADE), ("other-model", "refuse"), ("embed", {"downgrade": "lab-model"}))
    ]
    lab = own_lab(KEYS, limits)
    first, second, third = _calls(lab, "ci", 3, stream=True)
    assert first.headers["x-penstock-model"] == "lab-upstream"
    assert second.headers["x-penstock-model"] == "other-upstream"
    assert second.headers["x-penstock-downgraded"] == "once-lab-model"
    assert second.body.endswith(b"data: [DONE]\n\n")
    assert third.status == 429 and "limit once-lab-model" in third.error["message"]
    body = {"model": "embed", "input": "water"}
    assert lab.caller("ci").post("/v1/embeddings", body).status == 200
    denied = lab.caller("ci").post("/v1/embeddings", body)
    assert denied.status == 429 and "limit once-embed" in denied.error["message"]


def test_a_key_that_may_not_use_the_other_model_is_refused_as_before(own_lab: MakeLab) -> None:
    lab = own_lab(KEYS, [{**BIG, "amount": 0.0001}])
    refused = lab.chat("narrow")
    assert (refused.status, refused.error["code"]) == (429, "insufficient_quota")
    assert "limit big-monthly" in refused.error["message"]
    assert lab.chat("ci").headers["x-penstock-downgraded"] == "big-monthly"


def test_a_stop_of_the_other_model_stops_the_calls_that_it_takes_over(own_lab: MakeLab) -> None:
    lab = own_lab(KEYS, [{**BIG, "amount": 0.0001}])
    assert lab.chat("ci").status == 200
    assert lab.gateway.run("kill", "--model", "other-model", "--reason", "test").returncode == 0
    sent = len(lab.provider.received)
    assert lab.chat("ci").status == 429
    assert len(lab.provider.received) == sent


def test_a_full_lane_hands_over_until_its_call_has_ended(own_lab: MakeLab) -> None:
    lane = {"name": "lane", "match": {"model": "lab-model"}, "unit": "concurrent", "amount": 1}
    lab = own_lab(KEYS, [{**lane, "on_exceeded": DOWNGRADE}])
    lab.provider.on("lab-upstream", stalls(after=[event(chunk("lab-upstream", {"content": "x"}))]))
    with lab.caller("ci").open("/v1/chat/completions", chat(stream=True)) as call:
        assert call.headers["x-penstock-model"] == "lab-upstream"
        assert lab.chat("ci").headers["x-penstock-downgraded"] == "lane"
    lab.provider.forget()
    eventually(lambda: lab.chat("ci").headers["x-penstock-model"] == "lab-upstream", 5, "the lane is free")


def test_the_reaction_can_be_changed_while_the_gateway_runs(own_lab: MakeLab) -> None:
    lab = own_lab(KEYS, [])
    made = lab.gateway.admin("POST", "/admin/v1/limits", {**BIG, "amount": "0.0001", "on_exceeded": "refuse"})
    assert (made.status, made.json()["on_exceeded"]) == (201, "refuse")
    eventually(lambda: lab.chat("ci").status == 429, 5)
    changed = lab.gateway.admin("PATCH", "/admin/v1/limits/big-monthly", {"on_exceeded": DOWNGRADE})
    assert changed.json()["on_exceeded"] == DOWNGRADE
    eventually(lambda: lab.chat("ci").status == 200, 5)
    told = lab.gateway.admin("PATCH", "/admin/v1/limits/big-monthly", {"on_exceeded": {"downgrade": "nothing"}})
    assert (told.status, told.json()["errors"][0]["place"]) == (422, "on_exceeded.downgrade")
    model = {"name": "mine", "targets": [{"provider": "lab", "model": "x"}]}
    assert lab.gateway.admin("POST", "/admin/v1/models", model).status == 201
    assert (
        lab.gateway.admin("PATCH", "/admin/v1/limits/big-monthly", {"on_exceeded": {"downgrade": "mine"}}).status == 200
    )
    kept = lab.gateway.admin("DELETE", "/admin/v1/models/mine")
    assert (kept.status, kept.json()["code"]) == (409, "conflict")
    assert "limit 'big-monthly'" in kept.json()["detail"]


@pytest.mark.parametrize("amount", [1, 1_000])
def test_a_request_that_may_be_sent_once_is_sent_once_to_whichever_model(own_lab: MakeLab, amount: int) -> None:
    lab = own_lab(KEYS, [{**BIG, "unit": "requests", "amount": amount}])
    assert lab.chat("ci").status == 200
    first = lab.chat("ci", {"idempotency-key": "once"})
    assert ("x-penstock-downgraded" in first.headers) == (amount == 1)
    assert lab.chat("ci", {"idempotency-key": "once"}).status == 409
    assert len(lab.provider.received) == 2
