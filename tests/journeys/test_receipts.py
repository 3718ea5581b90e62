"""Every call can be looked up at once: what it used, what it cost, line by line, and which limits it was charged to."""

import json
from datetime import datetime
from typing import Any

import pytest

from penstock.testing.lab import INPUT_NANOUSD, OUTPUT_NANOUSD, Lab, chat
from penstock.testing.wire import eventually

COST = 10 * INPUT_NANOUSD + 5 * OUTPUT_NANOUSD


def _own_receipt(lab: Lab, key: str, request_id: str) -> Any:
    answer = lab.caller(key).get(f"/v1/receipts/{request_id}")
    assert answer.status == 200, answer.body
    return answer.json()


def test_a_receipt_is_readable_at_once(lab: Lab) -> None:
    for stream in (False, True):
        request_id = lab.chat("ci", stream=stream).request_id
        assert _own_receipt(lab, "ci", request_id)["cost_nanousd"] == COST


def test_a_receipt_says_who_called_what_and_what_it_cost(lab: Lab) -> None:
    answer = lab.chat("ci", {"x-penstock-tags": "feature=search,customer=acme"})
    receipt = _own_receipt(lab, "ci", answer.request_id)
    assert receipt["request_id"] == answer.request_id
    expected = {
        "team": "growth",
        "project": "search",
        "environment": "production",
        "key": "ci",
        "customer": "acme",
        "alias": "lab-model",
        "provider": "lab",
        "model": "lab-upstream",
        "status": 200,
        "finish_reason": "stop",
        "cause": "completed",
        "cost_basis": "computed",
        "cost_nanousd": COST,
        "streaming": False,
        "cache": "off",
    }
    assert {name: receipt[name] for name in expected} == expected
    assert receipt["tags"] == receipt["tags"] | {"feature": "search", "customer": "acme"}
    assert receipt["price_version"]
    assert datetime.fromisoformat(receipt["started_at"]) <= datetime.fromisoformat(receipt["ended_at"])
    assert receipt["latency_ms"] >= receipt["overhead_ms"] >= 0


def test_the_price_lines_add_up_to_the_cost(lab: Lab) -> None:
    receipt = _own_receipt(lab, "ci", lab.chat("ci").request_id)
    lines = {line["meter"]: line for line in receipt["cost_lines"]}
    assert (lines["input"]["quantity"], lines["output"]["quantity"]) == (10, 5)
    assert lines["input"]["unit_price_nanousd_per_million"] == 1_000_000_000
    assert sum(line["cost_nanousd"] for line in receipt["cost_lines"]) == receipt["cost_nanousd"]


def test_the_limits_that_were_charged_are_named(lab: Lab) -> None:
    receipt = _own_receipt(lab, "ci", lab.chat("ci").request_id)
    charged = {row["limit"]: row["amount"] for row in receipt["limits_charged"]}
    assert charged["growth-total"] == COST
    assert charged["growth-daily-tokens"] == 15


def test_an_attempt_is_on_the_receipt(lab: Lab) -> None:
    (attempt,) = _own_receipt(lab, "ci", lab.chat("ci").request_id)["attempts"]
    expected = {"n": 1, "provider": "lab", "model": "lab-upstream", "status": 200, "cost_nanousd": COST}
    assert {name: attempt[name] for name in expected} == expected


@pytest.mark.parametrize("other", ["second", "outsider"])
def test_another_key_does_not_find_it(lab: Lab, other: str) -> None:
    request_id = lab.chat("ci").request_id
    answer = lab.caller(other).get(f"/v1/receipts/{request_id}")
    assert answer.status == 404
    assert answer.error["code"] == "not_found"


def test_a_receipt_that_does_not_exist_is_404_and_one_without_a_key_401(lab: Lab) -> None:
    assert lab.caller("ci").get("/v1/receipts/no-such-call").status == 404
    assert lab.gateway.caller().get("/v1/receipts/no-such-call").status == 401


def test_the_receipt_command_prints_it(lab: Lab) -> None:
    request_id = lab.chat("ci").request_id
    told = lab.gateway.run("receipt", request_id, "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["cost_nanousd"] == COST
    shown = lab.gateway.run("receipt", request_id)
    assert shown.returncode == 0, shown.stderr
    assert request_id in shown.stdout
    assert "lab-model" in shown.stdout


def test_the_receipt_command_fails_with_one_sentence_when_there_is_none(lab: Lab) -> None:
    told = lab.gateway.run("receipt", "no-such-call")
    assert told.returncode == 1
    assert len(told.stderr.strip().splitlines()) == 1
    assert "Traceback" not in told.stderr


def test_usage_by_team_and_model_grows_by_what_was_used(lab: Lab) -> None:
    def row() -> dict[str, Any]:
        told = lab.gateway.run("usage", "--by", "key,model", "--format", "json")
        assert told.returncode == 0, told.stderr
        rows = json.loads(told.stdout)["rows"]
        found = [row for row in rows if (row["key"], row["model"]) == ("bounded", "lab-upstream")]
        return found[0] if found else {"calls": 0, "cost_nanousd": 0}

    before = row()
    for _ in range(3):
        lab.chat("bounded")
    after = eventually(lambda: (now := row())["calls"] == before["calls"] + 3 and now, 5, "usage of three calls")
    assert after["cost_nanousd"] == before["cost_nanousd"] + 3 * COST
    assert after["usage"]["output"] >= 15


@pytest.mark.parametrize("form", ["table", "csv"])
def test_usage_has_forms_for_people_and_for_spreadsheets(lab: Lab, form: str) -> None:
    lab.chat("ci")
    told = lab.gateway.run("usage", "--by", "team", "--format", form)
    assert told.returncode == 0, told.stderr
    assert "growth" in told.stdout


def test_the_admin_plane_answers_usage_with_a_total(lab: Lab) -> None:
    lab.chat("ci")
    answer = lab.gateway.admin("GET", "/admin/v1/usage?by=team")
    told = answer.json()
    assert sum(row["calls"] for row in told["rows"]) == told["total"]["calls"]
    assert sum(row["cost_nanousd"] for row in told["rows"]) == told["total"]["cost_nanousd"]


def test_metrics_count_the_calls(lab: Lab) -> None:
    def calls() -> float:
        text = lab.gateway.admin("GET", "/metrics").body.decode()
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("penstock_calls_total{"))

    before = calls()
    lab.chat("ci")
    eventually(lambda: calls() == before + 1, 3, "the call is counted")


def test_the_log_has_one_line_for_each_exchange(lab: Lab) -> None:
    request_id = lab.chat("ci").request_id

    def lines() -> list[dict[str, Any]]:
        told = [json.loads(line) for line in lab.gateway.output().splitlines() if line.startswith("{")]
        return [line for line in told if line.get("request_id") == request_id]

    eventually(lines, 3, "a line in the log")
    (line,) = lines()
    assert line["status"] == 200


def test_the_ledger_is_sound(lab: Lab) -> None:
    lab.caller("ci").post("/v1/chat/completions", chat())
    told = lab.gateway.verify()
    assert told.returncode == 0, told.stdout + told.stderr
