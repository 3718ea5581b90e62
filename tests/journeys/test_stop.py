"""A stop stops: new calls are refused, live streams are cut on both sides, and what they cost is settled."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from penstock.testing.caller import OpenCall
from penstock.testing.lab import Lab, chat
from penstock.testing.scripted import endless, stalls
from penstock.testing.wire import eventually

MakeLab = Callable[..., Lab]
KEYS: dict[str, dict[str, Any]] = {
    "ci": {"team": "growth"},
    "second": {"team": "growth"},
    "outsider": {"team": "other"},
}
LIMITS = [{"name": "everything", "match": {}, "unit": "usd", "amount": 100, "per": "total"}]


@pytest.fixture(scope="module")
def running(file_lab: MakeLab) -> Lab:
    return file_lab(KEYS, LIMITS)


@pytest.fixture
def stoppable(running: Lab) -> Iterator[Lab]:
    """A gateway that nothing stops; what the test stopped goes on after it."""
    running.fresh()
    yield running
    for kill in _in_force(running):
        lifted = running.gateway.admin("DELETE", f"/admin/v1/kill/{kill['generation']}", {"reason": "the test is over"})
        assert lifted.status == 200, lifted.body
    for key in KEYS:
        eventually(lambda key=key: running.chat(key).status == 200, 5, f"{key} may call again")


def _in_force(lab: Lab) -> list[dict[str, Any]]:
    return [kill for kill in lab.gateway.admin("GET", "/admin/v1/kills").json()["items"] if not kill["lifted_at"]]


def _raise_kill(lab: Lab, scope: dict[str, Any]) -> int:
    answer = lab.gateway.admin("POST", "/admin/v1/kill", {"scope": scope, "reason": "a drill"})
    assert answer.status == 202, answer.body
    return int(answer.json()["generation"])


def _is_killed(lab: Lab, key: str) -> bool:
    answer = lab.chat(key)
    return answer.status == 403 and answer.error["code"] == "killed" == answer.headers["x-penstock-error"]


def _stream(lab: Lab, key: str) -> OpenCall:
    return lab.caller(key).open("/v1/chat/completions", chat("other-model", stream=True))


def _confirmed(lab: Lab, generation: int) -> list[dict[str, Any]]:
    def read() -> Any:
        nodes = lab.gateway.admin("GET", f"/admin/v1/kill/{generation}").json()["nodes"]
        return nodes and all(node["state"] == "confirmed" for node in nodes) and nodes

    nodes: list[dict[str, Any]] = eventually(read, 3, "the kill is confirmed")
    return nodes


@pytest.mark.parametrize(
    ("scope", "stopped", "spared"),
    [
        ({"key": "ci"}, ["ci"], ["second", "outsider"]),
        ({"team": "growth"}, ["ci", "second"], ["outsider"]),
        ({"all": True}, ["ci", "second", "outsider"], []),
    ],
)
def test_a_kill_refuses_what_is_in_its_scope_until_it_is_lifted(
    stoppable: Lab, scope: dict[str, Any], stopped: list[str], spared: list[str]
) -> None:
    lab = stoppable
    generation = _raise_kill(lab, scope)
    _confirmed(lab, generation)
    before = len(lab.provider.received)
    assert all(_is_killed(lab, key) for key in stopped)
    assert len(lab.provider.received) == before
    assert all(lab.chat(key).status == 200 for key in spared)
    answer = lab.gateway.admin("DELETE", f"/admin/v1/kill/{generation}", {"reason": "the drill is over"})
    assert answer.status in (200, 204)
    for key in stopped + spared:
        eventually(lambda key=key: lab.chat(key).status == 200, 2, f"{key} may call again")


def test_live_streams_are_cut_on_both_sides_and_settled(stoppable: Lab) -> None:
    lab = stoppable
    lab.provider.on("other-upstream", endless())
    with _stream(lab, "ci") as cut, _stream(lab, "outsider") as spared:
        request_id = cut.headers["x-request-id"]
        assert cut.read_some()
        assert spared.read_some()
        began = time.monotonic()
        generation = _raise_kill(lab, {"team": "growth"})
        rest = cut.read_all()
        assert time.monotonic() - began < 1
        assert b"[DONE]" not in rest
        last = [line for line in rest.decode().split("\n") if line.startswith("data: ")][-1]
        told = json.loads(last.removeprefix("data: "))
        assert told["error"]["code"] == "killed"
        assert told["error"]["message"]
        both = lab.provider.calls("other-upstream")
        (gone,) = eventually(lambda: [one for one in both if one.gone_at], 1, "the upstream is closed")
        assert gone.gone_at - began < 1
        assert sum(node["streams_cut"] for node in _confirmed(lab, generation)) == 1
        assert spared.read_some()
        receipt = lab.gateway.receipt(request_id)
        assert receipt["cause"] == "killed"
        assert receipt["cost_nanousd"] > 0
        assert receipt["cost_basis"] == "estimated"
    eventually(lambda: lab.gateway.held() == 0, 3, "nothing is held")


def test_the_sdk_raises_in_the_middle_of_a_killed_stream(stoppable: Lab, sdk: Callable[..., openai.OpenAI]) -> None:
    lab = stoppable
    lab.provider.on("other-upstream", endless())
    with sdk(lab).chat.completions.create(**chat("other-model", stream=True)) as stream:
        parts: Iterator[Any] = iter(stream)
        next(parts)
        _raise_kill(lab, {"key": "ci"})
        with pytest.raises(openai.APIError) as told:
            for _ in parts:
                pass
    assert told.value.code == "killed"


def test_a_call_that_waits_for_its_first_byte_is_cut_too(stoppable: Lab) -> None:
    lab = stoppable
    lab.provider.on("other-upstream", stalls())
    answers: list[Any] = []
    caller = lab.caller("ci")
    waiting = threading.Thread(target=lambda: answers.append(caller.post("/v1/chat/completions", chat("other-model"))))
    waiting.start()
    received = eventually(lambda: lab.provider.calls("other-upstream"), 3)[0]
    _raise_kill(lab, {"key": "ci"})
    waiting.join(2)
    assert [(answer.status, answer.error["code"]) for answer in answers] == [(403, "killed")]
    eventually(lambda: received.gone_at, 1, "the upstream is closed")
    eventually(lambda: lab.gateway.held() == 0, 3, "nothing is held")


def test_the_kill_command_waits_for_confirmation_and_lists_and_lifts(stoppable: Lab) -> None:
    lab = stoppable
    told = lab.gateway.run("kill", "--team", "growth", "--reason", "a drill")
    assert told.returncode == 0, told.stderr
    assert "confirmed" in told.stdout
    assert _is_killed(lab, "ci")
    listed = lab.gateway.run("kill", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    rows = json.loads(listed.stdout)
    (row,) = [row for row in rows if not row["lifted_at"]]
    assert row["scope"] == {"team": "growth"}
    assert row["reason"] == "a drill"
    assert lab.gateway.run("kill", "lift", str(row["generation"]), "--reason", "over").returncode == 0
    eventually(lambda: lab.chat("ci").status == 200, 2, "the team may call again")


@pytest.mark.parametrize(
    "arguments", [["--reason", "no scope"], ["--team", "growth"], ["--team", "x", "--reason", "y"]]
)
def test_a_kill_that_says_too_little_or_means_nobody_is_refused(stoppable: Lab, arguments: list[str]) -> None:
    told = stoppable.gateway.run("kill", *arguments)
    assert told.returncode in (1, 2)
    assert "Traceback" not in told.stderr
    assert stoppable.chat("ci").status == 200


def test_a_kill_survives_a_restart(stoppable: Lab) -> None:
    lab = stoppable
    _confirmed(lab, _raise_kill(lab, {"key": "ci"}))
    lab.gateway.kill_tree()
    lab.gateway.start()
    assert _is_killed(lab, "ci")
    assert lab.chat("second").status == 200


def test_generations_only_grow(stoppable: Lab) -> None:
    first = _raise_kill(stoppable, {"key": "ci"})
    stoppable.gateway.admin("DELETE", f"/admin/v1/kill/{first}", {"reason": "over"})
    assert _raise_kill(stoppable, {"key": "ci"}) > first
