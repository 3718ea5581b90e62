"""The table: a mapping of which a changed copy shares nearly everything with the one before."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.table import SHARDS, Gathering, Table, table_of

NAMES = st.text(max_size=3)
ENTRIES = st.dictionaries(NAMES, st.integers(), max_size=30)


@given(ENTRIES, ENTRIES, st.lists(NAMES, max_size=10))
def test_a_changed_copy_is_what_a_dictionary_would_be_and_the_first_stays(
    first: dict[str, int], put: dict[str, int], drop: list[str]
) -> None:
    table = Table(first)
    changed = table.changed(put, drop)
    expected = {name: value for name, value in first.items() if name not in drop} | put
    assert changed == expected and dict(changed) == expected and len(changed) == len(expected)
    assert table == first
    for name in {*first, *put, *drop}:
        assert changed.get(name) == expected.get(name)
        assert (name in changed) == (name in expected)


@given(st.lists(ENTRIES, max_size=5))
def test_what_is_gathered_in_portions_is_one_table(portions: list[dict[str, int]]) -> None:
    gathering, expected = Gathering[int](), {}
    for portion in portions:
        gathering.add(portion)
        expected |= portion
    assert gathering.table() == expected


def test_a_change_copies_the_shards_of_what_it_names_and_no_others() -> None:
    table = Table({f"key-{number}": number for number in range(20_000)})
    changed = table.changed({"key-7": -7, "one-more": 1}, ["key-9", "unknown"])
    shared = sum(ours is theirs for ours, theirs in zip(table._shards, changed._shards, strict=True))
    assert SHARDS - 3 <= shared < SHARDS
    assert max(map(len, changed._shards)) < 20_000 / SHARDS * 3, "the entries are spread over the shards"


def test_a_name_that_is_not_there_is_a_key_error_or_the_default() -> None:
    table = Table({"a": 1})
    assert table.get("b") is None and table.get("b", 2) == 2
    try:
        table["b"]
    except KeyError:
        return
    raise AssertionError("an unknown name was found")


def test_what_is_a_table_is_taken_as_it_is() -> None:
    table = Table({"a": 1})
    assert table_of(table) is table and table_of({"a": 1}) == table
