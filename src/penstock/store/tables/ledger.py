"""The ledger's tables. Every amount is a whole number.

`entries` is the ledger: rows are added and never changed, and summed up when they are old (`carried`). The rest follows
from it (`balances`), stands beside it (`shares`, for windows too short for a ledger), or says how far the journals have
been read (`journals`, `open_holds`) and what workers may spend from memory (`leases`, `lease_requests`).
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
)

from penstock.store.tables.schema import WITHOUT_ROWID, metadata

_Int64 = Integer().with_variant(BigInteger, "postgresql")
_Int16 = Integer().with_variant(SmallInteger, "postgresql")

entries = Table(
    "entries",
    metadata,
    Column("attempt_id", Text, primary_key=True),
    Column(
        "step", _Int16, primary_key=True, doc="0 the hold, 1 its one resolution, 2 and up extensions and adjustments"
    ),
    Column("kind", Text, nullable=False, doc="hold, extension, post, estimate, void, adjustment"),
    Column("at", _Int64, nullable=False, doc="Unix nanoseconds"),
    Column("epoch", _Int64, nullable=False, doc="the journal it came from; 0 for an adjustment"),
    Column("charges", LargeBinary, nullable=False, doc="msgpack: Charges; of an adjustment, tuple[Charge, ...]"),
    Column("cause", Text, nullable=False, server_default="", doc="why it was voided; the basis of what was posted"),
    Column("actor", Text, nullable=True, doc="who adjusted"),
    info=WITHOUT_ROWID,
)
"""That a hold is resolved at most once is the primary key's doing: there is one step 1 per attempt."""

balances = Table(
    "balances",
    metadata,
    Column("limit_id", Text, nullable=False),
    Column("window_start", _Int64, nullable=False, doc="Unix seconds, 0 for total; of a sliding window, its bucket's"),
    Column("value", Text, nullable=False, doc="of the limit's `each`; empty without one"),
    Column("per", Text, nullable=False),
    Column("settled", _Int64, nullable=False),
    # Value by value, so that one value's windows are found without those of the others.
    PrimaryKeyConstraint("limit_id", "value", "window_start"),
    Index("ix_balances_per_window_start", "per", "window_start"),
    info=WITHOUT_ROWID,
)
"""What is settled per limit and window of an hour or longer, for a sliding one per bucket: the sum of the entries, kept
as they are added."""

carried = Table(
    "carried",
    metadata,
    Column("limit_id", Text, nullable=False),
    Column("window_start", _Int64, nullable=False),
    Column("value", Text, nullable=False),
    Column("per", Text, nullable=False),
    Column("epoch", _Int64, nullable=False, doc="the journal that they came from"),
    Column("settled", _Int64, nullable=False),
    Column("exceeded", _Int16, nullable=False, doc="1: a bill among them was over its hold"),
    PrimaryKeyConstraint("limit_id", "value", "window_start", "epoch"),
    info=WITHOUT_ROWID,
)
"""The sums of entries that are too old to be kept one by one, per balance."""

shares = Table(
    "shares",
    metadata,
    Column("limit_id", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("window_start", _Int64, primary_key=True),
    Column("per", Text, nullable=False),
    Column("settled", _Int64, nullable=False),
    info=WITHOUT_ROWID,
)
"""As `balances`, for windows under an hour: kept until they are over, so that a restart forgets nothing."""

open_holds = Table(
    "open_holds",
    metadata,
    Column("attempt_id", Text, primary_key=True),
    Column("epoch", _Int64, nullable=False, index=True),
    Column("record", LargeBinary, nullable=False, doc="msgpack: the journal's Hold, or its last Extend"),
    info=WITHOUT_ROWID,
)
"""The holds that no record read so far resolves."""

journals = Table(
    "journals",
    metadata,
    Column("epoch", _Int64, primary_key=True, autoincrement=False),
    Column("part", _Int64, nullable=False, doc="the file being read: `<epoch>-<part>.journal`"),
    Column("position", _Int64, nullable=False, doc="bytes of that part that are in the ledger"),
    Column("state", Text, nullable=False, doc="open, lost with its box, or finished"),
    Column("damages", _Int64, nullable=False, server_default="0", doc="places that could not be read"),
    Column("opened_at", _Int64, nullable=False, doc="Unix nanoseconds"),
    Column("box", String(32), nullable=False, server_default="", doc="on whose disk it lies; empty where only one is"),
)

leases = Table(
    "leases",
    metadata,
    Column("limit_id", Text, primary_key=True),
    Column("window_start", _Int64, primary_key=True, doc="Unix seconds; 0 for a share and for a sliding window"),
    Column("value", Text, primary_key=True),
    Column("per", Text, primary_key=True),
    Column("epoch", _Int64, primary_key=True, doc="the worker's journal"),
    Column("granted", _Int64, nullable=False, doc="less what was given back"),
    Column("posted", _Int64, nullable=False, doc="what was settled of it; stays 0 for a share"),
    Column("since", _Int64, nullable=False, doc="of a share: others may use it from this window or bucket on"),
    Column("until_s", _Int64, nullable=True, doc="of a dead worker's share: it counts until then, Unix seconds"),
    Index("ix_leases_epoch", "epoch"),
    info=WITHOUT_ROWID,
)
"""What workers may spend without asking. Of each, granted less posted is out of everybody else's reach."""

lease_requests = Table(
    "lease_requests",
    metadata,
    Column("epoch", _Int64, primary_key=True, autoincrement=False),
    Column("number", _Int64, nullable=False),
    Column("answer", LargeBinary, nullable=False, doc="msgpack: tuple[Granted, ...]"),
)
"""The last request of each living worker, so that one that comes twice is obeyed once."""
