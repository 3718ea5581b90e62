"""The audit log catches up with the break-glass file, whatever happened while it could not be written."""

from typing import Any

from penstock.control import audit, break_glass
from penstock.control.paging import Page

FIRST = {"at": "2026-11-24T01:00:00.000Z", "by": "ana@box", "reason": "a leak"}
OVER = {"at": "2026-11-24T02:00:00.000Z", "by": "ben@box", "reason": "over"}
SECOND = {"at": "2026-11-24T03:00:00.000Z", "by": "ana@box", "reason": "again"}


async def _tell(plane: Any, pulled: Any, last: Any = None, node: str = "box") -> int:
    count: int = await plane.change(break_glass.tell, node, pulled, last)
    return count


async def _rows(plane: Any) -> list[tuple[str, str, Any, Any]]:
    async with plane.door.read() as conn:
        listing = await audit.list_page(conn, Page(), "break_glass")
    items = listing.items[::-1]
    return [(row["name"], row["action"], row["before"], row["after"]) for row in items]


async def test_each_end_is_told_once(plane: Any) -> None:
    assert [await _tell(plane, None), await _tell(plane, FIRST), await _tell(plane, FIRST)] == [0, 1, 0]
    assert [await _tell(plane, None, (FIRST, OVER)), await _tell(plane, None, (FIRST, OVER))] == [1, 0]
    assert await _rows(plane) == [("box", "raise", None, FIRST), ("box", "lift", FIRST, OVER)]


async def test_what_was_pulled_lifted_and_pulled_again_meanwhile_is_told_in_order(plane: Any) -> None:
    assert await _tell(plane, SECOND, (FIRST, OVER)) == 3
    assert await _tell(plane, SECOND, (FIRST, OVER)) == 0
    assert [row[1:] for row in await _rows(plane)] == [
        ("raise", None, FIRST),
        ("lift", FIRST, OVER),
        ("raise", None, SECOND),
    ]


async def test_a_lift_by_hand_is_told_as_one_and_an_old_lift_is_not_told_again(plane: Any) -> None:
    await _tell(plane, None, (FIRST, OVER))
    await _tell(plane, SECOND, (FIRST, OVER))
    assert await _tell(plane, None, (FIRST, OVER)) == 1
    assert await _tell(plane, None, (FIRST, OVER)) == 0
    assert (await _rows(plane))[-1][1:] == ("lift", SECOND, break_glass.BY_HAND)


async def test_each_box_has_a_story_of_its_own(plane: Any) -> None:
    await _tell(plane, FIRST)
    assert await _tell(plane, FIRST, node="other") == 1
    assert await _tell(plane, None, node="third") == 0
