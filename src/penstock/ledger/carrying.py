"""Carrying forward: entries that are old enough become one sum per balance, so that the ledger does not grow for ever.

What is settled on a balance stays the sum of its entries, of which the older ones stand in `carried`. A balance of a
window that was over before the oldest entry that is kept goes altogether. Adjustments stay: they are few, and say who
moved what and why. So does whatever is not in order, for `verify` to find.
"""

from collections import defaultdict
from itertools import groupby
from typing import Any

import msgspec
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.domain.money import MAX_NANOUSD
from penstock.domain.policy import BalanceKey, Charge, Span
from penstock.ledger.batch import RESOLUTION, decode_charges
from penstock.ledger.postings import run, run_many
from penstock.ledger.windows import SHORT, SPANS, oldest_open

AT_ONCE = 500
"""How many attempts, or balances, go in one transaction: commits must not wait for long."""
_DAY_S = 86_400
_LATE_S = 2 * _DAY_S
"""How long after its window a balance may get its last entry, at most: calls end, and clocks differ."""
_LOCK_KEY = 7_305_611_970_447_111
_LOCK = "SELECT pg_advisory_xact_lock(?)"

_DUE = """
    SELECT attempt_id FROM entries AS held WHERE attempt_id >= 'req_' AND attempt_id < ? AND step = 0 AND at < ?
    AND EXISTS (SELECT 1 FROM entries WHERE attempt_id = held.attempt_id AND step = 1)
    AND NOT EXISTS (SELECT 1 FROM open_holds WHERE attempt_id = held.attempt_id)
    AND attempt_id > ? ORDER BY attempt_id LIMIT ?"""
_ENTRIES = (
    "SELECT attempt_id, step, kind, epoch, charges FROM entries WHERE attempt_id IN ({}) ORDER BY attempt_id, step"
)
_DROP = "DELETE FROM entries WHERE attempt_id = ?"
_CARRY = """
    INSERT INTO carried (limit_id, window_start, value, per, epoch, settled, exceeded) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (limit_id, value, window_start, epoch) DO UPDATE SET
        settled = CASE WHEN carried.settled > 9223372036854775807 - excluded.settled THEN 9223372036854775807
                       ELSE carried.settled + excluded.settled END,
        exceeded = CASE WHEN carried.exceeded > excluded.exceeded THEN carried.exceeded ELSE excluded.exceeded END"""
_ADJUSTED = "SELECT charges FROM entries WHERE kind = 'adjustment' AND attempt_id < 'req_'"
_OVER = """
    SELECT limit_id, window_start, value FROM balances WHERE per = ? AND window_start < ?
    ORDER BY window_start, limit_id, value LIMIT ? OFFSET ?"""
_DROP_OVER = "DELETE FROM {} WHERE limit_id = ? AND window_start = ? AND value = ?"


async def carry_forward(engine: AsyncEngine, now_ns: int, days: int) -> int:
    """Carries forward what calls entered more than `days` ago, and forgets the balances of windows that were over
    then; how many attempts there were. One box at a time, a little in each transaction."""
    before_s = now_ns // 10**9 - days * _DAY_S
    carried, last = 0, ""
    while True:
        async with engine.begin() as conn:
            count, last = await conn.run_sync(_carry_some, before_s, last)
        carried += count
        if not last:
            break
    for span in SPANS:
        if span in SHORT or span == "total":
            continue
        kept, is_more = 0, True
        while is_more:
            async with engine.begin() as conn:
                kept, is_more = await conn.run_sync(_drop_over, span, oldest_open(span, before_s - _LATE_S), kept)
    return carried


def _carry_some(connection: Connection, before_s: int, after: str) -> tuple[int, str]:
    """How many attempts were carried, and the last one looked at, after which to go on; empty at the end."""
    if connection.dialect.name == "postgresql":
        run(connection, _LOCK, (_LOCK_KEY,))
    # Calls are named by when they came, in milliseconds: the oldest are first in the order of the key.
    bound = f"req_{before_s * 1_000:011x}"
    due = [row[0] for row in run(connection, _DUE, (bound, before_s * 10**9, after, AT_ONCE))]
    if not due:
        return 0, ""
    sums: defaultdict[tuple[BalanceKey, int], int] = defaultdict(int)
    exceeded: set[tuple[BalanceKey, int]] = set()
    sound = []
    rows = run(connection, _ENTRIES.format(", ".join("?" * len(due))), due).all()
    for attempt, steps in groupby(rows, key=lambda row: row[0]):
        settled = _settled(list(steps))
        if settled is None:
            continue
        sound.append(attempt)
        for place, epoch, amount, is_over in settled:
            sums[place, epoch] += amount
            if is_over:
                exceeded.add((place, epoch))
    if sound:
        run_many(connection, _DROP, [(attempt,) for attempt in sound])
    if sums:
        carried = sorted(
            (*place, epoch, min(sum_, MAX_NANOUSD), int((place, epoch) in exceeded))
            for (place, epoch), sum_ in sums.items()
        )
        run_many(connection, _CARRY, carried)
    return len(sound), due[-1] if len(due) == AT_ONCE else ""


def _settled(steps: list[Any]) -> "list[tuple[BalanceKey, int, int, bool]] | None":
    """What an attempt settled: balance, epoch, amount, and whether that was more than it held. None where its entries
    are not in order."""
    try:
        charges = {step: tuple(decode_charges(blob)) for _, step, _, _, blob in steps}
    except (msgspec.DecodeError, ValueError):
        return None
    resolution = next((row for row in steps if row[1] == RESOLUTION), None)
    if resolution is None or any(charge.amount < 0 for each in charges.values() for charge in each):
        return None
    held = charges[max((step for step in charges if step != RESOLUTION), default=RESOLUTION)]
    posted = charges[RESOLUTION]
    if resolution[2] != "void" and [_place(each) for each in held] != [_place(each) for each in posted]:
        return None
    return [
        (_place(each), resolution[3], each.amount, each.amount > bound.amount)
        for each, bound in zip(posted, held, strict=False)
        if each.per not in SHORT
    ]


def _place(charge: Charge) -> BalanceKey:
    return charge.limit, charge.window_start, charge.value, charge.per


def _drop_over(connection: Connection, span: Span, before_s: int, kept: int) -> tuple[int, bool]:
    """Forgets some balances of windows that began before `before_s`, but for those that were adjusted: how many of
    these there are so far, and whether there may be more."""
    adjusted = {
        (charge.limit, charge.window_start, charge.value)
        for (blob,) in run(connection, _ADJUSTED)
        for charge in decode_charges(blob)
    }
    rows = [tuple(row) for row in run(connection, _OVER, (span, before_s, AT_ONCE, kept))]
    gone = [row for row in rows if row not in adjusted]
    if gone:
        run_many(connection, _DROP_OVER.format("balances"), gone)
        run_many(connection, _DROP_OVER.format("carried"), gone)
    return kept + len(rows) - len(gone), len(rows) == AT_ONCE
