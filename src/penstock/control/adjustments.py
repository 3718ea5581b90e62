"""Adjustments: a person corrects what a limit has settled, with a reason.

What was posted is never changed. An adjustment is one more entry on one balance, with who made it and why; the balance
moves by its amount and never below zero.
"""

from typing import Any

from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.config import values
from penstock.control import audit, limits, nouns
from penstock.control.paging import Listing, Page, cut, position
from penstock.control.tenancy import tenant_of, visible
from penstock.control.write import Write
from penstock.domain.access import EVERYTHING, Reach
from penstock.domain.money import MAX_NANOUSD, usd
from penstock.domain.policy import Charge, Limit
from penstock.errors import InvalidNoun
from penstock.ledger import adjustments
from penstock.ledger.adjustments import Adjustment
from penstock.ledger.windows import SHORT, window
from penstock.records.receipts import rfc3339

MAX_VALUE = 256
NS_PER_S = 1_000_000_000


class Correction(Struct, frozen=True):
    """What is asked for. `limit`: name or id. `amount`: in dollars for `usd`, else a whole number; below 0 it gives
    back. `value`: of the limit's `each`. `at`: a moment of the window meant, in Unix nanoseconds; None: now."""

    limit: str
    amount: Any
    reason: str
    value: str = ""
    at: int | None = None


async def adjust(write: Write, asked: Correction) -> tuple[Adjustment, dict[str, Any]]:
    """The adjustment, for those who hold balances in memory, and its public form with the balance before and after.

    Raises NotFoundNoun for an unknown limit, InvalidNoun for what the balance cannot bear.
    """
    row = await limits.fetch_adjustable(write, asked.limit)
    limit = limits.domain_limit(row, write.at)
    place = _place(limit, asked, write.at)
    amount = _amount(limit, asked.amount)
    before = await adjustments.settled(write.conn, place)
    if before + amount < 0:
        raise InvalidNoun(f"only {_shown_amount(limit, before)} is settled on this balance", "amount")
    if before + amount >= MAX_NANOUSD:
        raise InvalidNoun("is more than a balance can hold", "amount")
    charge = Charge(place.limit, place.window_start, place.value, amount, place.per)
    number = await write.conn.run_sync(adjustments.newest) + 1
    made = Adjustment(number, write.at, charge, nouns.checked_reason(asked.reason), write.actor)
    await adjustments.write(write.conn, made)
    pictures = ({"settled": before}, {**_shown(made, limit), "settled": before + amount})
    tenant = await tenant_of(write.conn, "limit", row)
    await audit.record(write, "adjust", audit.About("adjustment", made.id, tenant), *pictures)
    return made, {**_shown(made, limit), "settled_before": before, "settled": before + amount}


async def list_page(conn: AsyncConnection, page: Page, reach: Reach = EVERYTHING) -> Listing:
    """The newest first, of limits within `reach`. A page may have fewer with more to follow."""
    number = None if page.after is None else position(page.after)
    found = await adjustments.before(conn, number, page.limit + 1)
    if not reach.everything:
        own = set((await conn.execute(select(limits.LIMIT.table.c.id).where(visible("limit", reach)))).scalars())
        following = str(found[page.limit - 1].number) if len(found) > page.limit else None
        found = [made for made in found[: page.limit] if made.charge.limit in own]
    known: dict[str, Limit | None] = {}
    for made in found:
        if made.charge.limit not in known:
            row = await nouns.find(conn, limits.LIMIT, made.charge.limit)
            known[made.charge.limit] = None if row is None else limits.domain_limit(row, made.at)
    shown = [_shown(made, known[made.charge.limit]) for made in found]
    return cut(shown, page, "number") if reach.everything else Listing(shown, following)


def _place(limit: Limit, asked: Correction, now: int) -> Charge:
    """The balance that is meant, with nothing on it yet."""
    if limit.unit == "concurrent" or limit.per in SHORT:
        kind = "concurrent calls" if limit.unit == "concurrent" else f"a {limit.per}"
        raise InvalidNoun(f"a limit on {kind} keeps no balance that could be adjusted", "limit")
    if limit.window == "sliding":
        raise InvalidNoun(
            "a limit on a sliding window cannot be adjusted: what it counted leaves it by itself", "limit"
        )
    if limit.each is None and asked.value:
        raise InvalidNoun(f"limit {limit.name!r} has one balance, not one for each value", "value")
    if limit.each is not None and not (0 < len(asked.value) <= MAX_VALUE and asked.value.isprintable()):
        raise InvalidNoun(f"limit {limit.name!r} has a balance for each {limit.each}: name one", "value")
    at = now if asked.at is None else asked.at
    if at > now and limit.per != "total":
        raise InvalidNoun("this window has not begun", "window_start")
    return Charge(limit.id, window(limit.per, at // NS_PER_S, limit.timezone)[0], asked.value, 0, limit.per)


def _amount(limit: Limit, written: Any) -> int:
    try:
        exact = values.number(nouns.exact(written, "amount"))
        amount = values.nanousd(exact) if limit.unit == "usd" else int(exact)
    except ValueError as error:
        raise InvalidNoun(str(error), "amount") from None
    if limit.unit != "usd" and amount != exact:
        raise InvalidNoun("must be a whole number; only limits in usd have fractions", "amount")
    if not 0 < abs(amount) < MAX_NANOUSD:
        raise InvalidNoun("must be an amount above or below 0 that a balance can hold", "amount")
    return amount


def _shown(made: Adjustment, limit: Limit | None) -> dict[str, Any]:
    """`limit` None: it was deleted in the meantime, and is told by its id."""
    charge = made.charge
    return {
        "id": made.id,
        "number": made.number,
        "at": rfc3339(made.at),
        "actor": made.actor,
        "reason": made.reason,
        "limit": charge.limit if limit is None else limit.name,
        "value": charge.value,
        "window_start": rfc3339(charge.window_start * NS_PER_S) if charge.window_start else None,
        "unit": "" if limit is None else limit.unit,
        "amount": charge.amount,
        **({"amount_usd": usd(charge.amount)} if limit is not None and limit.unit == "usd" else {}),
    }


def _shown_amount(limit: Limit, amount: int) -> str:
    return f"{usd(amount)} USD" if limit.unit == "usd" else f"{amount} {limit.unit}"
