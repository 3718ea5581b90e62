"""The drill runs on a gateway that serves others, measures the stop, and leaves nothing behind but its report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.testing.lab import Lab

MakeLab = Callable[..., Lab]
KEYS: dict[str, dict[str, Any]] = {"ci": {"team": "growth"}}
NOUNS = ("providers", "models", "teams", "keys", "limits")
SMALL = ("drill", "--streams", "5", "--callers", "2")
RELAXED = (*SMALL, "--within", "20")
"""A second is a promise for a machine that is not busy with tests."""


@pytest.fixture(scope="module")
def running(file_lab: MakeLab) -> Lab:
    limits = [{"name": "everything", "match": {}, "unit": "usd", "amount": 100, "per": "total"}]
    return file_lab(KEYS, limits, workers=2)


def _names(lab: Lab) -> dict[str, list[str]]:
    return {
        noun: sorted(item["name"] for item in lab.gateway.admin("GET", f"/admin/v1/{noun}").json()["items"])
        for noun in NOUNS
    }


def test_it_measures_a_stop_and_leaves_nothing_behind(running: Lab, tmp_path: Path) -> None:
    before = _names(running)
    told = running.gateway.run(*RELAXED, "--report", str(tmp_path), "--json", timeout_s=120)
    assert told.returncode == 0, told.stderr
    report = json.loads(told.stdout)
    assert report["held"] is True
    assert [check["check"] for check in report["checks"] if not check["holds"]] == []
    assert {node["state"] for node in report["nodes"]} == {"confirmed"}
    assert len(report["nodes"]) == 2
    assert sum(node["streams_cut"] for node in report["nodes"]) >= 5
    assert _names(running) == before
    kills = running.gateway.admin("GET", "/admin/v1/kills").json()["items"]
    assert [bool(kill["lifted_at"]) for kill in kills] == [True]
    assert running.provider.received == []
    assert running.gateway.settled("everything") == 0
    assert running.chat("ci").status == 200
    (written,) = tmp_path.glob("drill-*.json")
    assert json.loads(written.read_text()) == report
    text = written.with_suffix(".md").read_text()
    assert "The stop held." in text
    assert f"Kill {report['generation']}." in text


def test_traffic_that_does_not_flow_is_no_drill_and_is_cleaned_up(running: Lab, tmp_path: Path) -> None:
    before = _names(running)
    raised = running.gateway.admin("POST", "/admin/v1/kill", {"scope": {"all": True}, "reason": "in earnest"})
    assert raised.status == 202
    told = running.gateway.run(*SMALL, "--report", str(tmp_path), timeout_s=120)
    assert told.returncode == 1
    assert "403 killed" in told.stderr
    assert list(tmp_path.glob("drill-*")) == []
    assert _names(running) == before


def test_a_report_that_has_no_place_is_refused_before_anything_is_made(running: Lab, tmp_path: Path) -> None:
    before = running.gateway.admin("GET", "/admin/v1/audit").json()["items"]
    (tmp_path / "file").touch()
    told = running.gateway.run("drill", "--report", str(tmp_path / "file"))
    assert told.returncode == 2
    assert "cannot be made" in told.stderr
    assert running.gateway.admin("GET", "/admin/v1/audit").json()["items"] == before
