"""The price book: what counts when, for whom it is published, and what it never forgets."""

from typing import Any

import pytest

from penstock.control import audit, models, prices, providers
from penstock.control.paging import Page
from penstock.domain.money import NANO
from penstock.domain.snapshot import Snapshot, applied
from penstock.errors import ControlError, InvalidNoun

PRICE = {"input": "1.80", "output": 7.2}
SOON = "2026-10-01T00:00:00Z"
SOON_NS = 1_790_812_800 * 10**9
"""The plane's clock stands at 2026-09-21."""


def entry(**more: Any) -> dict[str, Any]:
    return {"provider": "lab", "model": "plain-2025", "price": PRICE, **more}


async def add(plane: Any, *entries: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = await plane.change(prices.add, entries)
    return answer


async def listed(plane: Any) -> list[tuple[int, str]]:
    async with plane.door.read() as conn:
        page = await prices.list_page(conn, Page(), plane.clock.now_ns)
    return [(item["number"], item["state"]) for item in page.items]


def costs(plane: Any, alias: str = "plain") -> tuple[int | None, str]:
    """What a million input tokens cost, in nano-USD, and who says so."""
    card = plane.door.publisher.snapshot.aliases[alias].targets[0].price
    return (card.rates["input"].base, card.version) if card else (None, "")


@pytest.fixture
async def book(plane: Any) -> Any:
    """The plane with an alias without a price of its own."""
    await plane.seed()
    await plane.change(models.create, {"name": "plain", "targets": [{"provider": "lab", "model": "plain-2025"}]})
    plane.changes.clear()
    return plane


async def test_an_entry_counts_from_now_on_and_is_named_on_receipts(book: Any) -> None:
    assert costs(book) == (None, "")
    answer = await add(book, entry(note="contract of 2026"))
    assert answer["unchanged"] == 0
    assert answer["entries"][0]["price"] == {"input": "1.80", "output": "7.2"}
    assert costs(book) == (1_800_000_000, "book:1")
    assert list(book.changes[0].put_aliases) == ["plain"]
    async with book.door.read() as conn:
        audited = (await audit.list_page(conn, Page(), "price")).items
    assert [(row["action"], row["name"], row["actor"]) for row in audited] == [("create", "lab/plain-2025", "tester")]


async def test_the_price_of_an_alias_goes_before_the_book_and_the_book_before_the_catalogue(book: Any) -> None:
    await add(book, entry(model="big-2025"), entry())
    assert costs(book, "big")[1] == "override"
    assert costs(book)[1] == "book:2"
    await add(book, entry(price=None))
    assert costs(book) == (None, "")


async def test_a_price_begins_when_its_time_comes(book: Any) -> None:
    await add(book, entry(), entry(effective_from=SOON, price={"input": 5, "output": 5}))
    assert costs(book)[1] == "book:1"
    assert await listed(book) == [(2, "coming"), (1, "in_force")]
    await book.door.begin_prices()
    assert costs(book)[1] == "book:1"
    book.clock.now_ns = SOON_NS
    book.changes.clear()
    await book.door.begin_prices()
    assert costs(book) == (5 * NANO, "book:2")
    assert len(book.changes) == 1
    await book.door.begin_prices()
    assert len(book.changes) == 1
    assert await listed(book) == [(2, "in_force"), (1, "past")]


async def test_the_entry_that_began_last_counts_and_of_those_together_the_newest(book: Any) -> None:
    early, late = "2026-01-01", "2026-06-01"
    await add(book, entry(effective_from=late, price={"input": 3, "output": 3}))
    await add(book, entry(effective_from=early, price={"input": 1, "output": 1}))
    assert costs(book)[0] == 3 * NANO
    await add(book, entry(effective_from=late, price={"input": 4, "output": 4}))
    assert costs(book) == (4 * NANO, "book:3")


async def test_models_that_no_alias_names_are_asked_for_again(book: Any) -> None:
    assert book.door.publisher.deployment("lab", "undeclared").price is None
    version = book.door.publisher.snapshot.version
    await add(book, entry(model="undeclared"))
    assert book.door.publisher.deployment("lab", "undeclared").price.version == "book:1"
    assert book.door.publisher.snapshot.version == version + 1


async def test_an_update_can_be_made_twice(book: Any) -> None:
    entries = [entry(), entry(effective_from=SOON, price={"input": 5, "output": 5}), entry(model="other", price=None)]
    assert len((await add(book, *entries))["entries"]) == 3
    answer = await add(book, *entries)
    assert (answer["entries"], answer["unchanged"]) == ([], 3)
    assert (await add(book, entry(price={"input": "1.800", "output": "7.20"})))["unchanged"] == 1


async def test_all_entries_are_added_or_none(book: Any) -> None:
    with pytest.raises(InvalidNoun) as caught:
        await add(book, entry(), entry(provider="unheard-of"))
    assert caught.value.place == "entries[1].provider"
    assert await listed(book) == []
    assert costs(book) == (None, "")


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"price": {"input": 1}}, "entries[0].price.output"),
        ({"price": {"input": -1, "output": 1}}, "entries[0].price.input"),
        ({"price": {"input": "1e9999", "output": 1}}, "entries[0].price.input"),
        ({"price": {"input": 1, "output": 1, "image": 1}}, "entries[0].price.image"),
        ({"effective_from": "yesterday"}, "entries[0].effective_from"),
        ({"effective_from": "0001-01-01"}, "entries[0].effective_from"),
        ({"unheard": 1}, "entries[0].unheard"),
        ({"model": "a b"}, "entries[0].model"),
        ({"note": "x" * 501}, "entries[0].note"),
        ({"provider": "p" * 128, "model": "m" * 128}, "entries[0]"),
    ],
)
async def test_bad_entries_are_refused_with_their_place(book: Any, fields: dict[str, Any], place: str) -> None:
    with pytest.raises(ControlError) as caught:
        await add(book, entry(**fields))
    assert caught.value.place == place
    missing = {"provider": "lab", "model": "m"}
    with pytest.raises(InvalidNoun, match="is missing"):
        await add(book, missing)


async def test_a_control_process_that_starts_again_knows_the_book(book: Any) -> None:
    await add(book, entry(), entry(effective_from=SOON, price={"input": 5, "output": 5}))
    await book.door.load()
    assert costs(book)[1] == "book:1"
    book.clock.now_ns = SOON_NS
    await book.door.begin_prices()
    assert costs(book)[1] == "book:2"


async def test_what_was_not_committed_is_not_published_later(book: Any) -> None:
    async def add_and_fail(write: Any) -> None:
        await prices.add(write, [entry()])
        raise InvalidNoun("after all")

    with pytest.raises(InvalidNoun):
        await book.change(add_and_fail)
    await book.door.rehearse("tester", prices.add, [entry()])
    await book.door.refresh()
    await book.change(models.update, "plain", {"max_output": 7})
    assert costs(book) == (None, "")
    assert book.door.publisher.deployment("lab", "plain-2025").price is None


async def test_differences_add_up_to_what_is_published(book: Any) -> None:
    before: Snapshot = book.door.publisher.snapshot
    await add(book, entry())
    for change in book.changes:
        before = applied(before, change)
    assert before == book.door.publisher.snapshot


async def test_what_is_in_effect_is_shown_with_who_says_so(book: Any) -> None:
    await add(book, entry())
    shown = {row["model"]: row for row in prices.effective(book.door.publisher.snapshot)}
    assert shown["plain"]["price"] == {"input": "1.8"}
    assert (shown["plain"]["price_version"], shown["big"]["price_version"]) == ("book:1", "override")
    assert shown["plain"]["target"] == "plain-2025"


async def test_entries_outlive_their_provider(book: Any) -> None:
    await add(book, entry())
    for name in ("plain", "big", "lab/*"):
        await book.change(models.delete, name)
    await book.change(providers.delete, "lab")
    assert await listed(book) == [(1, "in_force")]
