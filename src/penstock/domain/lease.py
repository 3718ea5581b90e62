"""Leases: slices of balances that a worker may spend without asking, and how it asks for them.

A slice of a window of an hour or longer is spent once: what is settled from it is gone. A *share*, of a shorter window
or of concurrency, stands: it is there again when the window turns or the calls end. A sliding window of an hour or more
is leased as one place, whatever the bucket.

Only strict and metered limits are leased. The worker keeps one request under way at a time and says it again, with the
same number, until it is answered; so each is obeyed once.
"""

from typing import NamedTuple

from msgspec import Struct

from penstock.domain.policy import Span


class Place(NamedTuple):
    """What a slice is of. `window_start`: Unix seconds; 0 for a share and for a sliding window, which have no one
    window. `value`: of the limit's `each`, empty without one."""

    limit: str
    window_start: int
    value: str
    per: Span


class Want(Struct, frozen=True, array_like=True):
    """What a worker lacks at one place for the calls that wait there: `total` for all of them, `least` for the one that
    asks for the least, which is `asked` in all. `at_s`: the worker's clock, Unix seconds."""

    place: Place
    total: int
    least: int
    at_s: int
    asked: int = 0


class Given(Struct, frozen=True, array_like=True):
    """What a worker gives back of a place. `since`, of a share: the start of the window, or of the sliding window's
    bucket, in which it gives it back; nobody may use it in an earlier one."""

    place: Place
    amount: int
    since: int = 0


class Granted(Struct, frozen=True, array_like=True):
    """The answer to one want. `amount`: what the worker has more now, 0 for nothing. `settled`: in the window, as far
    as the store knows; `leased`: what all workers have of the place and have not spent, the asker's part and `amount`
    included. `since`, of a share: in which window of the worker's own it may use it first. `fits_at_s`, of a sliding
    window: when so much of what is settled has left it that the least of what was asked would fit beside the rest; 0
    where that bars nothing, or waiting cannot help."""

    amount: int
    settled: int
    leased: int
    since: int = 0
    fits_at_s: int = 0
