"""Disconnects: callers who hang up at random moments, before the answer, in the middle of it, or just after.

The bank bills a stream by what it wrote, and a plain call in full. Promise: a call is settled within 2 s of its
caller's leaving, and ledger minus bank is at most one chunk of a stream, and nothing for a plain call.
"""

import http.client
import random
import time
from concurrent.futures import ThreadPoolExecutor

from penstock.testing import oracles
from penstock.testing.bank import Bank
from penstock.testing.gateway import Gateway
from penstock.testing.oracles import Books, Told, Verdict, Watch
from penstock.testing.prove.callers import PATH, body_of, saw, tags_of
from penstock.testing.prove.stage import OUTPUT_NANOUSD, Outcome, Scene, Stage, Tick, Times, draws

NAME = "disconnects"
CHUNK_MS = 20
MAX_TOKENS = 25
AT_ONCE = 6
SETTLED_MS = 2_000
PATIENCE_S = 20.0


def scene() -> Scene:
    return Scene(NAME, Bank(billing="streamed", delay_ms=CHUNK_MS))


def run(stage: Stage, count: int, judge_times: bool, tick: Tick) -> Outcome:
    began = oracles.now()
    chance = draws(count)
    leavings = [_leaving(chance, n) for n in range(count)]
    settled, faults = Times(), []
    told = []
    with Watch(stage.boxes) as watch, ThreadPoolExecutor(AT_ONCE) as callers:
        for one, fault in callers.map(lambda leaving: _call_and_leave(stage, leaving, settled), leavings):
            told.append(one)
            faults += fault
            tick(f"{one.call} left")
    if judge_times and settled.worst_ms > SETTLED_MS:
        faults.append(f"settled after {settled}")
    end = stage.judge_the_end(watch)
    books = stage.books(NAME, told, began)
    differences = _differences(books)
    faults += [
        f"{call} differs by {nanousd} nano-USD"
        for call, (streaming, nanousd) in differences.items()
        if abs(nanousd) > (OUTPUT_NANOUSD if streaming else 0)
    ]
    figures = {
        "left in a stream": str(sum(1 for streaming, _ in differences.values() if streaming)),
        "left in a plain call": str(sum(1 for streaming, _ in differences.values() if not streaming)),
        "stayed to the end": str(sum(1 for one in told if one.complete)),
        **books.totals(),
        "settled, at worst": f"{settled}",
        "ledger minus bank, at worst": f"{max((abs(n) for _, n in differences.values()), default=0)} nano-USD",
    }
    verdicts = oracles.merged([oracles.ledger_equals_bank(books), *stage.judge(books), *end])
    return Outcome(NAME, count, verdicts, Verdict("promise", count, tuple(faults)), figures)


def _leaving(chance: random.Random, number: int) -> tuple[str, bool, float]:
    """The call's name, whether it streams, and after how many seconds its caller goes: some time within the answer,
    or a little later."""
    stream = chance.random() < 0.75
    chunks = MAX_TOKENS + 3 if stream else 1.5
    if number == 0:
        return f"gone-{number}", stream, PATIENCE_S  # one stays to the end, so that there is something to compare
    return f"gone-{number}", stream, chance.uniform(0, CHUNK_MS * chunks / 1_000)


def _call_and_leave(stage: Stage, leaving: tuple[str, bool, float], settled: Times) -> tuple[Told, list[str]]:
    """What the caller saw, and what is wrong with how it was settled."""
    name, stream, after_s = leaving
    told = Told(name, MAX_TOKENS)
    deadline_s = time.monotonic() + after_s
    box = stage.next_box()
    opened = box.caller(stage.keys[NAME]).open(PATH, body_of(NAME, told, stream), tags_of(told))
    content = b""
    try:
        while (left_s := deadline_s - time.monotonic()) > 0:
            opened.socket.settimeout(left_s)
            data = opened.read_some()
            content += data
            if not data:
                saw(told, opened.response, content, stream)
                break
    except (OSError, http.client.HTTPException):
        # It is time to go (a time-out), which `http.client` takes for a broken answer in the middle of a head.
        told.complete = False
    opened.hang_up()
    left_at_s = time.monotonic()
    while name not in _recent_calls(box):
        if time.monotonic() - left_at_s > PATIENCE_S:
            sent = any(line.call == name for line in stage.scenes[NAME].bank.statement)
            return told, [f"{name} was not settled within {PATIENCE_S} s"] if sent else []
        time.sleep(0.02)
    settled.add((time.monotonic() - left_at_s) * 1_000)
    return told, []


def _recent_calls(box: Gateway) -> set[str]:
    newest = oracles.receipts(box, "limit=50")["items"]
    return {item["tags"]["call"] for item in newest if item["key"] == NAME}


def _differences(books: Books) -> dict[str, tuple[bool, int]]:
    """For each call that was left: whether it streamed, and ledger minus bank in nano-dollars."""
    events = {event["tags"]["call"]: event for event in books.events}
    complete = {told.call for told in books.told if told.complete}
    return {
        line.call: (line.streaming, events[line.call]["cost_nanousd"] - line.billed_output * OUTPUT_NANOUSD)
        for line in books.statement
        if line.call in events and line.call not in complete
    }
