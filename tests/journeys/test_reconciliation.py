"""A provider's invoice is laid beside the books: what agrees is said to, what differs is listed, nothing is written."""

import json
from collections.abc import Callable
from typing import Any

from penstock.domain.money import usd
from penstock.testing.lab import Lab, chat
from penstock.testing.scripted import stalls
from penstock.testing.wire import eventually

LIMITS: list[dict[str, Any]] = [
    {"name": "all-of-lab", "match": {"provider": "lab"}, "unit": "usd", "amount": 100, "per": "month"},
    {"name": "of-ci", "match": {"key": "ci"}, "unit": "usd", "amount": 100, "per": "month"},
]


def test_an_export_that_agrees_exits_0_and_one_that_does_not_lists_where(own_lab: Callable[..., Lab]) -> None:
    lab = own_lab({"ci": {"team": "growth"}}, LIMITS)
    assert lab.chat("ci").status == lab.chat("ci").status == 200
    lab.provider.on("lab-upstream", stalls())
    call = lab.caller("ci").open("/v1/chat/completions", chat(stream=True))
    eventually(lambda: len(lab.provider.calls("lab-upstream")) == 3, 5, "the third call is upstream")
    call.hang_up()

    def report() -> Any:
        return lab.gateway.admin("GET", "/admin/v1/usage?by=day,provider,model").json()["rows"]

    (row,) = eventually(lambda: [each for each in report() if each["calls"] == 3], 5, "three calls are in the books")
    assert row["estimated_nanousd"] > 0

    def reconcile(cost_nanousd: int, *words: str) -> Any:
        (lab.gateway.directory / "export.csv").write_text(
            f"date,model,cost_usd\n{row['day']},{row['model']},{usd(cost_nanousd)}\n"
        )
        return lab.gateway.run("ledger", "reconcile", "export.csv", "--provider", "lab", "--tolerance", "0", *words)

    equal = reconcile(row["cost_nanousd"])
    assert (equal.returncode, equal.stdout) == (0, "ok: 1 days and models agree\n"), equal.stderr
    less = reconcile(row["cost_nanousd"] - 1_000)
    assert (less.returncode, less.stderr) == (1, "penstock: 1 of 1 days and models differ by more than 0\n")
    assert f"penstock ledger adjust --limit all-of-lab --window-start {row['day']} --amount=-0.000001" in less.stdout
    assert "--limit of-ci" not in less.stdout
    shown = json.loads(reconcile(row["cost_nanousd"] - 1_000, "--json").stdout)["differences"]
    assert [(each["delta_nanousd"], each["beyond"]) for each in shown] == [(-1_000, True)]
    before = lab.gateway.settled("all-of-lab")
    advised = next(line for line in less.stdout.splitlines() if line.startswith("penstock "))
    assert before == row["cost_nanousd"], "reconciling writes nothing"
    assert "billed" in advised


def test_what_cannot_be_reconciled_is_a_usage_error(lab: Lab) -> None:
    file = lab.gateway.directory / "export.csv"
    file.write_text("date,model,cost_usd\n2026-11-01,big,1\n")
    for words, sentence in (
        (["nowhere.csv", "--provider", "lab"], "cannot be read"),
        (["export.csv", "--provider", "lab", "--format", "xml"], "--format takes"),
        (["export.csv", "--provider", "lab", "--format", "openai"], "this is no openai export"),
        (["export.csv", "--provider", "lab", "--tolerance", "-1"], "--tolerance takes"),
        (["export.csv", "--provider", "lab", "--rename", "big"], "--rename takes"),
        (["export.csv", "--provider", "leb"], "there is no provider 'leb'"),
    ):
        refused = lab.gateway.run("ledger", "reconcile", *words)
        assert refused.returncode == 2, words
        assert sentence in refused.stderr, words
        assert refused.stderr.count("\n") == 1, refused.stderr
