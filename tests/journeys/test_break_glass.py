"""The break-glass file stops a box that nobody can reach, and goes on stopping it until it is taken away."""

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from penstock.testing.caller import OpenCall
from penstock.testing.lab import Lab, chat
from penstock.testing.scripted import endless
from penstock.testing.wire import eventually

MakeLab = Callable[..., Lab]
KEYS: dict[str, dict[str, Any]] = {"ci": {"team": "growth"}, "outsider": {"team": "other"}}
LIMITS = [{"name": "everything", "match": {}, "unit": "usd", "amount": 100, "per": "total"}]
WITHIN_S = 5.0
"""The promise is a second; a test's machine may be busy."""


@pytest.fixture(scope="module")
def one_worker(file_lab: MakeLab) -> Lab:
    return file_lab(KEYS, LIMITS)


@pytest.fixture
def lone(one_worker: Lab) -> Lab:
    one_worker.fresh()
    return one_worker


@pytest.fixture(params=[1, 2])
def box(lone: Lab, own_lab: MakeLab, request: pytest.FixtureRequest) -> Lab:
    return lone if request.param == 1 else own_lab(KEYS, LIMITS, workers=request.param)


def _glass(lab: Lab, *arguments: str) -> str:
    told = lab.gateway.run("kill", *arguments, "--data", str(lab.gateway.data))
    assert told.returncode == 0, told.stderr
    return told.stdout


def _is_stopped(lab: Lab, key: str = "ci") -> bool:
    answer = lab.chat(key)
    return answer.status == 403 and answer.error["code"] == "killed"


def _stream(lab: Lab, key: str) -> OpenCall:
    return lab.caller(key).open("/v1/chat/completions", chat("other-model", stream=True))


def _rows(lab: Lab) -> list[dict[str, Any]]:
    """The audit rows of the file, the oldest first."""
    answer = lab.gateway.admin("GET", "/admin/v1/audit?kind=break_glass")
    return answer.json()["items"][::-1] if answer.status == 200 else []


def _told(lab: Lab, before: list[dict[str, Any]], *actions: str) -> list[dict[str, Any]]:
    """The audit rows of the file that were not there before, the oldest first, once there are these."""

    def read() -> Any:
        rows = _rows(lab)[len(before) :]
        return [row["action"] for row in rows] == list(actions) and rows

    rows: list[dict[str, Any]] = eventually(read, WITHIN_S, f"the audit log says {actions}")
    return rows


def test_every_worker_refuses_and_cuts_with_no_control_process(box: Lab) -> None:
    before = _rows(box)
    box.provider.on("other-upstream", endless())
    with _stream(box, "ci") as first, _stream(box, "outsider") as second:
        assert first.read_some()
        assert second.read_some()
        # Neither admin API nor database: the control process stands still, and no supervisor replaces it.
        (control,) = box.gateway.roles()["control"]
        os.kill(control, signal.SIGSTOP)
        try:
            assert "obeys it within a second" in _glass(box, "--break-glass", "--all", "--reason", "a leak")
            for stream in (first, second):
                rest = stream.read_all()
                assert b'"killed"' in rest
                assert b"[DONE]" not in rest
            for _ in range(8):
                eventually(lambda: _is_stopped(box), WITHIN_S, "calls are refused")
            assert box.gateway.caller().get("/readyz").status == 403
        finally:
            os.kill(control, signal.SIGCONT)
    (row,) = _told(box, before, "raise")
    assert row["after"]["reason"] == "a leak"
    assert row["actor"] == "system:break-glass"
    eventually(lambda: all(node["break_glass"] for node in box.gateway.nodes()), WITHIN_S, "every node says so")
    _glass(box, "lift", "--break-glass", "--reason", "the key is replaced")
    eventually(lambda: box.gateway.admits() and not _is_stopped(box), WITHIN_S, "calls are admitted")
    rows = _told(box, before, "raise", "lift")
    assert rows[1]["after"]["reason"] == "the key is replaced"


def test_it_holds_over_a_restart_and_a_file_made_by_hand_counts(lone: Lab) -> None:
    gateway, before = lone.gateway, _rows(lone)
    gateway.stop()
    place = gateway.data / "BREAK_GLASS"
    place.touch()
    gateway.start(wait=False)
    eventually(gateway.admin_is_up, 20, "the admin plane is up")
    eventually(lambda: _reached(lone), 20, "the data plane answers")
    received = len(lone.provider.received)
    assert _is_stopped(lone)
    assert len(lone.provider.received) == received
    assert gateway.admin("GET", "/admin/v1/status").json()["break_glass"]["at"]
    checked = gateway.run("doctor", "-c", str(gateway.file), "--json")
    assert checked.returncode == 1
    findings = {each["check"]: each for each in json.loads(checked.stdout)["findings"]}
    assert findings["break-glass file"]["state"] == "fail"
    _told(lone, before, "raise")
    place.unlink()
    eventually(lambda: lone.chat("ci").status == 200, WITHIN_S, "calls are admitted")
    assert "by hand" in _told(lone, before, "raise", "lift")[1]["after"]["reason"]


def test_a_stop_and_its_lift_while_the_gateway_was_away_are_both_in_the_audit_log(lone: Lab) -> None:
    before = _rows(lone)
    lone.gateway.stop()
    _glass(lone, "--break-glass", "--all", "--reason", "a leak")
    _glass(lone, "lift", "--break-glass", "--reason", "a false alarm")
    lone.gateway.start()
    rows = _told(lone, before, "raise", "lift")
    assert [rows[0]["after"]["reason"], rows[1]["after"]["reason"]] == ["a leak", "a false alarm"]
    lone.gateway.stop()
    lone.gateway.start()
    _told(lone, before, "raise", "lift")
    assert lone.chat("ci").status == 200


def test_a_lifted_kill_does_not_lift_the_file(lone: Lab) -> None:
    before = _rows(lone)
    _glass(lone, "--break-glass", "--all")
    eventually(lambda: _is_stopped(lone), WITHIN_S, "calls are refused")
    raised = lone.gateway.admin("POST", "/admin/v1/kill", {"scope": {"all": True}, "reason": "both"})
    generation = raised.json()["generation"]
    lone.gateway.admin("DELETE", f"/admin/v1/kill/{generation}", {"reason": "over"})
    _told(lone, before, "raise")
    assert _is_stopped(lone)
    _glass(lone, "lift", "--break-glass", "--reason", "over")
    _told(lone, before, "raise", "lift")
    eventually(lambda: lone.chat("ci").status == 200, WITHIN_S, "calls are admitted")


def _reached(lab: Lab) -> bool:
    try:
        return lab.gateway.caller().get("/readyz", timeout_s=2).status == 403
    except OSError:
        return False
