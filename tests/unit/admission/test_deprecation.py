"""An alias on its way out: nothing, then a word to its callers, then its replacement."""

import pytest

from penstock.admission.deprecation import MAX_STEPS, decision, follow, headers
from penstock.domain.exchange import Deprecation
from penstock.domain.snapshot import Alias, Snapshot

WARN, END = 1_000.0, 2_000.0


def snapshot(*aliases: Alias) -> Snapshot:
    return Snapshot(aliases={alias.name: alias for alias in (*aliases, Alias("new"))})


@pytest.mark.parametrize(
    ("now_s", "serving", "told"),
    [
        (999.9, "old", None),
        (1_000.0, "old", Deprecation("old", "new", WARN, END, False)),
        (1_999.9, "old", Deprecation("old", "new", WARN, END, False)),
        (2_000.0, "new", Deprecation("old", "new", WARN, END, True)),
    ],
)
def test_callers_are_told_from_one_moment_on_and_served_by_the_other_from_the_next(
    now_s: float, serving: str, told: Deprecation | None
) -> None:
    old = Alias("old", replaced_by="new", warn_at=WARN, end_at=END)
    found, deprecation = follow(snapshot(old), old, now_s)
    assert (found.name, deprecation) == (serving, told)


def test_a_replacement_that_is_replaced_itself_is_followed_to_where_it_ends() -> None:
    oldest = Alias("oldest", replaced_by="old", warn_at=0.0, end_at=WARN)
    old = Alias("old", replaced_by="new", warn_at=WARN, end_at=END)
    assert follow(snapshot(oldest, old), oldest, 1_500.0)[0].name == "old"
    serving, deprecation = follow(snapshot(oldest, old), oldest, END)
    assert serving.name == "new"
    assert deprecation == Deprecation("oldest", "new", 0.0, WARN, True)


def test_a_circle_ends() -> None:
    one = Alias("one", replaced_by="two", warn_at=0.0, end_at=0.0)
    two = Alias("two", replaced_by="one", warn_at=0.0, end_at=0.0)
    assert MAX_STEPS % 2 == 0
    assert follow(snapshot(one, two), one, 1.0)[0].name == "one"


def test_what_is_not_replaced_after_all_serves_on() -> None:
    old = Alias("old", replaced_by="unheard-of", warn_at=WARN, end_at=END)
    assert follow(snapshot(old), old, END)[0] is old


def test_the_headers_are_those_of_the_standards() -> None:
    told = Deprecation("old", "new", 1_688_169_599.5, 1_767_225_599.0, False)
    assert headers(told) == [
        (b"deprecation", b"@1688169599"),
        (b"x-penstock-replaced-by", b"new"),
        (b"sunset", b"Wed, 31 Dec 2025 23:59:59 GMT"),
    ]
    assert headers(Deprecation("old", "new", 1.0, None, False)) == [
        (b"deprecation", b"@1"),
        (b"x-penstock-replaced-by", b"new"),
    ]
    assert decision(told) == {"deprecated": "old", "replaced_by": "new", "replaced": False}
