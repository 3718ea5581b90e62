"""Streams under metered limits: held a quantum at a time, topped up while they run, cut where a limit says no."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from penstock.domain.journal import Extend, Hold
from penstock.domain.policy import Limit
from penstock.domain.snapshot import Kill
from penstock.testing.plane import (
    DONE,
    FINISH,
    LIMITS,
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

QUANTUM = 10
STRICT = Limit("strict", "strict", "output_tokens", 10**6, "day")


@pytest.fixture(autouse=True)
def small_quantum(monkeypatch: pytest.MonkeyPatch) -> None:
    for room in ("reserve", "attempt"):
        monkeypatch.setattr(f"penstock.pipeline.{room}.QUANTUM_TOKENS", QUANTUM)


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    plane = Plane(tmp_path)
    meter(plane, 10**6)
    yield plane
    plane.close()


def meter(plane: Plane, amount: int, *others: Limit, unit: Any = "output_tokens", version: int = 2) -> None:
    """The only limits are one on output, and these."""
    limits = (Limit("meter", "meter", unit, amount, "day", mode="metered"), *others)
    plane.gateway.snapshot = world(version=version, limits={limit.id: limit for limit in limits})


def words(count: int, counted: int | None = None) -> Answer:
    """One token a piece; the report says `counted`, or nothing when that is None."""
    report = [] if counted is None else [event(usage=usage(10, counted))]
    return Answer(*[event(f"w{n} ") for n in range(count)], FINISH, *report, DONE)


def holds(plane: Plane) -> list[dict[str, int]]:
    """What was held on each limit, record by record."""
    found = [record for record in plane.records() if isinstance(record, Hold | Extend)]
    return [{charge.limit: charge.amount for charge in record.charges} for record in found]


async def interrupted(plane: Plane, step: int, act: Callable[[Caller], None], answer: Answer, **members: Any) -> Caller:
    caller = plane.caller(stream=True, **members)
    plane.scripts.answers = deque([answer])
    plane.steps.at = {plane.steps.count + step: lambda: act(caller)}
    await plane.serve(caller)
    return caller


async def test_a_long_stream_is_topped_up_before_it_passes_what_is_held_and_settles_what_is_reported(
    plane: Plane,
) -> None:
    caller = await plane.call(words(47, 47), stream=True, max_tokens=90)
    assert caller.body.endswith(DONE)
    plane.check()
    assert [held["meter"] for held in holds(plane)] == [10, 20, 30, 40, 50, 60]
    assert plane.settled() == {"meter": 47}
    assert plane.last().flags == ()


async def test_what_is_held_never_passes_the_calls_own_cap(plane: Plane) -> None:
    await plane.call(words(24, 24), stream=True, max_tokens=24)
    plane.check()
    assert [held["meter"] for held in holds(plane)] == [10, 20, 24]


async def test_a_call_whose_cap_is_within_the_quantum_is_held_as_a_strict_one(plane: Plane) -> None:
    await plane.call(words(7, 7), stream=True, max_tokens=8)
    plane.check()
    assert holds(plane) == [{"meter": 8}]


async def test_a_plain_call_is_held_as_under_a_strict_limit(plane: Plane) -> None:
    await plane.call(plain(), max_tokens=90)
    plane.check()
    assert holds(plane) == [{"meter": 90}]
    meter(plane, 89)
    refused = await plane.call(plain(), max_tokens=90)
    assert refused.headers["x-penstock-error"] == "rate_limit_exceeded"


async def test_dollars_are_held_for_the_input_and_the_output_so_far(plane: Plane) -> None:
    meter(plane, 10**9, unit="usd")
    await plane.call(words(17, 17), stream=True, max_tokens=90)
    plane.check()
    held = [amounts["meter"] for amounts in holds(plane)]
    assert [after - before for before, after in pairwise(held)] == [QUANTUM * 8_000] * 2
    drafts = [record.draft for record in plane.records() if isinstance(record, Hold | Extend)]
    assert [draft.cost_nanousd for draft in drafts] == held
    assert plane.settled() == {"meter": 10 * 2_000 + 17 * 8_000 + 7}


async def test_a_strict_limit_beside_a_metered_one_holds_the_worst_case_from_the_beginning(plane: Plane) -> None:
    meter(plane, 10**6, STRICT)
    await plane.call(words(17, 17), stream=True, max_tokens=90)
    plane.check()
    assert [(held["meter"], held["strict"]) for held in holds(plane)] == [(10, 90), (20, 90), (30, 90)]
    assert plane.settled() == {"meter": 17, "strict": 17}


async def test_a_stream_is_cut_where_the_limit_is_used_up_and_charged_what_had_come(plane: Plane) -> None:
    meter(plane, 35)
    caller = await plane.call(words(80, 80), stream=True, max_tokens=90)
    assert b'"code":"rate_limit_exceeded"' in caller.body
    assert b"up to 40 output tokens, which is over the whole limit of 35" in caller.body
    assert DONE not in caller.body
    assert caller.ended
    plane.check()
    told = plane.last()
    assert (told.cause, told.error_code, told.status, told.cost_basis) == (
        "refused",
        "rate_limit_exceeded",
        429,
        "estimated",
    )
    assert plane.settled() == {"meter": told.usage.output}
    assert caller.body.count(b'"content"') == told.usage.output - 1 == 25


async def test_a_stream_that_others_holds_are_in_the_way_of_is_cut_too(plane: Plane) -> None:
    meter(plane, 25)
    plane.scripts.answers = deque([words(80, 80)])
    callers = [plane.caller(stream=True, max_tokens=90) for _ in range(2)]
    await asyncio.gather(*[plane.serve(caller) for caller in callers])
    assert sorted(b'"code":"limit_held"' in caller.body for caller in callers) == [False, True]
    assert not any(DONE in caller.body for caller in callers)
    plane.check()
    assert plane.settled()["meter"] <= 25


async def test_what_came_at_once_is_held_at_once_or_not_passed_on(plane: Plane) -> None:
    flood = Answer(event("w "), b"".join(event(f"w{n} ") for n in range(70)), FINISH, event(usage=usage(10, 71)), DONE)
    await plane.call(flood, stream=True, max_tokens=90)
    assert [held["meter"] for held in holds(plane)] == [10, 81]
    meter(plane, 150)
    caller = await plane.call(flood, stream=True, max_tokens=90)
    assert b"w1 " not in caller.body
    plane.check()
    assert plane.last().usage.output == 71
    assert plane.last().flags == ("hold_exceeded",)


async def test_a_provider_that_reports_more_than_passed_is_settled_and_flagged(plane: Plane) -> None:
    await plane.call(words(3, 60), stream=True, max_tokens=90)
    plane.check()
    assert plane.settled() == {"meter": 60}
    assert plane.last().flags == ("hold_exceeded",)


async def test_a_stream_without_any_cap_is_topped_up_to_its_end(plane: Plane) -> None:
    caller = plane.caller(model="lab/any", stream=True, max_tokens=None)
    plane.gateway.resolve = _uncapped(plane)
    plane.scripts.answers = deque([words(33, 33)])
    await plane.serve(caller)
    assert caller.status == 200
    plane.check()
    assert holds(plane)[-1] == {"meter": 40}
    refused = plane.caller(model="lab/any", max_tokens=None)
    await plane.serve(refused)
    assert refused.status == 400
    assert b"is metered and nothing caps" in refused.body


def _uncapped(plane: Plane) -> Any:
    resolve = plane.gateway.resolve

    async def without_cap(provider: str, model: str) -> Any:
        found = await resolve(provider, model)
        return type(found)(found.provider, found.model, found.price)

    return without_cap


async def test_rejected_predictions_are_held_from_the_beginning(plane: Plane) -> None:
    prediction = {"type": "content", "content": "x" * 100}
    await plane.call(words(3, 3), stream=True, max_tokens=90, prediction=prediction)
    assert holds(plane)[0]["meter"] > QUANTUM + 100


async def test_audio_cannot_be_counted_and_is_held_at_its_worst(plane: Plane) -> None:
    await plane.call(words(3, 3), stream=True, max_tokens=90, modalities=["text", "audio"])
    assert holds(plane) == [{"meter": 90}]


async def test_a_lowered_limit_cuts_a_stream_at_its_next_quantum_and_a_deleted_one_does_not(plane: Plane) -> None:
    def lower(_: Caller) -> None:
        meter(plane, 25, version=3)

    caller = await interrupted(plane, 8, lower, words(80, 80), max_tokens=90)
    assert b"rate_limit_exceeded" in caller.body
    plane.check()
    meter(plane, 10**6, version=4)

    def delete(_: Caller) -> None:
        plane.gateway.snapshot = world(version=5, limits={})

    caller = await interrupted(plane, 8, delete, words(80, 80), max_tokens=90)
    assert caller.body.endswith(DONE)
    assert plane.ledger.held() == {}


async def test_a_top_up_that_cannot_be_journaled_cuts_the_stream(plane: Plane) -> None:
    with full_disk(plane) as switch:
        switch()
        caller = await interrupted(plane, 8, lambda _: switch(full=True), words(80, 80), max_tokens=90)
    assert b'"code":"store_unavailable"' in caller.body
    assert DONE not in caller.body
    plane.journal.retry_kept()
    plane.check()
    assert (plane.last().cause, plane.last().error_code) == ("failed", "store_unavailable")


async def test_a_stream_longer_than_any_answer_is_the_providers_fault(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.pipeline.attempt.MAX_EXTENSIONS", 3)
    caller = await plane.call(words(80, 80), stream=True, max_tokens=90)
    assert b'"code":"upstream_malformed"' in caller.body
    plane.check()
    assert (plane.last().cause, plane.last().error_code) == ("failed", "upstream_malformed")


@pytest.mark.parametrize("what", ["leave", "kill"])
async def test_a_call_that_ends_between_two_top_ups_settles_what_was_counted(plane: Plane, what: str) -> None:
    def happen(caller: Caller) -> None:
        if what == "leave":
            caller.leave()
            return
        plane.gateway.snapshot = world(version=3, generation=1, kills={1: Kill(1, {"team": "growth"})}, limits={})
        plane.gateway.cut_killed()

    await interrupted(plane, 30, happen, words(80, 80), max_tokens=90)
    plane.check()
    assert plane.last().cause == ("aborted" if what == "leave" else "killed")
    assert 0 < plane.settled()["meter"] < 40


async def test_only_metered_calls_are_counted_while_they_run(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    monkeypatch.setattr("penstock.dialects.openai_chat.ChatTee.counted_output", lambda tee: counts.append(tee) or 0)
    await plane.call(words(20, 20), stream=True)
    assert counts
    counts.clear()
    plane.gateway.snapshot = world(version=3, limits=LIMITS)
    await plane.call(streamed(), stream=True)
    assert not counts
