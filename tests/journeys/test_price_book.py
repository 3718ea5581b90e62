"""The price book over the catalogue: what a call costs follows it, and its receipt says so."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from penstock.testing.lab import Lab
from penstock.testing.wire import eventually

UNPRICED = "unpriced"


def test_a_price_of_the_book_is_charged_and_named(own_lab: Callable[..., Lab]) -> None:
    lab = own_lab({"ci": {"team": "growth"}}, [])
    run = lab.gateway.run
    assert lab.gateway.receipt(lab.chat("ci", model=UNPRICED).request_id)["cost_basis"] == "unpriced"
    assert run("price", "list").returncode == 0
    made = run(
        "price", "set", "lab", "unpriced-upstream", "--price", "input=1", "--price", "output=10", "--note", "offer"
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("book:1: lab/unpriced-upstream input 1, output 10 from ")

    def version_of_a_call() -> str:
        return str(lab.gateway.receipt(lab.chat("ci", model=UNPRICED).request_id)["price_version"])

    eventually(lambda: version_of_a_call() == "book:1", 5)
    receipt = lab.gateway.receipt(lab.chat("ci", model=UNPRICED).request_id)
    usage = receipt["usage"]
    assert receipt["cost_nanousd"] == usage["input"] * 1_000 + usage["output"] * 10_000
    soon = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    file = lab.gateway.directory / "prices.csv"
    file.write_text(f"provider,model,effective_from,input,output,cache_read\nlab,unpriced-upstream,{soon},2,20,\n")
    told = run("price", "update", str(file), "--json")
    assert told.returncode == 0, told.stderr
    assert [entry["price_version"] for entry in json.loads(told.stdout)["entries"]] == ["book:2"]
    assert run("price", "update", str(file)).stderr == "1 in the book already\n"
    eventually(lambda: version_of_a_call() == "book:2", 10)
    listed = json.loads(run("price", "list", "--json").stdout)
    assert [(entry["number"], entry["state"], entry["note"]) for entry in listed] == [
        (2, "in_force", ""),
        (1, "past", "offer"),
    ]
    effective = json.loads(run("price", "list", "--effective", "--json").stdout)
    (row,) = [row for row in effective if row["model"] == UNPRICED]
    assert (row["price"]["output"], row["price_version"]) == ("20", "book:2")
    assert "book:2" in run("price", "list", "--effective").stdout
    ended = run("price", "set", "lab", "unpriced-upstream", "--catalogue")
    assert ended.returncode == 0, ended.stderr
    eventually(lambda: version_of_a_call() == "", 5)
