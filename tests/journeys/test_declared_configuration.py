"""The declared configuration of a running gateway: planned, put in force under load, rolled back; no call notices."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.testing.caller import Caller
from penstock.testing.lab import Lab
from penstock.testing.wire import eventually

KEYS: dict[str, dict[str, Any]] = {"ci": {"team": "growth", "project": "search"}, "other": {"team": "other"}}
LIMITS: list[dict[str, Any]] = [
    {"name": "growth-total", "match": {"team": "growth"}, "unit": "usd", "amount": 1000, "per": "total"},
    {"name": "growth-calls", "match": {"team": "growth"}, "unit": "requests", "amount": 1_000_000, "per": "hour"},
]
CALLERS = 4


@pytest.fixture(scope="module")
def declared(file_lab: Callable[..., Lab]) -> Lab:
    return file_lab(KEYS, LIMITS)


@pytest.fixture
def version(declared: Lab) -> Iterator[int]:
    """The version in force, which is the served file's; what the test applied is taken back after it."""
    (served, *_) = versions(declared)
    yield served
    if versions(declared)[0] != served:
        back = administrator(declared).send("POST", f"/admin/v1/config/{served}/rollback", b"")
        assert back.status == 200, back.body


def versions(lab: Lab) -> list[int]:
    """The newest first."""
    return [each["version"] for each in lab.gateway.admin("GET", "/admin/v1/config").json()["items"]]


class Files:
    """Files that an administrator brings, made from the one that the gateway serves."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._count = 0

    def changed(self, change: Callable[[dict[str, Any]], object]) -> Path:
        config = json.loads(json.dumps(self._lab.gateway.config))
        change(config)
        self._count += 1
        path = self._lab.gateway.directory / f"change-{self._count}.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return path


@contextmanager
def load(lab: Lab) -> Iterator[list[tuple[int, bytes]]]:
    """Calls one after the other, plain and streamed, by several callers at once; what each was answered."""
    answers: list[tuple[int, bytes]] = []
    over = threading.Event()

    def call(number: int) -> None:
        while not over.wait(0.01):
            answer = lab.chat("ci", stream=number % 2 == 0)
            answers.append((answer.status, answer.body))

    with ThreadPoolExecutor(CALLERS) as callers:
        calls = [callers.submit(call, number) for number in range(CALLERS)]
        try:
            yield answers
        finally:
            over.set()
            for each in calls:
                each.result()


def administrator(lab: Lab) -> Caller:
    """A raw caller of the admin plane."""
    return Caller(lab.gateway.admin_url, {"authorization": f"Bearer {lab.gateway.admin_key}"})


def amounts(lab: Lab) -> Mapping[str, str]:
    items = lab.gateway.admin("GET", "/admin/v1/limits").json()["items"]
    return {item["name"]: item["amount"] for item in items}


def test_a_configuration_rolls_forward_and_back_under_load_and_no_call_is_dropped(declared: Lab, version: int) -> None:
    files, before = Files(declared), declared.gateway.settled("growth-calls")

    def forward(config: dict[str, Any], number: int) -> None:
        config["limits"][0]["amount"] = 1000 + number
        config["models"].append({**config["models"][0], "name": f"lab-model-{number}"})
        config["models"][0]["price"]["output"] = 10 + number
        config["providers"][0]["timeouts"] = {"total": f"{60 + number}s"}
        config["teams"].append({"name": f"team-{number}"})

    with load(declared) as answers:
        eventually(lambda: len(answers) > 20, 20)
        for number in range(1, 4):
            path = files.changed(lambda config, number=number: forward(config, number))
            done = declared.gateway.run("apply", "-c", str(path))
            assert done.returncode == 0, done.stderr
            assert f"version {version + number} is in force" in done.stdout
            seen = len(answers)
            eventually(lambda seen=seen: len(answers) > seen + 20, 20)
        assert amounts(declared)["growth-total"] == "1003"
        done = declared.gateway.run("config", "rollback", str(version))
        assert done.returncode == 0, done.stderr
        seen = len(answers)
        eventually(lambda: len(answers) > seen + 20, 20)
    assert [answer for answer in answers if answer[0] != 200] == []
    assert all(b"[DONE]" in body or body.startswith(b"{") for _, body in answers)
    assert amounts(declared)["growth-total"] == "1000"
    assert declared.gateway.run("ledger", "verify").returncode == 0
    assert declared.gateway.settled("growth-calls") == before + len(answers)


def test_a_plan_shows_what_would_change_and_changes_nothing(declared: Lab) -> None:
    files, before = Files(declared), versions(declared)

    def change(config: dict[str, Any]) -> None:
        config["limits"][0]["amount"] = 50
        config["teams"].append({"name": "sales", "required_tags": ["feature"]})
        config["models"] = [model for model in config["models"] if model["name"] != "trio"]

    path = files.changed(change)
    for command in (["diff"], ["apply", "--dry-run"]):
        told = declared.gateway.run(*command, "-c", str(path))
        assert told.returncode == 0, told.stderr
        lines = [re.split(r"\s{2,}", line.strip()) for line in told.stdout.splitlines()]
        assert ["delete", "model", "trio", "-"] in lines or ["delete", "model", "trio"] in lines
        assert ["create", "team", "sales", "organisation=default, required_tags=feature"] in lines
        assert ["update", "limit", "growth-total", "amount: 1000 -> 50"] in lines
        assert "1 to create, 1 to update, 1 to delete" in told.stdout
    assert declared.gateway.run("diff", "-c", str(path), "--exit-code").returncode == 1
    same = declared.gateway.run("diff", "-c", str(declared.gateway.file), "--exit-code")
    assert (same.returncode, same.stdout) == (0, "no object changes\n")
    assert amounts(declared)["growth-total"] == "1000"
    assert versions(declared) == before


def test_the_history_shows_who_did_what_and_a_version_can_be_applied_as_it_is_shown(
    declared: Lab, version: int
) -> None:
    files = Files(declared)
    path = files.changed(lambda config: config["limits"][0].update(amount=77777))
    path.write_text(path.read_text().replace("77777", "0.000000001"))
    assert declared.gateway.run("apply", "-c", str(path)).returncode == 0
    told = json.loads(declared.gateway.run("config", "history", "--json").stdout)
    history = [(each["version"], each["how"], each["by"]) for each in told]
    assert [number for number, _, _ in history] == list(range(version + 1, 0, -1))
    assert history[0] == (version + 1, "apply", "admin")
    assert history[-1] == (1, "serve", "configuration file")
    assert "apply" in declared.gateway.run("config", "history").stdout
    shown = declared.gateway.directory / "shown.yaml"
    shown.write_text(declared.gateway.run("config", "show", str(version + 1)).stdout)
    assert "amount: 0.000000001" in shown.read_text()
    same = declared.gateway.run("diff", "-c", str(shown), "--exit-code")
    assert same.returncode == 0, same.stdout + same.stderr
    assert all(secret not in shown.read_text() for secret in declared.secrets.values())


def test_what_cannot_be_applied_says_why_and_changes_nothing(declared: Lab) -> None:
    files, before = Files(declared), versions(declared)
    faulty = files.changed(lambda config: config["limits"][0]["match"].update(team="nobody"))
    told = declared.gateway.run("apply", "-c", str(faulty))
    assert told.returncode == 2
    assert "limits[0].match.team: there is no team 'nobody'" in told.stderr
    moved = files.changed(lambda config: config["providers"][0].update(base_url="http://127.0.0.1:9/v1"))
    told = declared.gateway.run("apply", "-c", str(moved))
    assert told.returncode == 2
    assert "providers.lab: the credential env:LAB_KEY for http://127.0.0.1:9/v1 is resolved only from" in told.stderr
    taken = declared.gateway.admin("POST", "/admin/v1/teams", {"name": "sales"})
    assert taken.status == 201
    clash = files.changed(lambda config: config["teams"].append({"name": "sales"}))
    told = declared.gateway.run("apply", "-c", str(clash))
    assert (told.returncode, "team 'sales' exists already" in told.stderr) == (1, True)
    assert declared.gateway.run("config", "rollback", "999").returncode == 1
    assert declared.gateway.run("config", "show", "0").returncode == 2
    assert versions(declared) == before
    assert declared.chat("ci").status == 200
    assert declared.gateway.admin("DELETE", "/admin/v1/teams/sales").status == 204


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/admin/v1/config/apply", b"\xff\xfe", 422),
        ("POST", "/admin/v1/config/apply", b"a: [", 422),
        ("POST", "/admin/v1/config/apply", b"", 422),
        ("POST", "/admin/v1/config/apply?dry_run=perhaps", b"teams: []", 422),
        ("POST", "/admin/v1/config/apply?base=7", b"teams: []", 409),
        ("POST", "/admin/v1/config/apply?unheard=1", b"teams: []", 422),
        ("POST", "/admin/v1/config/0/rollback", b"", 422),
        ("POST", "/admin/v1/config/99999999999/rollback", b"", 422),
        ("POST", "/admin/v1/config/9/rollback", b"", 404),
        ("GET", "/admin/v1/config/9", None, 404),
        ("GET", "/admin/v1/config/x", None, 404),
    ],
)
def test_bad_requests_are_problems(lab: Lab, method: str, path: str, body: bytes | None, status: int) -> None:
    answer = administrator(lab).send(method, path, body)
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


def test_a_file_may_be_larger_than_any_other_body_and_not_larger_than_a_file(lab: Lab) -> None:
    large = lab.gateway.file.read_bytes() + b"#" * (2 * 1024 * 1024)
    answer = administrator(lab).send("POST", "/admin/v1/config/apply?dry_run=true", large)
    assert (answer.status, answer.json()["steps"]) == (200, [])
    head = f"POST /admin/v1/config/apply HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {lab.gateway.admin_key}\r\n"
    with administrator(lab).say(f"{head}content-length: {8 * 1024 * 1024 + 1}\r\n\r\n".encode()) as call:
        assert call.status == 413


@pytest.mark.usefixtures("version")
def test_a_model_is_deprecated_in_one_place(declared: Lab) -> None:
    files = Files(declared)

    def replace(config: dict[str, Any], **dates: str) -> None:
        (old,) = [model for model in config["models"] if model["name"] == "other-model"]
        old |= {"replaced_by": "lab-model", **dates}

    def apply(**dates: str) -> None:
        path = files.changed(lambda config: replace(config, **dates))
        told = declared.gateway.run("apply", "-c", str(path))
        assert told.returncode == 0, told.stderr

    apply(warn_at="2999-01-01", end_at="2999-06-01")
    quiet = declared.chat("other", model="other-model")
    assert (quiet.headers["x-penstock-model"], "deprecation" in quiet.headers) == ("other-upstream", False)
    apply(warn_at="2026-01-01", end_at="2999-06-01")
    eventually(lambda: "deprecation" in declared.chat("other", model="other-model").headers, 5)
    told = declared.chat("other", model="other-model")
    assert told.headers["deprecation"] == "@1767225600"
    assert told.headers["sunset"] == "Sat, 01 Jun 2999 00:00:00 GMT"
    assert told.headers["x-penstock-replaced-by"] == "lab-model"
    assert told.headers["x-penstock-model"] == "other-upstream"
    apply()
    eventually(lambda: declared.chat("other", model="other-model").headers["x-penstock-model"] == "lab-upstream", 5)
    answer = declared.chat("other", model="other-model", stream=True)
    assert answer.headers["x-penstock-model"] == "lab-upstream"
    receipt = declared.gateway.receipt(answer.request_id)
    assert receipt["alias"] == "lab-model"
    assert receipt["decision"] == {"deprecated": "other-model", "replaced_by": "lab-model", "replaced": True}
    metrics = declared.gateway.admin("GET", "/metrics").body.decode()
    counted = re.search(r'penstock_deprecated_calls_total\{alias="other-model",(.*)\} (\S+)', metrics)
    assert counted is not None
    assert 'replaced_by="lab-model",team="other"' in counted[1]
    assert float(counted[2]) >= 4
