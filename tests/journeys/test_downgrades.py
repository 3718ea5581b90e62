"""A limit that is used up hands its calls to a cheaper model, visibly, and refuses when that one may not or cannot."""

from collections.abc import Callable
from typing import Any

import pytest

from penstock.testing.caller import Answer
from penstock.testing.lab import Lab, chat
from penstock.testing.scripted import chunk, event, stalls
from penstock.testing.wire import eventually

MakeLab = Callable[..., Lab]
DOWNGRADE = {"downgrade": "other-model"}
COST = 60_000
KEYS: dict[str, dict[str, Any]] = {
    **{key: {"team": "growth"} for key in ("ci", "surfaces", "wide", "stopped", "lane", "edited", "first", "later")},
    "narrow": {"team": "growth", "models": ["lab-model", "embed"]},
}


def _limit(key: str, model: str, unit: str, amount: float, **more: Any) -> dict[str, Any]:
    window = {} if unit == "concurrent" else {"per": "month"}
    match = {"key": key, "model": model}
    return {"name": f"{key}-{model}", "match": match, "unit": unit, "amount": amount, **window, **more}


LIMITS = [
    _limit("ci", "lab-model", "usd", 0.0004, on_exceeded=DOWNGRADE),
    _limit("ci", "other-model", "usd", 0.0004),
    _limit("surfaces", "lab-model", "requests", 1, on_exceeded=DOWNGRADE),
    _limit("surfaces", "other-model", "requests", 1, on_exceeded="refuse"),
    _limit("surfaces", "embed", "requests", 1, on_exceeded={"downgrade": "lab-model"}),
    *(_limit(key, "lab-model", "usd", 0.0001, on_exceeded=DOWNGRADE) for key in ("narrow", "wide", "stopped")),
    _limit("lane", "lab-model", "concurrent", 1, on_exceeded=DOWNGRADE),
    _limit("first", "lab-model", "requests", 1, on_exceeded=DOWNGRADE),
    _limit("later", "lab-model", "requests", 1_000, on_exceeded=DOWNGRADE),
]


@pytest.fixture(scope="module")
def one_worker(file_lab: MakeLab) -> Lab:
    return file_lab(KEYS, LIMITS)


@pytest.fixture
def lab(one_worker: Lab) -> Lab:
    one_worker.fresh()
    return one_worker


def _calls(lab: Lab, key: str, count: int, **more: Any) -> list[Answer]:
    return [lab.chat(key, **more) for _ in range(count)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_used_up_limit_hands_over_to_the_other_model_until_that_is_used_up_too(
    lab: Lab, own_lab: MakeLab, workers: int
) -> None:
    lab = lab if workers == 1 else own_lab(KEYS, LIMITS, workers=workers)
    answers = _calls(lab, "ci", 10)
    models = [answer.headers.get("x-penstock-model") for answer in answers]
    big, small = models.count("lab-upstream"), models.count("other-upstream")
    assert models == ["lab-upstream"] * big + ["other-upstream"] * small + [None] * (10 - big - small)
    assert big and small and big + small < 10
    assert [answer.headers.get("x-penstock-downgraded") for answer in answers[big : big + small]] == (
        ["ci-lab-model"] * small
    )
    refused = answers[-1]
    assert (refused.status, refused.error["code"]) == (429, "insufficient_quota")
    assert "limit ci-lab-model" in refused.error["message"]
    assert lab.gateway.settled("ci-lab-model") == big * COST <= 400_000
    assert lab.gateway.settled("ci-other-model") == small * COST <= 400_000
    receipt = lab.gateway.receipt(answers[big].request_id)
    assert receipt["alias"] == "other-model"
    assert receipt["decision"] == {"downgrade": {"limit": "ci-lab-model", "from": "lab-model", "to": "other-model"}}
    shown = lab.gateway.run("receipt", answers[big].request_id)
    assert "from lab-model to other-model by limit ci-lab-model" in " ".join(shown.stdout.split())
    refusal = lab.gateway.receipt(refused.request_id)
    assert refusal["alias"] == "lab-model"
    assert refusal["decision"]["downgrade"]["refused"] == "insufficient_quota"
    metrics = lab.gateway.admin("GET", "/metrics").body.decode()
    assert f'penstock_downgrades_total{{limit="ci-lab-model"}} {small}.0' in metrics
    assert lab.gateway.held() == 0
    assert lab.gateway.verify().returncode == 0


def test_streams_and_embeddings_hand_over_too(lab: Lab) -> None:
    first, second, third = _calls(lab, "surfaces", 3, stream=True)
    assert first.headers["x-penstock-model"] == "lab-upstream"
    assert second.headers["x-penstock-model"] == "other-upstream"
    assert second.headers["x-penstock-downgraded"] == "surfaces-lab-model"
    assert second.body.endswith(b"data: [DONE]\n\n")
    assert third.status == 429 and "limit surfaces-lab-model" in third.error["message"]
    body = {"model": "embed", "input": "water"}
    assert lab.caller("surfaces").post("/v1/embeddings", body).status == 200
    denied = lab.caller("surfaces").post("/v1/embeddings", body)
    assert denied.status == 429 and "limit surfaces-embed" in denied.error["message"]


def test_a_key_that_may_not_use_the_other_model_is_refused_as_before(lab: Lab) -> None:
    refused = lab.chat("narrow")
    assert (refused.status, refused.error["code"]) == (429, "insufficient_quota")
    assert "limit narrow-lab-model" in refused.error["message"]
    assert lab.chat("wide").headers["x-penstock-downgraded"] == "wide-lab-model"


def test_a_stop_of_the_other_model_stops_the_calls_that_it_takes_over(lab: Lab) -> None:
    assert lab.chat("stopped").status == 200
    assert lab.gateway.run("kill", "--model", "other-model", "--reason", "test").returncode == 0
    sent = len(lab.provider.received)
    assert lab.chat("stopped").status == 429
    assert len(lab.provider.received) == sent
    assert lab.gateway.run("kill", "lift", "1", "--reason", "over").returncode == 0


def test_a_full_lane_hands_over_until_its_call_has_ended(lab: Lab) -> None:
    lab.provider.on("lab-upstream", stalls(after=[event(chunk("lab-upstream", {"content": "x"}))]))
    with lab.caller("lane").open("/v1/chat/completions", chat(stream=True)) as call:
        assert call.headers["x-penstock-model"] == "lab-upstream"
        assert lab.chat("lane").headers["x-penstock-downgraded"] == "lane-lab-model"
    lab.provider.forget()
    eventually(lambda: lab.chat("lane").headers["x-penstock-model"] == "lab-upstream", 5, "the lane is free")


def test_the_reaction_can_be_changed_while_the_gateway_runs(lab: Lab) -> None:
    edited = _limit("edited", "lab-model", "usd", 0.0001)
    made = lab.gateway.admin("POST", "/admin/v1/limits", {**edited, "amount": "0.0001", "on_exceeded": "refuse"})
    assert (made.status, made.json()["on_exceeded"]) == (201, "refuse")
    eventually(lambda: lab.chat("edited").status == 429, 5)
    changed = lab.gateway.admin("PATCH", "/admin/v1/limits/edited-lab-model", {"on_exceeded": DOWNGRADE})
    assert changed.json()["on_exceeded"] == DOWNGRADE
    eventually(lambda: lab.chat("edited").status == 200, 5)
    told = lab.gateway.admin("PATCH", "/admin/v1/limits/edited-lab-model", {"on_exceeded": {"downgrade": "nothing"}})
    assert (told.status, told.json()["errors"][0]["place"]) == (422, "on_exceeded.downgrade")
    model = {"name": "mine", "targets": [{"provider": "lab", "model": "x"}]}
    assert lab.gateway.admin("POST", "/admin/v1/models", model).status == 201
    assert (
        lab.gateway.admin("PATCH", "/admin/v1/limits/edited-lab-model", {"on_exceeded": {"downgrade": "mine"}}).status
        == 200
    )
    kept = lab.gateway.admin("DELETE", "/admin/v1/models/mine")
    assert (kept.status, kept.json()["code"]) == (409, "conflict")
    assert "limit 'edited-lab-model'" in kept.json()["detail"]


@pytest.mark.parametrize("key", ["first", "later"])
def test_a_request_that_may_be_sent_once_is_sent_once_to_whichever_model(lab: Lab, key: str) -> None:
    assert lab.chat(key).status == 200
    first = lab.chat(key, {"idempotency-key": "once"})
    assert ("x-penstock-downgraded" in first.headers) == (key == "first")
    assert lab.chat(key, {"idempotency-key": "once"}).status == 409
    assert len(lab.provider.received) == 2
