"""Cursor pages: a listing goes on where the last one ended, whatever was created or deleted in between."""

from typing import Any

from msgspec import Struct

from penstock.errors import InvalidNoun

MAX_PAGE = 500


class Page(Struct, frozen=True):
    """What is asked for: up to `limit` items (1 to 500) after the cursor `after` (from `Listing.next`)."""

    limit: int = 100
    after: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MAX_PAGE:
            raise InvalidNoun(f"a page has 1 to {MAX_PAGE} items", "limit")


class Listing(Struct, frozen=True):
    """`next`: the cursor of the following page, or None at the end."""

    items: list[dict[str, Any]]
    next: str | None = None


def cut(rows: list[dict[str, Any]], page: Page, by: str) -> Listing:
    """The listing of `rows`, of which one more than `page.limit` was read; the cursor is the last item's `by`."""
    if len(rows) <= page.limit:
        return Listing(rows)
    return Listing(rows[: page.limit], str(rows[page.limit - 1][by]))


def position(cursor: str) -> int:
    """The number in the cursor of a listing that is ordered by one."""
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise InvalidNoun("this is not a cursor of this listing", "after")
    return int(cursor)
