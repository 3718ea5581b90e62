"""Verification: whether the ledger in the database agrees with itself. Reads one snapshot and changes nothing.

What is checked of the invariants:

    I1  amounts are whole numbers and none is negative. (Whether settled and held ever passed a limit's amount cannot be
        seen afterwards, since amounts change and a provider may bill more than it was bound to; the worker sees to it.)
        What is leased beyond that is seen, with the rest that must be true of leases, by `lease_checks`.
    I2  what is settled on each balance is the sum of its entries, and of those that were carried forward. Shares are
        overwritten and have no entries to sum.
    I3  an attempt has at most one hold and one resolution.
    I4  whatever is resolved was held before, on the same balances; whatever is held and not resolved is an open hold.
        An extension is of a hold, raises it on its balances, and may add balances of later windows.
    I5  an adjustment has an actor.

and that no journal had damaged places and no finished journal left a hold open.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import groupby
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Engine

from penstock.domain.money import MAX_NANOUSD
from penstock.domain.policy import BalanceKey, Charge
from penstock.ledger.batch import HOLD, RESOLUTION, decode_charges
from penstock.ledger.faults import Fault, Names
from penstock.ledger.lease_checks import LeaseChecks
from penstock.ledger.postings import run
from penstock.ledger.windows import SHORT
from penstock.store.engine import reading

_ENTRIES = "SELECT attempt_id, step, kind, epoch, charges, actor FROM entries ORDER BY attempt_id, step"
_BALANCES = "SELECT limit_id, window_start, value, per, settled FROM balances"
_CARRIED = "SELECT limit_id, window_start, value, per, epoch, settled, exceeded FROM carried"
_SHARES = "SELECT limit_id, value, settled FROM shares"
_OPEN_HOLDS = """
    SELECT open_holds.attempt_id, journals.state FROM open_holds
    LEFT JOIN journals ON journals.epoch = open_holds.epoch ORDER BY open_holds.attempt_id"""
_DAMAGED = "SELECT epoch, damages FROM journals WHERE damages > 0 ORDER BY epoch"
_HOLDS = ("hold", "extension")
_RESOLUTIONS = ("post", "estimate", "void")
_T = TypeVar("_T")


BATCH_ATTEMPTS = 500
REST_S = 0.005
"""After each batch the thread that verifies rests, so that the process it runs in goes on with its work."""


class Checked(Struct, frozen=True):
    """What a look at the ledger found. `complete`: it came to the end of the ledger within its time."""

    faults: list[Fault]
    complete: bool


async def verify(engine: Engine) -> list[Fault]:
    """Every fault of the ledger behind a committer's engine; empty when it is good."""
    return (await asyncio.to_thread(check, engine, None)).faults


def check(engine: Engine, within_s: float | None) -> Checked:
    """The faults found within that time (None: however long it takes). Blocks; call it from a thread."""
    ends_at = None if within_s is None else time.monotonic() + within_s
    faults: list[Fault] = []
    with reading(engine).connect().execution_options(yield_per=1_000) as connection, connection.begin():
        try:
            for fault in _faults(connection, ends_at):
                faults.append(fault)
        except TimeoutError:
            return Checked(faults, complete=False)
    return Checked(faults, complete=True)


def _faults(connection: Connection, ends_at: float | None) -> Iterator[Fault]:
    sums: defaultdict[BalanceKey, int] = defaultdict(int)
    names = Names(connection)
    leased = LeaseChecks(connection, names)
    open_holds: dict[str, str | None] = {row[0]: row[1] for row in run(connection, _OPEN_HOLDS)}
    yield from _stray_hold_faults(open_holds)
    yield from _carried_faults(connection, sums, leased, names)
    # Closed here also where the time is up: on PostgreSQL the cursor is the server's.
    with closing(run(connection, _ENTRIES)) as rows:
        attempts = groupby(rows, key=lambda row: row[0])
        yield from _entry_faults(_paced(attempts, ends_at), sums, open_holds, leased)
    yield from _balance_faults(connection, sums, names)
    yield from leased.faults()
    yield from _damage_faults(connection)


def _paced(attempts: Iterable[_T], ends_at: float | None) -> Iterator[_T]:
    """The same, with rests in between. Raises TimeoutError when the monotonic clock is past `ends_at`."""
    for count, attempt in enumerate(attempts, 1):
        yield attempt
        if count % BATCH_ATTEMPTS == 0:
            if ends_at is not None and time.monotonic() > ends_at:
                raise TimeoutError
            time.sleep(REST_S)


def _entry_faults(
    entries: Iterable[tuple[str, Iterable[Any]]],
    sums: defaultdict[BalanceKey, int],
    open_holds: dict[str, str | None],
    leased: LeaseChecks,
) -> Iterator[Fault]:
    """Attempt by attempt; sums up what was posted."""
    for attempt, rows in entries:
        held: tuple[Charge, ...] | None = None
        resolved = False
        # What resolves an attempt is written last, though its step comes before those of the extensions.
        for _, step, kind, epoch, blob, actor in sorted(rows, key=lambda row: (row[1] == RESOLUTION, row[1])):
            try:
                charges = tuple(decode_charges(blob))
            except (msgspec.DecodeError, ValueError):
                yield Fault("entry_unreadable", f"step {step} of attempt {attempt} holds no charges")
                continue
            yield from _step_faults(attempt, step, kind, actor)
            if kind == "hold":
                held = charges
            elif kind == "extension":
                yield from _extension_faults(attempt, held, charges)
                held = charges if held is not None else None
            elif kind in _RESOLUTIONS:
                resolved = True
                yield from _resolution_faults(attempt, held, kind, charges)
            if kind != "adjustment" and any(charge.amount < 0 for charge in charges):
                yield Fault("negative_amount", f"the {kind} of attempt {attempt} has a negative amount")
            if kind not in _HOLDS:
                leased.see(epoch, held, charges)
                for charge in charges:
                    sums[(charge.limit, charge.window_start, charge.value, charge.per)] += charge.amount
        is_open = attempt in open_holds
        if resolved and is_open:
            yield Fault("hold_left_open", f"attempt {attempt} is resolved and its hold is still open")
        if held is not None and not resolved and not is_open:
            yield Fault("hold_lost", f"attempt {attempt} is not resolved and its hold is not among the open ones")
        if held is not None:
            open_holds.pop(attempt, None)
    for attempt in open_holds:
        yield Fault("open_hold_without_entry", f"attempt {attempt} has an open hold that is not in the ledger")


def _step_faults(attempt: str, step: int, kind: str, actor: str | None) -> Iterator[Fault]:
    expected = ("hold",) if step == HOLD else _RESOLUTIONS if step == RESOLUTION else ("extension", "adjustment")
    if kind not in expected:
        yield Fault("step_mismatch", f"step {step} of attempt {attempt} is a {kind}")
    if kind == "adjustment" and not actor:
        yield Fault("adjustment_without_actor", f"the adjustment of attempt {attempt} does not say who made it")


def _extension_faults(attempt: str, held: tuple[Charge, ...] | None, charges: tuple[Charge, ...]) -> Iterator[Fault]:
    if held is None:
        yield Fault("extended_without_hold", f"attempt {attempt} has an extension and no hold before it")
    elif [_place(charge) for charge in held] != [_place(charge) for charge in charges[: len(held)]]:
        yield Fault("balances_differ", f"an extension of attempt {attempt} is not on the balances of its hold")
    elif any(charge.amount < before.amount for charge, before in zip(charges, held, strict=False)):
        yield Fault("extension_shrinks", f"an extension of attempt {attempt} holds less than was held before it")


def _resolution_faults(
    attempt: str, held: tuple[Charge, ...] | None, kind: str, charges: tuple[Charge, ...]
) -> Iterator[Fault]:
    if held is None:
        yield Fault("resolved_without_hold", f"attempt {attempt} has a {kind} and no hold before it")
    elif kind != "void" and [_place(charge) for charge in held] != [_place(charge) for charge in charges]:
        yield Fault("balances_differ", f"the {kind} of attempt {attempt} is not on the balances of its hold")


def _place(charge: Charge) -> BalanceKey:
    return charge.limit, charge.window_start, charge.value, charge.per


def _stray_hold_faults(open_holds: dict[str, str | None]) -> Iterator[Fault]:
    for attempt, state in open_holds.items():
        if state not in {"open", "lost"}:
            yield Fault("hold_stranded", f"attempt {attempt} has an open hold and its journal is finished")


def _carried_faults(
    connection: Connection, sums: defaultdict[BalanceKey, int], leased: LeaseChecks, names: Names
) -> Iterator[Fault]:
    """What old entries came to; sums it up."""
    for limit, start, value, per, epoch, settled, exceeded in run(connection, _CARRIED):
        if type(settled) is not int or settled < 0:
            yield Fault("carried_damaged", f"{names.of(limit, start, value)}: {settled} was carried of epoch {epoch}")
            continue
        sums[(limit, start, value, per)] += settled
        leased.carry(epoch, Charge(limit, start, value, settled, per), exceeded=bool(exceeded))


def _balance_faults(connection: Connection, sums: defaultdict[BalanceKey, int], names: Names) -> Iterator[Fault]:
    for limit, start, value, per, settled in run(connection, _BALANCES):
        expected = min(sums.pop((limit, start, value, per), 0), MAX_NANOUSD)
        if type(settled) is not int or settled != expected:
            yield Fault(
                "balance_differs", f"{names.of(limit, start, value)}: settled {settled}, its entries say {expected}"
            )
    for (limit, start, value, per), expected in sorted(sums.items()):
        if expected and per not in SHORT:
            yield Fault("balance_missing", f"{names.of(limit, start, value)}: no balance, its entries say {expected}")
    for limit, value, settled in run(connection, _SHARES):
        if type(settled) is not int or settled < 0:
            yield Fault("share_damaged", f"{names.of(limit, 0, value)}: settled {settled}")


def _damage_faults(connection: Connection) -> Iterator[Fault]:
    for epoch, damages in run(connection, _DAMAGED):
        yield Fault(
            "journal_damaged", f"journal {epoch} could not be read in {damages} places, or repeated itself there"
        )
