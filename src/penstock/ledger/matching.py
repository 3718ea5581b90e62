"""Matching: which limits count a call.

The index files every limit under one pair of its `match`, the one that the fewest limits share, so that a call looks
only at limits that name its own key, team or customer, however many there are for others. What was found is kept for
the calls that are alike in all that limits look at: they get the same tuple.
"""

from collections import Counter
from collections.abc import Mapping

from penstock.domain.policy import Limit

MAX_KEPT = 1_000
"""For how many kinds of calls is kept what was found."""


class Index:
    """The limits of one snapshot. Built in one pass; they never change."""

    def __init__(self, limits: Mapping[str, Limit]) -> None:
        shared = Counter(pair for limit in limits.values() for pair in limit.match)
        self._everywhere: list[Limit] = []
        self._by_dimension: dict[str, dict[str, list[Limit]]] = {}
        for limit in limits.values():
            if limit.match:
                dimension, value = min(limit.match, key=lambda pair: shared[pair])
                self._by_dimension.setdefault(dimension, {}).setdefault(value, []).append(limit)
            else:
                self._everywhere.append(limit)
        self._tables = tuple(self._by_dimension.items())
        each = {limit.each for limit in limits.values() if limit.each is not None}
        self._dimensions = sorted(each.union(dimension for dimension, _ in shared))
        self._kept: dict[tuple[str | None, ...], tuple[Limit, ...]] = {}

    def applying(self, dims: Mapping[str, str]) -> tuple[Limit, ...]:
        """The limits whose `match` pairs all hold and whose `each` dimension the call has. An empty value is none."""
        alike = tuple(map(dims.get, self._dimensions))
        found = self._kept.get(alike)
        if found is None:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            found = self._kept[alike] = self._find(dims)
        return found

    def _find(self, dims: Mapping[str, str]) -> tuple[Limit, ...]:
        found = [limit for limit in self._everywhere if limit.each is None or dims.get(limit.each)]
        for dimension, table in self._tables:
            value = dims.get(dimension)
            if value is None or value not in table:
                continue
            for limit in table[value]:
                if (len(limit.match) == 1 or _holds(limit, dims)) and (limit.each is None or dims.get(limit.each)):
                    found.append(limit)
        return tuple(found)


def _holds(limit: Limit, dims: Mapping[str, str]) -> bool:
    return all(dims.get(dimension) == value for dimension, value in limit.match)


class Matching:
    """Keeps the index of the limits in force: snapshots share the table until a limit changes."""

    def __init__(self) -> None:
        self.learn({})

    def knows(self, limits: Mapping[str, Limit]) -> bool:
        return limits is self._limits

    def learn(self, limits: Mapping[str, Limit]) -> None:
        """`limits` must not change afterwards: a change is another dict."""
        self._limits = limits
        self._index = Index(limits)

    def applying(self, dims: Mapping[str, str]) -> tuple[Limit, ...]:
        return self._index.applying(dims)
