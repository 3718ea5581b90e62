"""A call of an alias that another has replaced: served, counted, limited and stopped under both names."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from penstock.domain.policy import Limit
from penstock.domain.snapshot import Alias, Kill
from penstock.testing.plane import LIMITS, NOW_NS, Plane, plain, streamed, world

NOW_S = NOW_NS / 1e9


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    plane = Plane(tmp_path)
    yield plane
    plane.close()


def deprecate(plane: Plane, warn_at: float, end_at: float | None, **tables: object) -> None:
    aliases = plane.gateway.snapshot.aliases
    old = Alias("old", aliases["pair"].targets[1:], replaced_by="one", warn_at=warn_at, end_at=end_at)
    plane.gateway.snapshot = structs.replace(world(), aliases={**aliases, "old": old}, **tables)


async def test_before_its_time_nobody_is_told(plane: Plane) -> None:
    deprecate(plane, NOW_S + 1, NOW_S + 2)
    caller = await plane.call(plain(), model="old")
    assert not {"deprecation", "sunset", "x-penstock-replaced-by"} & caller.headers.keys()
    assert plane.last().decision == {}
    assert (plane.last().alias, plane.last().model) == ("old", "second")
    plane.check()


@pytest.mark.parametrize("answer", [plain, streamed])
async def test_then_every_answer_says_so_and_the_record_too(plane: Plane, answer: object) -> None:
    deprecate(plane, NOW_S - 1, NOW_S + 60)
    assert callable(answer)
    caller = await plane.call(answer(), model="old", stream=answer is streamed)
    assert caller.headers["deprecation"] == f"@{int(NOW_S) - 1}"
    assert caller.headers["sunset"].endswith(" GMT")
    assert caller.headers["x-penstock-replaced-by"] == "one"
    assert caller.headers["x-penstock-model"] == "second"
    assert plane.last().decision == {"deprecated": "old", "replaced_by": "one", "replaced": False}
    plane.check()


async def test_from_its_end_on_the_replacement_serves_and_shows(plane: Plane) -> None:
    deprecate(plane, NOW_S - 2, NOW_S - 1)
    caller = await plane.call(plain(), model="old")
    assert caller.headers["x-penstock-model"] == "first"
    assert caller.headers["deprecation"]
    event = plane.last()
    assert (event.alias, event.model) == ("one", "first")
    assert event.decision == {"deprecated": "old", "replaced_by": "one", "replaced": True}
    plane.check()


async def test_the_limits_of_both_names_count_the_call_and_each_once(plane: Plane) -> None:
    limits = [
        Limit(name, name, "requests", 10, "day", match=tuple(sorted(match.items())), each=each)
        for name, match, each in (
            ("of-old", {"model": "old"}, None),
            ("of-new", {"model": "one"}, None),
            ("of-all", {}, None),
            ("of-each", {}, "model"),
            ("of-other", {"model": "pair"}, None),
        )
    ]
    deprecate(plane, NOW_S - 2, NOW_S - 1, limits={limit.id: limit for limit in limits})
    await plane.call(plain(), model="old")
    assert plane.settled() == {"of-old": 1, "of-new": 1, "of-all": 1, "of-each": 1}
    charged = {charge.limit: charge.value for charge in plane.last().limits_charged}
    assert charged["of-each"] == "one"


async def test_an_exhausted_limit_on_the_old_name_still_refuses(plane: Plane) -> None:
    limit = Limit("of-old", "of-old", "requests", 1, "day", match=(("model", "old"),))
    deprecate(plane, NOW_S - 2, NOW_S - 1, limits={**LIMITS, "of-old": limit})
    assert (await plane.call(plain(), model="old")).status == 200
    assert (await plane.call(plain(), model="old")).status == 429
    assert (await plane.call(plain(), model="one")).status == 200
    plane.check()


async def test_a_limit_on_the_old_name_may_hand_over_to_another_model(plane: Plane) -> None:
    limit = Limit("of-old", "of-old", "requests", 1, "day", match=(("model", "old"),), downgrade="pair")
    deprecate(plane, NOW_S - 2, NOW_S - 1, limits={**LIMITS, "of-old": limit})
    assert (await plane.call(plain(), model="old")).status == 200
    assert (await plane.call(plain(), model="old")).status == 200
    event = plane.last()
    assert event.alias == "pair"
    assert event.decision["downgrade"] == {"limit": "of-old", "from": "one", "to": "pair"}
    assert event.decision["deprecated"] == "old"
    assert plane.settled()["of-old"] == 1
    plane.check()


async def test_a_model_that_takes_over_may_be_replaced_itself(plane: Plane) -> None:
    limit = Limit("of-pair", "of-pair", "requests", 1, "day", match=(("model", "pair"),), downgrade="old")
    deprecate(plane, NOW_S - 2, NOW_S - 1, limits={**LIMITS, "of-pair": limit})
    assert (await plane.call(plain(), model="pair")).status == 200
    assert (await plane.call(plain(), model="pair")).status == 200
    assert plane.last().alias == "one"
    plane.check()


@pytest.mark.parametrize("model", ["old", "one"])
async def test_a_stop_of_either_name_stops_the_call(plane: Plane, model: str) -> None:
    deprecate(plane, NOW_S - 2, NOW_S - 1, kills={1: Kill(1, {"model": model})})
    caller = await plane.call(plain(), model="old")
    assert caller.headers["x-penstock-error"] == "killed"
    assert not plane.scripts.sent


@pytest.mark.parametrize("model", ["old", "one"])
async def test_a_stop_of_either_name_cuts_a_live_call(plane: Plane, model: str) -> None:
    deprecate(plane, NOW_S - 2, NOW_S - 1)
    stopped = structs.replace(plane.gateway.snapshot, kills={1: Kill(1, {"model": model})})

    def stop() -> None:
        plane.gateway.snapshot = stopped
        assert plane.gateway.cut_killed() == 1

    plane.steps.at = {4: stop}
    caller = await plane.call(streamed(), model="old", stream=True)
    assert b"killed" in caller.body or caller.headers["x-penstock-error"] == "killed"
    assert plane.last().cause == "killed"
    plane.check()
