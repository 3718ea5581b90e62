"""A creation that is asked for twice happens once, on both databases."""

from typing import Any

import pytest

from penstock.control import keys, replays, teams
from penstock.control.replays import KEPT_NS, Request
from penstock.control.write import Write
from penstock.errors import Conflict, KeyOfAnother

FIRST = Request("a" * 64, "b" * 64)


async def test_the_same_request_is_answered_alike_and_done_once(plane: Any) -> None:
    first = await plane.change(replays.once, FIRST, teams.create, {"name": "ops"})
    again = await plane.change(replays.once, FIRST, teams.create, {"name": "ops"})
    assert (again.value, again.replayed, first.replayed) == (first.value, True, False)


async def test_another_request_with_the_same_word_is_refused(plane: Any) -> None:
    await plane.change(replays.once, FIRST, teams.create, {"name": "ops"})
    with pytest.raises(KeyOfAnother):
        await plane.change(replays.once, FIRST._replace(content="c" * 64), teams.create, {"name": "dev"})


async def test_the_words_of_one_administrator_are_not_those_of_another(plane: Any) -> None:
    await plane.change(replays.once, FIRST, teams.create, {"name": "ops"})
    with pytest.raises(Conflict):
        await plane.door.change("somebody else", replays.once, FIRST, teams.create, {"name": "ops"})


async def test_after_a_day_a_word_may_be_used_again(plane: Any) -> None:
    await plane.change(replays.once, FIRST, teams.create, {"name": "ops"})
    plane.clock.now_ns += KEPT_NS
    again = await plane.change(replays.once, FIRST._replace(content="c" * 64), teams.create, {"name": "dev"})
    assert again.value["name"] == "dev"
    assert await replays.prune(plane.door.engine, plane.clock.now_ns) == 0
    plane.clock.now_ns += KEPT_NS
    assert await replays.prune(plane.door.engine, plane.clock.now_ns) == 1


async def test_a_secret_is_not_kept(plane: Any) -> None:
    await plane.seed()

    async def create(write: Write, fields: dict[str, Any]) -> dict[str, Any]:
        return await keys.create(write, plane.pepper, fields)

    first = await plane.change(replays.once, FIRST, create, {"name": "bot", "team": "growth"})
    again = await plane.change(replays.once, FIRST, create, {"name": "bot", "team": "growth"})
    assert first.value["secret"]
    assert again.value == {**first.value, "secret": None}
