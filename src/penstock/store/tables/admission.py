"""The table of admission: the Idempotency-Keys that are in use."""

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text

from penstock.store.tables.schema import WITHOUT_ROWID, metadata

_Int64 = Integer().with_variant(BigInteger, "postgresql")

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key_id", Text, primary_key=True, doc="of the virtual key"),
    Column("name", Text, primary_key=True, doc="hex SHA-256 of the Idempotency-Key"),
    Column("content", Text, nullable=False, doc="hex SHA-256 of the request's path and body"),
    Column("request_id", Text, nullable=False),
    Column("epoch", _Int64, nullable=False, doc="of the worker that serves the call"),
    Column("taken_at", _Int64, nullable=False, doc="Unix nanoseconds"),
    Index("ix_idempotency_keys_taken_at", "taken_at"),
    info=WITHOUT_ROWID,
)
