"""The scenarios: each stops something, looks on until nobody is admitted, and makes a row of what it saw."""

import math
import time
from collections.abc import Callable
from contextlib import ExitStack

from msgspec import Struct, field

from penstock.app import break_glass
from penstock.testing.prove.stops.stage import PATIENCE_S, SCOPES, Probe, Stage, Who
from penstock.testing.prove.stops.streams import Streams
from penstock.testing.wire import eventually

Tick = Callable[[str], None]

AGAIN_MS = 1_000
"""Other boxes, break-glass, streams."""
PUSH_DEAD_MS = 2_000
PARTITION_MS = 2_000
"""On top of `stop.freshness`."""
SAME_BOX = (("p50", 50.0), ("p99", 250.0))


class Row(Struct):
    """`times_ms`: of each time that it was done. `bounds`: which figure of them must not pass what; `faults`: what is
    wrong whatever the machine was doing."""

    name: str
    checked: int = 0
    times_ms: list[float] = field(default_factory=list)
    bounds: tuple[tuple[str, float], ...] = ()
    faults: list[str] = field(default_factory=list)

    def figure(self, name: str) -> float:
        """`p50`, `p99` by the nearest rank, or `max`, in milliseconds."""
        share = {"p50": 0.5, "p99": 0.99, "max": 1.0}[name]
        ordered = sorted(self.times_ms) or [0.0]
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    @property
    def late(self) -> list[str]:
        return [
            f"{self.name}: {name} is {self.figure(name):,.0f} ms, and must be at most {most:,.0f} ms"
            for name, most in self.bounds
            if self.figure(name) > most
        ]

    def add(self, ms: float) -> None:
        self.checked += 1
        self.times_ms.append(ms)


def probes(stage: Stage, stack: ExitStack, who: Who | None = None) -> list[Probe]:
    """One on each box, admitted. `who`: the caller, if not the one whom every scope covers."""
    who = who or Who("probe", stage.secrets["probe"])
    made = [stack.enter_context(Probe(stage, box, who)) for box in range(len(stage.boxes))]
    for each in made:
        each.until_admitted()
    return made


def kills(stage: Stage, times: int, tick: Tick) -> list[Row]:
    """A stop of one key, raised on the first box. Whoever raises it also waits for the transaction: that is a row of
    its own, without a bound."""
    here, there = Row("kill, same box", bounds=SAME_BOX), Row("kill, other box", bounds=(("max", AGAIN_MS),))
    asked = Row("kill, same box, from the request on")
    with ExitStack() as stack:
        own, other = probes(stage, stack)
        for n in range(times):
            asked_s = time.time()
            generation = stage.kill({"key": "probe"})
            for probe in (own, other):
                probe.until_refused("killed")
            at_s = stage.killed_s(generation)
            here.add(own.last_admission_ms(at_s))
            asked.add(own.last_admission_ms(asked_s))
            there.add(other.last_admission_ms(at_s))
            stage.lift(generation)
            own.until_admitted()
            other.until_admitted()
            tick(f"kill {n + 1}")
    return [here, asked, there]


def push_dead(stage: Stage, times: int, tick: Tick) -> list[Row]:
    """The other box is not told of changes by its database, and has to find out by looking."""
    row = Row("kill, other box, push dead", bounds=(("max", PUSH_DEAD_MS),))
    with ExitStack() as stack:
        _, other = probes(stage, stack)
        stage.proxies[1].become("deaf")
        stack.callback(stage.proxies[1].become, "open")
        for n in range(times):
            generation = stage.kill({"key": "probe"})
            other.until_refused("killed")
            row.add(other.last_admission_ms(stage.killed_s(generation)))
            stage.lift(generation)
            other.until_admitted()
            tick(f"push dead {n + 1}")
    return [row]


def partition(stage: Stage, times: int, tick: Tick) -> list[Row]:
    """The other box loses its database altogether. It serves on, and refuses once its picture is too old."""
    fresh_ms = stage.freshness_s * 1_000
    row = Row(f"kill, partitioned box (freshness {stage.freshness_s} s)", bounds=(("max", fresh_ms + PARTITION_MS),))
    with ExitStack() as stack:
        _, other = probes(stage, stack)
        for n in range(times):
            stage.proxies[1].become("cut")
            with ExitStack() as healing:
                healing.callback(stage.proxies[1].become, "open")
                generation = stage.kill({"key": "probe"})
                other.until_refused("store_unavailable")
                at_s = stage.killed_s(generation)
                row.add(other.last_admission_ms(at_s))
            other.until_refused("killed")
            if (late_ms := other.last_admission_ms(at_s)) > row.times_ms[-1]:
                row.faults.append(f"the box admitted again, {late_ms:,.0f} ms after the stop, when it was back")
            stage.lift(generation)
            other.until_admitted()
            tick(f"partition {n + 1}")
    return [row]


def revocations(stage: Stage, times: int, tick: Tick) -> list[Row]:
    """A key is revoked, and a limit lowered to less than what is spent: both travel as kills do."""
    rows = [
        Row("revoked key, same box", bounds=SAME_BOX),
        Row("revoked key, other box", bounds=(("max", AGAIN_MS),)),
        Row("lowered limit, same box", bounds=SAME_BOX),
        Row("lowered limit, other box", bounds=(("max", AGAIN_MS),)),
    ]
    for n in range(times):
        name = f"leaked-{n}"
        secret = stage.ask("POST", "/keys", {"name": name, "team": "stopped"})["secret"]
        limit = {"name": name, "match": {"key": name}, "unit": "requests", "amount": 10**6, "per": "total"}
        stage.ask("POST", "/limits", limit)
        with ExitStack() as stack:
            both = probes(stage, stack, Who(name, secret))
            stage.ask("PATCH", f"/limits/{name}", {"amount": 1})
            for probe in both:
                probe.until_refused("rate_limit_exceeded")
            at_s = stage.changed_s("limits", name)
            for row, probe in zip(rows[2:], both, strict=True):
                row.add(probe.last_admission_ms(at_s))
            stage.ask("PATCH", f"/limits/{name}", {"amount": 10**6})
            for probe in both:
                probe.until_admitted()
            stage.ask("POST", f"/keys/{name}/revoke")
            for probe in both:
                probe.until_refused("invalid_api_key")
            at_s = stage.changed_s("keys", name)
            for row, probe in zip(rows[:2], both, strict=True):
                row.add(probe.last_admission_ms(at_s))
        stage.ask("DELETE", f"/limits/{name}")
        tick(f"revoked {n + 1}")
    return rows


def scopes(stage: Stage, _: int, tick: Tick) -> list[Row]:
    """Every scope stops what it covers, on both boxes, and nothing else; lifting it admits again."""
    row = Row("every scope, and its lift")
    with ExitStack() as stack:
        both = probes(stage, stack)
        spared = probes(stage, stack, Who("spared", stage.secrets["spared"], "spare", tags=""))
        for scope in SCOPES:
            alike = [*both, *spared] if scope in ({"all": True}, {"organisation": "default"}) else both
            generation = stage.kill(scope)
            for probe in alike:
                probe.until_refused("killed")
            for probe in spared:
                if probe not in alike:
                    probe.until_admitted()
            stage.lift(generation)
            for probe in alike:
                probe.until_admitted()
            row.checked += 1
            tick(f"scope {scope}")
    return [row]


def restarts(stage: Stage, _: int, tick: Tick) -> list[Row]:
    """kill -9 for every process of both boxes while everything is stopped: nothing is admitted when they are back."""
    row = Row("kill -9 of all, and start: nothing admitted")
    with ExitStack() as stack:
        both = probes(stage, stack)
        generation = stage.kill({"all": True})
        for probe in both:
            probe.until_refused("killed")
        for box in stage.boxes:
            box.kill_tree()
        down_s = time.time()
        for box in stage.boxes:
            box.start(wait=False)
        for probe in both:
            probe.told, probe.refusals = (0, ""), 0
            probe.until_refused("killed")
        eventually(lambda: all(box.nodes() for box in stage.boxes), PATIENCE_S, "both admin planes are up")
        for probe in both:
            row.checked += probe.refusals
            if probe.last_admission_ms(down_s) > 0:
                row.faults.append(f"{probe.name} was admitted after the restart")
        stage.lift(generation)
        for probe in both:
            probe.until_admitted()
        tick("restart")
    return [row]


def glass(stage: Stage, times: int, tick: Tick) -> list[Row]:
    """The break-glass file stops a box that has lost its database and whose control process is dead."""
    row = Row("break-glass file, no database, no control process", bounds=(("max", AGAIN_MS),))
    box = stage.boxes[1]
    with ExitStack() as stack:
        _, other = probes(stage, stack)
        for n in range(times):
            with ExitStack() as healing:
                stage.proxies[1].become("cut")
                healing.callback(stage.proxies[1].become, "open")
                box.kill("control")
                other.until_admitted()
                at_s = time.time()
                break_glass.pull(box.data, "a proof")
                other.until_refused("killed")
                row.add(other.last_admission_ms(at_s))
            break_glass.lift(box.data, "it is measured")
            other.until_admitted()
            tick(f"break-glass {n + 1}")
    return [row]


def streams(stage: Stage, count: int, tick: Tick) -> list[Row]:
    """Live streams on both boxes are closed, towards their callers and towards the provider, and settled."""
    callers = Row(f"{count:,} live streams, callers' side", bounds=(("max", AGAIN_MS),))
    upstream = Row(f"{count:,} live streams, provider's side", bounds=(("max", AGAIN_MS),))
    began = stage.ask("GET", "/usage")["total"]["calls"]
    with Streams(stage, count) as live:
        tick("streams are open")
        generation = stage.kill({"team": "stopped"})
        live.until_ended(PATIENCE_S)
        at_s = stage.killed_s(generation)
        for seen in live.seen:
            callers.add(max(0.0, seen.ended_s - at_s) * 1_000)
            if (fault := seen.fault()) is not None:
                callers.faults.append(fault)
        for gone_s in live.gone_s(PATIENCE_S):
            upstream.add(max(0.0, gone_s - at_s) * 1_000)
    if len(upstream.times_ms) != count:
        upstream.faults.append(f"the provider saw {len(upstream.times_ms)} of {count} streams end")
    settled = f"{count} calls are settled as killed, and nothing is held"
    try:
        eventually(lambda: stage.ask("GET", "/usage")["total"]["calls"] >= began + count, PATIENCE_S, settled)
        eventually(lambda: all(box.held() == 0 for box in stage.boxes), PATIENCE_S, settled)
    except TimeoutError as fault:
        callers.faults.append(str(fault))
    rows = {row["cause"]: row["calls"] for row in stage.ask("GET", "/usage?by=cause&since=1h")["rows"]}
    if rows.get("killed", 0) < count:
        callers.faults.append(f"{rows.get('killed', 0)} of {count} streams are settled as killed")
    stage.lift(generation)
    tick("streams are closed")
    return [callers, upstream]
