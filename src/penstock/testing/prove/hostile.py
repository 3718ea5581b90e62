"""Hostile: a provider whose usage reports cannot be true.

Promise: nothing of such a report is believed. The call is charged as an estimate within its hold, and flagged.
"""

import contextlib
import http.client
from typing import Any

from msgspec import structs

from penstock.testing import oracles
from penstock.testing.bank import Bank, Line, honest
from penstock.testing.oracles import Books, Told, Verdict, Watch
from penstock.testing.prove.callers import call
from penstock.testing.prove.stage import Outcome, Scene, Stage, Tick
from penstock.testing.scripted import usage

NAME = "hostile"
MAX_TOKENS = 12
REPORTS: dict[str, tuple[dict[str, Any] | None, str]] = {
    "negative": (usage(-7, -50), "hostile_usage"),
    "huge": (usage(10**18, 10**18), "hostile_usage"),
    "float": (usage(7, 3) | {"completion_tokens": 3.5}, "hostile_usage"),
    "text": (usage(7, 3) | {"completion_tokens": "many"}, "hostile_usage"),
    "missing": (None, "usage_missing"),
}
"""What is reported, by the first word of the call's name, and the flag that it must get."""


def scene() -> Scene:
    bank = Bank()
    bank.report = _report
    return Scene(NAME, bank)


def _report(line: Line) -> dict[str, Any] | None:
    kind = line.call.partition("-")[0]
    return REPORTS[kind][0] if kind in REPORTS else honest(line)


def run(stage: Stage, times: int, tick: Tick) -> Outcome:
    began = oracles.now()
    told: list[Told] = []
    with Watch(stage.boxes) as watch:
        for kind in (*REPORTS, "honest"):
            for number in range(times):
                for stream in (False, True):
                    one = Told(f"{kind}-{number}-{'stream' if stream else 'plain'}", MAX_TOKENS)
                    # A caller who gets no whole answer has none that is complete, which the promise does not let pass.
                    with contextlib.suppress(OSError, http.client.HTTPException):
                        call(stage, NAME, one, stream)
                    # What such a report says is not what the caller used: the call counts as one without a report.
                    told.append(one if kind == "honest" else structs.replace(one, output=-1))
            tick(f"usage: {kind}")
    end = stage.judge_the_end(watch)
    books = stage.books(NAME, told, began)
    verdicts = oracles.merged([oracles.ledger_equals_bank(books), *stage.judge(books), *end])
    flagged = sum(1 for event in books.events if event["cost_basis"] == "estimated" and event["flags"])
    figures = {"reports": ", ".join(REPORTS), "charged as estimates and flagged": f"{flagged} calls", **books.totals()}
    return Outcome(NAME, len(told), verdicts, _promise(books), figures)


def _promise(books: Books) -> Verdict:
    faults = [f"{told.call} was answered {told.status}" for told in books.told if not told.complete]
    for event in books.events:
        call_name = event["tags"]["call"]
        _, flag = REPORTS.get(call_name.partition("-")[0], (None, ""))
        if flag and (flag not in event["flags"] or event["cost_basis"] != "estimated"):
            faults.append(f"{call_name} is {event['cost_basis']} with the flags {event['flags']}")
        if not flag and event["flags"]:
            faults.append(f"{call_name} has the flags {event['flags']}")
    return Verdict("promise", len(books.events), tuple(faults))
