"""Whatever providers do, wherever calls are cut: nothing stays held, every call leaves one event that adds up."""

import asyncio
import tempfile
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.domain.policy import Limit
from penstock.domain.snapshot import Kill
from penstock.errors import (
    UpstreamConnectFailed,
    UpstreamError,
    UpstreamMalformed,
    UpstreamReset,
    UpstreamTimeout,
)
from penstock.testing.plane import (
    DONE,
    FINISH,
    JSON,
    LIMITS,
    SSE,
    Answer,
    Caller,
    Plane,
    event,
    full_disk,
    plain,
    streamed,
    usage,
    world,
)

FAULTS: st.SearchStrategy[BaseException] = st.sampled_from(
    [
        UpstreamReset("broken"),
        UpstreamMalformed("odd"),
        UpstreamTimeout("late", "between_chunks"),
        ValueError("a fault of ours"),
        RecursionError("too deep"),
        AttributeError("another"),
    ]
)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**40) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=4,
)
REPORTS = st.one_of(
    st.builds(usage, st.integers(0, 60), st.integers(0, 20)),
    st.fixed_dictionaries(
        {},
        optional={
            "prompt_tokens": JUNK | st.integers(0, 50),
            "completion_tokens": JUNK | st.integers(0, 50),
            "total_tokens": JUNK | st.integers(0, 50),
            "prompt_tokens_details": st.fixed_dictionaries({"cached_tokens": JUNK}) | JUNK,
            "completion_tokens_details": st.fixed_dictionaries({"reasoning_tokens": JUNK | st.integers(0, 99)}) | JUNK,
        },
    ),
    JUNK,
)
PIECES: st.SearchStrategy[bytes | BaseException] = st.one_of(
    st.builds(event, st.text(max_size=30)),
    st.builds(lambda report: event(usage=report), REPORTS),
    st.builds(lambda report: event("x", usage=report), REPORTS),
    st.builds(lambda error: event(error=error), JUNK),
    st.builds(lambda choices: event(choices=choices), JUNK),
    st.sampled_from(
        [FINISH, DONE, DONE + DONE, b": comment\n\n", b"data: {", b"\n\n", b"\xff\n\n", b'{"usage":[]}\n\n']
    ),
    FAULTS,
)
ANSWERS = st.one_of(
    st.just(plain()),
    st.just(streamed()),
    st.builds(lambda report: plain(usage=report), REPORTS),
    st.builds(lambda report, error: plain(usage=report, error=error), REPORTS, JUNK),
    st.builds(lambda choices: plain(choices=choices), JUNK),
    st.builds(lambda pieces: Answer(*pieces), st.lists(PIECES, max_size=6)),
    st.builds(lambda pieces: Answer(*pieces, headers=[JSON]), st.lists(PIECES, max_size=3)),
    st.builds(
        lambda status: Answer(b'{"error":{"message":"No."}}', status=status), st.sampled_from([204, 302, 400, 401, 503])
    ),
    st.builds(lambda fault: Answer(status=500, unanswered=fault), FAULTS),
    st.builds(lambda: Answer(before=UpstreamConnectFailed("gone"))),
    st.builds(lambda fault: Answer(before=fault), FAULTS.filter(lambda fault: not isinstance(fault, UpstreamError))),
    st.builds(lambda: Answer(event("x"), headers=[SSE, ("x-bad", "a\nb")])),
)
MEMBERS = st.fixed_dictionaries(
    {"model": st.sampled_from(["pair", "pair", "one", "lab/any", "none"])},
    optional={
        "stream": st.booleans(),
        "stream_options": st.sampled_from([{"include_usage": True}, {"include_usage": False}, None]),
        "n": st.integers(0, 3),
        "max_tokens": st.integers(0, 30),
    },
)
HAPPENINGS = [
    "leave",
    "kill",
    "drain",
    "cancel",
    "fill the disk",
    "mend the disk",
    "lose the world",
    "shut out",
    "twice",
]


class Run:
    """Some calls at once in one data plane, and what happens at which of their steps."""

    def __init__(self, plane: Plane, switch: Callable[..., None]) -> None:
        self.plane = plane
        self.switch = switch
        self.callers: list[Caller] = []
        self.tasks: list[asyncio.Task[None]] = []

    def happen(self, what: str, which: int) -> None:
        plane, caller = self.plane, self.callers[which % len(self.callers)]
        gateway = plane.gateway
        if what in ("leave", "twice"):
            caller.leave()
        if what in ("kill", "twice"):
            kills = {1: Kill(1, {"team": "growth"})}
            gateway.snapshot = world(version=2, generation=1, kills=kills)
            gateway.cut_killed()
        elif what == "drain":
            gateway.draining = True
            gateway.cut(gateway.live.values(), "aborted")
        elif what == "cancel":
            self.tasks[which % len(self.tasks)].cancel()
        elif what in ("fill the disk", "mend the disk"):
            self.switch(full=what.startswith("fill"))
        elif what == "lose the world":
            gateway.snapshot = world(version=3, providers={}, aliases={}, limits={})
        elif what == "shut out":
            gateway.snapshot = world(version=4, keys=(), limits={"dollars": LIMITS["dollars"]})

    async def calls(self, answers: list[Answer], asked: list[dict[str, Any]]) -> None:
        self.plane.scripts.answers = deque(answers)
        self.callers = [self.plane.caller(**members) for members in asked]
        self.tasks = [asyncio.ensure_future(self.plane.app.handle(caller.request)) for caller in self.callers]
        await asyncio.gather(*self.tasks, return_exceptions=True)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(ANSWERS, min_size=1, max_size=5),
    st.lists(MEMBERS, min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(1, 40), st.sampled_from(HAPPENINGS), st.integers(0, 2)), max_size=3),
    st.sampled_from([None, 5, 12, 1_000]),
)
def test_after_any_behaviour_nothing_is_held_and_every_call_is_told_once(
    answers: list[Answer],
    asked: list[dict[str, Any]],
    happenings: list[tuple[int, str, int]],
    metered: int | None,
) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        plane = Plane(Path(folder))
        stack.callback(plane.close)
        if metered is not None:
            quantum = stack.enter_context(pytest.MonkeyPatch.context())
            for room in ("reserve", "attempt"):
                quantum.setattr(f"penstock.pipeline.{room}.QUANTUM_TOKENS", 3)
            meter = Limit("meter", "meter", "output_tokens", metered, "day", mode="metered")
            plane.gateway.snapshot = world(limits={**LIMITS, "meter": meter})
        with full_disk(plane) as switch:
            switch()
            run = Run(plane, switch)
            for step, what, which in happenings:
                plane.steps.at[step] = lambda what=what, which=which: run.happen(what, which)  # type: ignore[misc]
            asyncio.run(run.calls(answers, asked))
        plane.journal.retry_kept()
        plane.check()
        for caller, task in zip(run.callers, run.tasks, strict=True):
            assert caller.request.answered or caller.request.gone or task.cancelled()
