"""A limit that names another model: the call goes on with it, through every room again, and so on a few times."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from penstock.domain.policy import Limit
from penstock.domain.snapshot import Alias, Deployment, Kill
from penstock.domain.tenancy import Key, Rights
from penstock.errors import UpstreamConnectFailed
from penstock.testing.plane import CARD, JSON, KEY, LIMITS, Answer, Plane, plain, streamed, world

BIG = Limit("big", "big-cap", "requests", 0, "day", match=(("model", "big"),), downgrade="small")
ALIASES = {
    "big": Alias("big", (Deployment("lab", "big-1", CARD, max_output=100),)),
    "small": Alias("small", (Deployment("lab2", "small-1", CARD, max_output=100),)),
    "tiny": Alias("tiny", (Deployment("lab2", "tiny-1", CARD, max_output=100),)),
    "lab2/*": Alias("lab2/*"),
}
REFUSED = Answer(b'{"error": {"message": "no"}}', status=500, headers=[JSON])


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    plane = Plane(tmp_path)
    yield plane
    plane.close()


def _world(plane: Plane, *limits: Limit, **tables: Any) -> None:
    table = {limit.id: limit for limit in (LIMITS["dollars"], *limits)}
    plane.gateway.snapshot = world(aliases=ALIASES, limits=table, **tables)


def _key(**fields: Any) -> list[Key]:
    return [structs.replace(KEY, **fields)]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_named_model_takes_over_and_it_shows(plane: Plane, stream: bool) -> None:
    counted = Limit("small", "small-cap", "requests", 9, "day", match=(("model", "small"),))
    _world(plane, BIG, counted)
    caller = await plane.call(streamed() if stream else plain(), model="big", stream=stream)
    assert caller.status == 200
    assert caller.headers["x-penstock-model"] == "small-1"
    assert caller.headers["x-penstock-downgraded"] == "big-cap"
    assert b'"model":"small-1"' in plane.scripts.sent[0].body
    plane.check()
    told = plane.last()
    assert (told.alias, told.model, told.cause) == ("small", "small-1", "completed")
    assert told.decision == {"downgrade": {"limit": "big-cap", "from": "big", "to": "small"}}
    assert plane.settled() == {"small": 1, "dollars": told.cost_nanousd}


async def test_a_call_that_fits_is_not_downgraded(plane: Plane) -> None:
    _world(plane, structs.replace(BIG, amount=1))
    first, second = [await plane.call(plain(), model="big") for _ in range(2)]
    assert "x-penstock-downgraded" not in first.headers and second.headers["x-penstock-downgraded"] == "big-cap"
    assert (first.headers["x-penstock-model"], second.headers["x-penstock-model"]) == ("big-1", "small-1")
    assert plane.events()[0].decision == {}


async def test_a_hold_says_that_the_call_was_downgraded(plane: Plane) -> None:
    _world(plane, BIG)
    await plane.call(plain(), model="big")
    hold = plane.records()[0]
    assert hold.draft.alias == "small" and hold.draft.decision["downgrade"]["from"] == "big"  # type: ignore[union-attr]


async def test_a_limit_on_all_models_denies_again_and_its_denial_is_answered(plane: Plane) -> None:
    _world(plane, structs.replace(BIG, match=()))
    caller = await plane.call(plain(), model="big")
    assert caller.status == 429
    assert "x-penstock-downgraded" not in caller.headers
    assert not plane.scripts.sent
    plane.check()
    told = plane.last()
    assert (told.alias, told.error_code) == ("big", "rate_limit_exceeded")
    assert told.decision["downgrade"]["refused"] == "rate_limit_exceeded"


async def test_a_limit_on_all_models_helps_where_the_other_ones_worst_case_fits(plane: Plane) -> None:
    tokens = Limit("tokens", "tokens", "output_tokens", 60, "day", downgrade="small")
    _world(plane, tokens)
    plane.gateway.snapshot = structs.replace(
        plane.gateway.snapshot, aliases={**ALIASES, "small": structs.replace(ALIASES["small"], max_output=50)}
    )
    caller = await plane.call(plain(), model="big", max_tokens=None)
    assert (caller.status, caller.headers["x-penstock-downgraded"]) == (200, "tokens")


SMALL = Limit("small", "small-cap", "usd", 1, "day", match=(("model", "small"),), downgrade="tiny")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_limit_of_the_model_that_takes_over_may_name_the_next(plane: Plane, stream: bool) -> None:
    _world(plane, BIG, SMALL)
    caller = await plane.call(streamed() if stream else plain(), model="big", stream=stream)
    assert (caller.status, caller.headers["x-penstock-model"]) == (200, "tiny-1")
    assert caller.headers["x-penstock-downgraded"] == "big-cap,small-cap"
    plane.check()
    told = plane.last()
    then = [{"limit": "small-cap", "to": "tiny"}]
    assert told.decision == {"downgrade": {"limit": "big-cap", "from": "big", "to": "small", "then": then}}
    assert (told.alias, plane.settled()) == ("tiny", {"dollars": told.cost_nanousd})


@pytest.mark.parametrize("last", ["", "big", "tiny"])
async def test_where_no_model_can_take_over_the_first_denial_is_answered(plane: Plane, last: str) -> None:
    tiny = Limit("tiny", "tiny-cap", "usd", 1, "day", match=(("model", "tiny"),), downgrade=last)
    _world(plane, BIG, SMALL, tiny)
    caller = await plane.call(plain(), model="big")
    assert (caller.status, caller.headers["x-penstock-error"]) == (429, "rate_limit_exceeded")
    assert b"big-cap" in caller.body
    told = plane.last()
    assert (told.alias, told.decision["downgrade"]["refused"]) == ("big", "insufficient_quota")
    assert not plane.scripts.sent
    plane.check()


async def test_a_call_is_handed_on_a_few_times_and_no_more(plane: Plane) -> None:
    names = [f"m{number}" for number in range(9)]
    aliases = {name: Alias(name, (Deployment("lab", name, CARD, max_output=100),)) for name in names}
    limits = [
        Limit(name, name, "requests", 0, "day", match=(("model", name),), downgrade=following)
        for name, following in pairwise(names)
    ]
    _world(plane, *limits)
    plane.gateway.snapshot = structs.replace(plane.gateway.snapshot, aliases=aliases)
    refused = await plane.call(plain(), model="m0")
    assert refused.status == 429 and len(plane.last().decision["downgrade"]["then"]) == 4
    assert (await plane.call(plain(), model="m3")).headers["x-penstock-downgraded"] == "m3,m4,m5,m6,m7"


@pytest.mark.parametrize(
    "tables",
    [
        {"keys": _key(rights=Rights(("big",)))},
        {"kills": {1: Kill(1, {"model": "small"})}, "generation": 1},
        {"kills": {1: Kill(1, {"provider": "lab2"})}, "generation": 1},
    ],
)
async def test_a_model_that_the_call_may_not_use_does_not_take_over(plane: Plane, tables: dict[str, Any]) -> None:
    _world(plane, BIG, **tables)
    caller = await plane.call(plain(), model="big")
    assert (caller.status, caller.headers["x-penstock-error"]) == (429, "rate_limit_exceeded")
    assert not plane.scripts.sent
    plane.check()
    assert plane.last().cause == "refused"


async def test_a_model_that_is_gone_does_not_take_over(plane: Plane) -> None:
    _world(plane, structs.replace(BIG, downgrade="gone"))
    assert (await plane.call(plain(), model="big")).status == 429
    assert plane.last().decision == {}


async def test_a_model_without_a_price_does_not_take_over_under_a_dollar_limit(plane: Plane) -> None:
    _world(plane, BIG, Limit("usd", "usd", "usd", 10**12, "day"))
    unpriced = Alias("small", (Deployment("lab2", "small-1", max_output=100),))
    plane.gateway.snapshot = structs.replace(plane.gateway.snapshot, aliases={**ALIASES, "small": unpriced})
    assert (await plane.call(plain(), model="big")).status == 429
    assert plane.last().decision["downgrade"]["refused"] == "unpriced_model"


async def test_an_undeclared_model_can_take_over(plane: Plane) -> None:
    _world(plane, structs.replace(BIG, downgrade="lab2/any"))
    caller = await plane.call(plain(), model="big")
    assert (caller.status, caller.headers["x-penstock-model"]) == (200, "any")


async def test_the_named_model_itself_is_refused_as_before(plane: Plane) -> None:
    _world(plane, Limit("all", "all", "requests", 0, "day", downgrade="small"))
    caller = await plane.call(plain(), model="small")
    assert caller.status == 429
    assert plane.last().decision == {}


async def test_the_other_targets_come_first_when_a_limit_of_a_provider_denies(plane: Plane) -> None:
    lab = Limit("lab", "lab", "requests", 0, "day", match=(("provider", "lab"),), downgrade="small")
    pair = Alias("pair", (*ALIASES["big"].targets, *ALIASES["tiny"].targets))
    _world(plane, lab)
    plane.gateway.snapshot = structs.replace(plane.gateway.snapshot, aliases={**ALIASES, "pair": pair})
    caller = await plane.call(plain(), model="pair")
    assert caller.headers["x-penstock-model"] == "tiny-1" and "x-penstock-downgraded" not in caller.headers
    caller = await plane.call(plain(), model="big")
    assert (caller.headers["x-penstock-model"], caller.headers["x-penstock-downgraded"]) == ("small-1", "lab")


async def test_a_downgraded_call_that_its_provider_breaks_says_what_happened(plane: Plane) -> None:
    _world(plane, BIG)
    caller = await plane.call(Answer(before=UpstreamConnectFailed("gone")), model="big")
    assert caller.headers["x-penstock-error"] == "upstream_unreachable"
    plane.check()
    assert (plane.last().alias, plane.last().cause) == ("small", "failed")


async def test_a_downgrade_after_a_failed_target_goes_on_counting_attempts(plane: Plane) -> None:
    lab2 = Limit(
        "lab2", "lab2", "requests", 0, "day", match=(("model", "pair"), ("provider", "lab2")), downgrade="tiny"
    )
    pair = Alias("pair", (*ALIASES["big"].targets, *ALIASES["small"].targets))
    _world(plane, lab2)
    plane.gateway.snapshot = structs.replace(plane.gateway.snapshot, aliases={**ALIASES, "pair": pair})
    caller = await plane.call(REFUSED, plain(), model="pair")
    assert (caller.status, caller.headers["x-penstock-model"]) == (200, "tiny-1")
    plane.check()
    assert [attempt.n for attempt in plane.last().attempts] == [1, 2]


async def test_a_caller_that_leaves_a_downgraded_call_leaves_nothing_behind(plane: Plane) -> None:
    _world(plane, BIG)
    for step in range(1, 10):
        plane.scripts.answers.clear()
        plane.scripts.answers.append(streamed())
        caller = plane.caller(model="big", stream=True)
        plane.steps.at = {plane.steps.count + step: caller.leave}
        await plane.serve(caller)
        plane.check()


async def test_a_stop_of_the_model_that_took_over_cuts_the_call_and_one_of_the_asked_model_does_not(
    plane: Plane,
) -> None:
    def kill(scope: str) -> int:
        _world(plane, BIG, kills={1: Kill(1, {"model": scope})}, version=2, generation=1)
        return plane.gateway.cut_killed()

    cut: list[int] = []
    for model in ("big", "small"):
        _world(plane, BIG)
        plane.steps.at = {plane.steps.count + 5: lambda model=model: cut.append(kill(model))}  # type: ignore[misc]
        await plane.call(streamed(), model="big", stream=True)
        plane.check()
    assert cut == [0, 1]
