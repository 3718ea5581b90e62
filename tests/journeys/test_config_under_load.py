"""A configuration is rolled forward and back while callers go on: no call fails, and each sees one of two worlds."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.testing import oracles
from penstock.testing.caller import Answer
from penstock.testing.gateway import Gateway, new_secret, usd_price
from penstock.testing.lab import chat
from penstock.testing.scripted import ScriptedProvider
from penstock.testing.wire import eventually

CALLERS = 4
ROUNDS = 2
WORLDS = {"old": (1, "day"), "new": (3, "month")}
"""Upstream model -> USD per million output tokens, and the window of the limit: what must never be mixed."""


def world(provider: ScriptedProvider, model: str) -> dict[str, Any]:
    """Everything about a call that a version of the file decides, with a limit of its own."""
    usd, per = WORLDS[model]
    limit = {"name": f"limit-{model}", "match": {"team": "growth"}, "unit": "usd", "amount": 1000, "per": per}
    return {
        "providers": [{"name": "lab", "kind": "compatible", "base_url": provider.base_url}],
        "models": [
            {
                "name": "alias",
                "targets": [{"provider": "lab", "model": model}],
                "price": usd_price(0, usd),
                "max_output": 100,
            }
        ],
        "teams": [{"name": "growth"}],
        "keys": [{"name": "ci", "team": "growth", "secret": "env:CI_KEY"}],
        "limits": [limit],
    }


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as provider:
        yield provider


class Callers:
    """Who keep calling, plain and streamed, for as long as the block lasts."""

    def __init__(self, gateway: Gateway, secret: str) -> None:
        self.answers: list[Answer] = []
        self.faults: list[str] = []
        self._gateway, self._secret = gateway, secret
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n % 2 == 0,)) for n in range(CALLERS)]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, stream: bool) -> None:
        caller = self._gateway.caller(self._secret)
        while not self._stopping.is_set():
            try:
                answer = caller.post("/v1/chat/completions", chat("alias", stream=stream))
            except OSError as fault:
                self.faults.append(repr(fault))
                continue
            if answer.status != 200 or (stream and not answer.body.endswith(b"data: [DONE]\n\n")):
                self.faults.append(f"{answer.status}: {answer.body[-200:]!r}")
            self.answers.append(answer)


def test_no_call_fails_and_none_is_of_two_worlds(provider: ScriptedProvider, tmp_path: Path) -> None:
    secret, began = new_secret(), oracles.now()
    with Gateway(tmp_path / "gateway", world(provider, "old"), {"CI_KEY": secret}, workers=2) as gateway:
        forward = tmp_path / "forward.yaml"
        forward.write_text(yaml.safe_dump({"server": gateway.config["server"], **world(provider, "new")}))
        with Callers(gateway, secret) as callers:
            for _ in range(ROUNDS):
                for words, model in ((("apply", "-c", str(forward)), "new"), (("config", "rollback", "1"), "old")):
                    changed = gateway.run(*words)
                    assert changed.returncode == 0, changed.stderr
                    seen = len(callers.answers)
                    eventually(lambda model=model, seen=seen: _is_in_force(callers, model, seen), 15, model)
        assert callers.faults == []
        assert {answer.headers["x-penstock-model"] for answer in callers.answers} == set(WORLDS)
        receipts = oracles.events_since(gateway, "ci", began)
        assert {answer.request_id for answer in callers.answers} <= {receipt["request_id"] for receipt in receipts}
        for receipt in receipts:
            _assert_one_world(receipt)
        assert gateway.verify().returncode == 0
        assert "Traceback" not in gateway.output()


def _is_in_force(callers: Callers, model: str, since: int) -> bool:
    fresh = callers.answers[since:]
    return len(fresh) > 2 * CALLERS and all(answer.headers["x-penstock-model"] == model for answer in fresh[-CALLERS:])


def _assert_one_world(receipt: dict[str, Any]) -> None:
    """Target, price and limits are of the same version of the file."""
    assert receipt["cause"] == "completed"
    model = receipt["model"]
    (line,) = [line for line in receipt["cost_lines"] if line["meter"] == "output"]
    assert line["unit_price_nanousd_per_million"] == WORLDS[model][0] * 10**9
    assert [charged["limit"] for charged in receipt["limits_charged"]] == [f"limit-{model}"]
