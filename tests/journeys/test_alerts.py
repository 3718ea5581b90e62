"""A limit speaks up at its marks, before it cuts anything off: for every unit that there is."""

import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from penstock.testing.lab import Lab, chat
from penstock.testing.scripted import chunk, event, stalls
from penstock.testing.wire import eventually

MakeLab = Callable[..., Lab]
KEYS: dict[str, dict[str, Any]] = {"ci": {"team": "growth"}, "lanes": {"team": "growth"}}
UNITS = {"usd": 0.0006, "tokens": 150, "input_tokens": 100, "output_tokens": 50, "requests": 10}
LIMITS = [
    {
        "name": unit,
        "match": {"key": "ci"},
        "unit": unit,
        "amount": amount,
        "per": "month",
        "alert_at": [0.2, 0.4],
        "mode": "observe",
    }
    for unit, amount in UNITS.items()
]
LANES = {"name": "lanes", "match": {"key": "lanes"}, "unit": "concurrent", "amount": 4, "alert_at": [0.5]}


@pytest.fixture(scope="module")
def lab(file_lab: MakeLab) -> Lab:
    return file_lab(KEYS, [*LIMITS, LANES])


def _alerts(lab: Lab, *limits: str) -> dict[str, int]:
    """`limit fraction` -> how often the metric has counted it, of these limits."""
    text = lab.gateway.admin("GET", "/metrics").body.decode()
    found = re.findall(r'penstock_limit_alerts_total\{fraction="([\d.]+)",limit="([\w-]+)"\} (\d+)', text)
    return {f"{limit} {fraction}": int(count) for fraction, limit, count in found if limit in limits}


def _lines(lab: Lab, *limits: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in lab.gateway.output().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "a limit has crossed its mark" and line["limit"] in limits]


def test_each_unit_that_is_settled_alerts_once_at_each_mark(lab: Lab) -> None:
    first = {f"{unit} 0.2": 1 for unit in UNITS}
    assert [lab.chat("ci").status for _ in range(2)] == [200, 200]
    eventually(lambda: _alerts(lab, *UNITS) == first, 5, "the first mark")
    assert [lab.chat("ci").status for _ in range(4)] == [200] * 4
    eventually(lambda: _alerts(lab, *UNITS) == {**first, **{f"{unit} 0.4": 1 for unit in UNITS}}, 5, "the second mark")
    eventually(lambda: len(_lines(lab, *UNITS)) == 2 * len(UNITS), 5)
    (line,) = [line for line in _lines(lab, *UNITS) if (line["limit"], line["fraction"]) == ("usd", 0.4)]
    assert line["settled"] >= 240_000 and line["amount"] == 600_000 and line["unit"] == "usd"


@pytest.mark.parametrize("workers", [1, 2])
def test_calls_at_once_alert_before_one_of_them_is_refused(lab: Lab, own_lab: MakeLab, workers: int) -> None:
    lab = lab if workers == 1 else own_lab(KEYS, [LANES], workers=workers)
    lab.provider.on("lab-upstream", stalls(after=[event(chunk("lab-upstream", {"content": "x"}))]))
    assert lab.chat("lanes", model="other-model").status == 200
    with ExitStack() as stack:
        for _ in range(3):
            call = stack.enter_context(lab.caller("lanes").open("/v1/chat/completions", chat(stream=True)))
            assert call.status == 200
        eventually(lambda: _alerts(lab, "lanes") == {"lanes 0.5": 1}, 10, "the mark is told of")
    (line,) = _lines(lab, "lanes")
    assert (line["limit"], line["unit"], line["amount"]) == ("lanes", "concurrent", 4)
    assert 2 <= line["settled"] <= 4
