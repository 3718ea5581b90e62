"""Lost boxes: what happens to the money that a box had leased when it went silent, and when it comes back.

What it may have spent nobody knows, so all of it is charged, once, as adjustments that name the box. When it comes
back, its journals say what it spent: that is settled as always, and what was charged for it is taken back. Until then
its workers have nothing to spend: they must end and begin anew.
"""

from sqlalchemy import Connection, text

from penstock.control import audit
from penstock.control.write import Write
from penstock.domain.policy import Charge
from penstock.ledger import adjustments, leases
from penstock.ledger.adjustments import Adjustment
from penstock.ledger.postings import run
from penstock.ledger.windows import SLIDING_S, bucket
from penstock.store.claim import timed

LOST, RETURNED = "system:box-lost", "system:box-returned"
"""Who the gateway is in the audit log when it charges and when it takes back."""

_GIVE_UP = timed(
    "UPDATE boxes SET state = 'lost' WHERE id = :id AND state = 'live' AND NOW_NS - seen_at > :silent RETURNING node"
)
_CHARGED = text("UPDATE boxes SET charged_from = :first, charged_to = :last WHERE id = :id")
_RETURN = text("SELECT node, charged_from, charged_to FROM boxes WHERE id = :id AND state = 'lost' FOR UPDATE")
_RETURNED = timed(
    "UPDATE boxes SET state = 'live', seen_at = NOW_NS, charged_from = NULL, charged_to = NULL WHERE id = :id"
)
_EPOCHS = "SELECT epoch FROM journals WHERE box = ? AND state = 'open' ORDER BY epoch"
_LOSE = "UPDATE journals SET state = 'lost' WHERE box = ? AND state = 'open'"
_OUTSTANDING = """
    SELECT leases.limit_id, leases.window_start, leases.value, leases.per, SUM(leases.granted - leases.posted)
    FROM leases JOIN journals ON journals.epoch = leases.epoch JOIN limits ON limits.id = leases.limit_id
    WHERE journals.box = ? AND journals.state = 'open' AND leases.granted > leases.posted
        AND limits.unit <> 'concurrent' AND leases.per NOT IN ('second', 'minute', 'sliding-minute')
    GROUP BY leases.limit_id, leases.window_start, leases.value, leases.per
    ORDER BY leases.limit_id, leases.window_start, leases.value, leases.per"""
"""Of the windows that are rows of the ledger. What is leased of a sliding one belongs to no bucket yet."""


async def give_up(write: Write, box: str, lost_after_s: float) -> int | None:
    """Declares `box` lost and charges what it has leased: how many adjustments that took. None when it was heard of
    after all, or is lost already."""
    silent_ns = int(lost_after_s * 1e9)
    node = (await write.conn.execute(_GIVE_UP, {"id": box, "silent": silent_ns})).scalar()
    if node is None:
        return None
    charges = await write.conn.run_sync(_end_leases, box, write.at // 1_000_000_000)
    first = await write.conn.run_sync(adjustments.newest) + 1
    for number, charge in enumerate(charges, first):
        await _adjust(write, Adjustment(number, write.at, charge, f"leased to box {node}, which is lost", LOST))
    if charges:
        last = first + len(charges) - 1
        await write.conn.execute(_CHARGED, {"id": box, "first": first, "last": last})
    await audit.record(write, "lose", ("box", box), {"node": node}, {"node": node, "charges": len(charges)})
    return len(charges)


async def take_back(write: Write, box: str) -> int:
    """Makes a lost box live again, and takes back what was charged for it: how many adjustments that took. Its journals
    are settled to their end by now."""
    found = (await write.conn.execute(_RETURN, {"id": box})).first()
    if found is None:
        return 0
    charged = []
    if found.charged_from is not None:
        count = found.charged_to - found.charged_from + 1
        charged = await adjustments.after(write.conn, found.charged_from - 1, count)
    number = await write.conn.run_sync(adjustments.newest) + 1
    for made in charged:
        back = Charge(
            made.charge.limit, made.charge.window_start, made.charge.value, -made.charge.amount, made.charge.per
        )
        await _adjust(write, Adjustment(number, write.at, back, f"box {found.node} is back", RETURNED))
        number += 1
    await write.conn.execute(_RETURNED, {"id": box})
    await audit.record(
        write, "return", ("box", box), {"node": found.node}, {"node": found.node, "charges": len(charged)}
    )
    return len(charged)


async def _adjust(write: Write, made: Adjustment) -> None:
    before = await adjustments.settled(write.conn, made.charge)
    await adjustments.write(write.conn, made)
    shown = {"limit": made.charge.limit, "amount": made.charge.amount, "reason": made.reason}
    pictures = ({"settled": before}, {**shown, "settled": before + made.charge.amount})
    await audit.record(write, "adjust", ("adjustment", made.id), *pictures)


def _end_leases(connection: Connection, box: str, now_s: int) -> list[Charge]:
    """What the box's workers may have spent. What they had of shares counts until the windows that are open end."""
    leases.lock(connection)
    charges = [
        Charge(limit, bucket(per, now_s)[0] if per in SLIDING_S else start, value, int(amount), per)
        for limit, start, value, per, amount in run(connection, _OUTSTANDING, (box,)).all()
    ]
    for (epoch,) in run(connection, _EPOCHS, (box,)).all():
        leases.end(connection, epoch, now_s)
    run(connection, _LOSE, (box,))
    return charges
