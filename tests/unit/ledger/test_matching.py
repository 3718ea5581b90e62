"""The index finds the limits that count a call: the same ones that looking at each of them finds."""

import time

from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.policy import Limit
from penstock.ledger.matching import Index, Matching

DIMENSIONS = ("team", "key", "customer", "tag:feature")
VALUES = st.sampled_from(["", "a", "b", "c"])


def limit(id: str, match: dict[str, str] | None = None, each: str | None = None) -> Limit:
    return Limit(id, id, "usd", 1, match=tuple(sorted((match or {}).items())), each=each)


def table(*limits: Limit) -> dict[str, Limit]:
    return {one.id: one for one in limits}


def test_every_pair_of_a_match_must_hold() -> None:
    index = Index(table(limit("both", {"team": "growth", "key": "ci"}), limit("team", {"team": "growth"})))
    assert {one.id for one in index.applying({"team": "growth", "key": "ci"})} == {"both", "team"}
    assert {one.id for one in index.applying({"team": "growth", "key": "web"})} == {"team"}
    assert index.applying({"team": "sales", "key": "ci"}) == ()


def test_an_empty_match_counts_every_call() -> None:
    assert [one.id for one in Index(table(limit("all"))).applying({})] == ["all"]


def test_each_needs_its_dimension_and_an_empty_value_is_none() -> None:
    index = Index(table(limit("each", {"team": "growth"}, "customer"), limit("everywhere", each="customer")))
    assert {one.id for one in index.applying({"team": "growth", "customer": "acme"})} == {"each", "everywhere"}
    assert index.applying({"team": "growth", "customer": ""}) == ()
    assert index.applying({"team": "growth"}) == ()


@given(
    matches=st.lists(
        st.tuples(st.dictionaries(st.sampled_from(DIMENSIONS), VALUES), st.none() | st.sampled_from(DIMENSIONS)),
        max_size=12,
    ),
    dims=st.dictionaries(st.sampled_from(DIMENSIONS), VALUES),
)
def test_the_index_finds_what_looking_at_every_limit_finds(
    matches: list[tuple[dict[str, str], str | None]], dims: dict[str, str]
) -> None:
    limits = table(*[limit(str(n), match, each) for n, (match, each) in enumerate(matches)])
    expected = {
        one.id
        for one in limits.values()
        if all(dims.get(name) == value for name, value in one.match) and (one.each is None or dims.get(one.each))
    }
    found = Index(limits).applying(dims)
    assert {one.id for one in found} == expected
    assert len(found) == len(expected)


def test_thousands_of_limits_for_others_cost_nothing() -> None:
    def cost_s(others: int) -> float:
        index = Index(table(*[limit(str(n), {"key": f"k{n}", "team": "growth"}) for n in range(others)]))
        dims = {"key": "k3", "team": "growth", "customer": "acme"}
        best = 1.0
        for _ in range(20):
            begun = time.perf_counter()
            for _ in range(100):
                index.applying(dims)
            best = min(best, time.perf_counter() - begun)
        return best

    assert cost_s(20_000) < 10 * cost_s(10)


def test_a_table_is_known_by_identity_so_that_a_change_is_never_missed() -> None:
    matching, first = Matching(), table(limit("a"))
    assert not matching.knows(first)
    matching.learn(first)
    assert matching.knows(first)
    assert not matching.knows(dict(first))
