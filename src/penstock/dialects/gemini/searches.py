"""The searches that ground an answer, as the vendor charges them.

Source: guide "Grounding with Google Search" (pricing; read 2026-11): from Gemini 3 on each query is charged once, and
an empty one is not; of the models before, a prompt that was grounded is charged once, however many queries it took. An
account has some of them free each day or month, of which no answer tells. Searches on maps and in stores have prices of
their own, and are not among these.
"""

from typing import Any

from msgspec import structs

from penstock.dialects.gemini.names import BEFORE_3
from penstock.domain.usage import Usage

MAX_SEARCHES = 10
"""That a call is taken to make. Nothing caps them."""

_MOST_KNOWN = 10_000
"""Queries of one answer that are told apart."""

_QUERIES = ("webSearchQueries", "imageSearchQueries")


class Searches:
    """Those of one answer, which may come in pieces. `model`: as the answer names it. `on_maps`: whether it rests on
    something that was found there."""

    def __init__(self) -> None:
        self.model = ""
        self.on_maps = False
        self._queries: set[int] = set()

    def take(self, grounding: Any) -> None:
        """One more `groundingMetadata`; a piece may tell again what an earlier one told."""
        if not isinstance(grounding, dict):
            return
        for name in _QUERIES if len(self._queries) < _MOST_KNOWN else ():
            self._queries |= {hash(one) for one in _listed(grounding.get(name)) if isinstance(one, str) and one}
        found = _listed(grounding.get("groundingChunks"))
        self.on_maps = self.on_maps or any(isinstance(one, dict) and "maps" in one for one in found)

    def within(self, usage: Usage) -> Usage:
        """The usage with what is charged of them."""
        count = len(self._queries)
        return usage if not count else structs.replace(usage, web_searches=charged(self.model, count))


def _listed(told: Any) -> list[Any]:
    return told if isinstance(told, list) else []


def charged(model: str, queries: int) -> int:
    """How many searches so many queries of this model are charged as."""
    return min(queries, 1) if BEFORE_3.match(model) else queries
