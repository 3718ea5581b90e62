"""The tables of the records: usage events, and the hourly sums that outlive them.

Amounts are whole numbers. Times are Unix nanoseconds, hours are the Unix seconds at which they begin.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text

from penstock.store.tables.schema import WITHOUT_ROWID, metadata

_Int64 = Integer().with_variant(BigInteger, "postgresql")

usage_events = Table(
    "usage_events",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("started_at", _Int64, nullable=False),
    Column("body", LargeBinary, nullable=False, doc="msgpack: UsageEvent"),
    Index("ix_usage_events_started_at", "started_at"),
)

DIMENSIONS = (
    "organisation",
    "team",
    "project",
    "environment",
    "key",
    "user",
    "customer",
    "surface",
    "alias",
    "provider",
    "model",
    "deployment",
    "cause",
)
SUMS = (
    "calls",
    "errors",
    "input",
    "output",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "cache_write_other",
    "reasoning",
    "audio_in",
    "audio_out",
    "images",
    "requests",
    "cost_nanousd",
    "estimated_nanousd",
    "latency_us",
    "ttft_us",
    "ttft_calls",
)
"""`ttft_calls`: the calls that had a first token, over which `ttft_us` is summed."""

rollups = Table(
    "rollups",
    metadata,
    Column("hour", _Int64, primary_key=True, autoincrement=False),
    *(Column(name, Text, primary_key=True) for name in DIMENSIONS),
    *(Column(name, _Int64, nullable=False) for name in SUMS),
    info=WITHOUT_ROWID,
)
"""A dimension that a call does not have is the empty string."""

kept = Table(
    "kept",
    metadata,
    Column("id", Text, primary_key=True, doc="the provider's: of a response, an item or a container"),
    Column("provider", Text, primary_key=True),
    Column("owner", Text, nullable=False, doc="domain.kept.owner_of; empty: nobody"),
    Column("credential", Text, nullable=False, doc="name of the one that it is kept under; empty: there was none"),
    Column("model", Text, nullable=False, doc="the provider's"),
    Column("alias", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("made_at", _Int64, nullable=False, doc="Unix nanoseconds"),
    Index("ix_kept_made_at", "made_at"),
    info=WITHOUT_ROWID,
)
"""What providers keep for callers."""
