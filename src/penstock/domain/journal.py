"""What a worker's journal holds: the records that cross from the data plane to the ledger of record.

An attempt is a HOLD, then any number of EXTENDs that raise it, then at most one resolution: a POST (settled, exact or
as an estimate) or a VOID (released).
The last record of an exchange carries its usage event, so that settlement and record are written in one piece.
"""

from msgspec import Struct

from penstock.domain.events import CostBasis, UsageEvent
from penstock.domain.policy import Charges


class Hold(Struct, frozen=True, array_like=True, tag="h"):
    """Written immediately before the first upstream byte of an attempt: an unresolved hold means *dispatched*.

    `at`: Unix nanoseconds. `charges`: what is held on each balance. `draft`: the exchange's event as far as it is
    known, so that a crash still leaves a usage event that says who called what; its `attempts` include this one, and
    its `cost_nanousd` is what the attempts before it cost and this one costs at worst.
    """

    attempt_id: str
    at: int
    charges: Charges
    draft: UsageEvent


class Extend(Struct, frozen=True, array_like=True, tag="x"):
    """Written before more of a stream is passed on than its hold covers: it takes the place of the hold, or of the
    extension before it. `n`: 1 for the first. `charges`: those of the hold in the same order, and of windows that have
    begun since, with all that is held now; `draft` as in the hold, with what the attempt costs at most if it ends here.
    """

    attempt_id: str
    at: int
    charges: Charges
    draft: UsageEvent
    n: int


class Post(Struct, frozen=True, array_like=True, tag="p"):
    """`charges`: what is owed, on the balances of the hold, in the same order. `basis` `estimated` marks a cut call."""

    attempt_id: str
    at: int
    charges: Charges
    basis: CostBasis
    event: UsageEvent | None = None


class Void(Struct, frozen=True, array_like=True, tag="v"):
    attempt_id: str
    at: int
    cause: str
    event: UsageEvent | None = None


class Note(Struct, frozen=True, array_like=True, tag="n"):
    """The event of an exchange that dispatched nothing: refused, killed at admission, or never connected."""

    at: int
    event: UsageEvent


Record = Hold | Extend | Post | Void | Note
