"""Network: the connection to the provider is slow, breaks, falls silent or turns to garbage, anywhere in an answer.

Promise: every caller gets an end in time, slowness alone costs nobody an answer, every fault that breaks answers is
seen to break some, and when the network is well again the next call is answered.
"""

import http.client
from concurrent.futures import ThreadPoolExecutor
from itertools import product

from penstock.testing import oracles
from penstock.testing.bank import Bank
from penstock.testing.faults import Fault
from penstock.testing.oracles import Told, Verdict, Watch
from penstock.testing.prove.callers import call
from penstock.testing.prove.stage import Outcome, Scene, Stage, Tick

NAME = "network"
MAX_TOKENS = 8
AT_ONCE = 8
SILENCE = "1500ms"
"""What the provider may be silent for: longer than a busy machine makes of an answer that is merely slow."""
PLACES = (0, 60, 300, 900)
"""After how many bytes of the answer: before it, in its head, in its body, well into a stream."""
FAULTS = (
    Fault("latency", delay_ms=20),
    Fault("slow", delay_ms=1),
    *(Fault(kind, place) for kind in ("drop", "reset", "half_close", "black_hole", "garbage") for place in PLACES),
)


def scene() -> Scene:
    patience = {"connect": "1s", "first_byte": SILENCE, "between_chunks": SILENCE, "total": "10s"}
    return Scene(NAME, Bank(delay_ms=3), proxied=True, timeouts=patience)


def run(stage: Stage, times: int, tick: Tick) -> Outcome:
    began = oracles.now()
    proxy = stage.proxies[NAME]
    told: list[Told] = []
    faults: list[str] = []
    broken = dict.fromkeys((fault.kind for fault in FAULTS), 0)
    with Watch(stage.boxes) as watch, ThreadPoolExecutor(AT_ONCE) as callers:
        for number, fault in enumerate(FAULTS):
            proxy.fault = fault
            calls = [
                (Told(f"{fault.kind}-{number}-{n}-{'stream' if s else 'plain'}", MAX_TOKENS), s)
                for n, s in product(range(times), (False, True))
            ]
            faults += [said for said in callers.map(lambda one: _call(stage, *one), calls) if said]
            told += [one for one, _ in calls]
            broken[fault.kind] += sum(1 for one, _ in calls if not one.complete)
            tick(f"{fault.kind} after {fault.after_bytes} bytes")
        proxy.fault = Fault()
        well = Told("well-again", MAX_TOKENS)
        faults += [said for said in [_call(stage, well, False)] if said]
    told.append(well)
    if not well.complete:
        faults.append(f"the network is well again and the answer was {well.status}: {well.refusal[:200]!r}")
    for kind, count in broken.items():
        if (count == 0) != (kind in ("latency", "slow")):
            faults.append(f"{kind} broke {count} answers")
    end = stage.judge_the_end(watch)
    books = stage.books(NAME, told, began)
    figures = {"answers broken": ", ".join(f"{kind} {count}" for kind, count in broken.items()), **books.totals()}
    verdicts = oracles.merged([oracles.ledger_equals_bank(books), *stage.judge(books), *end])
    return Outcome(NAME, len(told), verdicts, Verdict("promise", len(told), tuple(faults)), figures)


def _call(stage: Stage, told: Told, stream: bool) -> str:
    """Empty, or what is wrong. A caller may be cut off, but not left waiting."""
    try:
        call(stage, NAME, told, stream)
    except TimeoutError:
        return f"{told.call} was left waiting"
    except (OSError, http.client.HTTPException) as cut:
        if told.status != 200:
            return f"{told.call} got no answer at all: {cut!r}"
    return ""
