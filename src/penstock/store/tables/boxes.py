"""The tables of what boxes know of each other: which there are, which workers they have, and which kill each obeys.

Times are Unix nanoseconds of the database's own clock, which is the one that all boxes share.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table

from penstock.store.tables.schema import metadata

_NODE = String(128)
_BOX = String(32)

installation = Table(
    "installation",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", String(128), nullable=False),
)
"""What every box must agree on. `root_secret`: a digest that only the same root secret gives."""

boxes = Table(
    "boxes",
    metadata,
    Column("id", _BOX, primary_key=True),
    Column("node", _NODE, nullable=False),
    Column("release", String(32), nullable=False),
    Column("state", String(8), nullable=False, doc="live; stopped in good order; lost without a word"),
    Column("started_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("charged_from", Integer, doc="the first adjustment that charged it for what it had leased when it was lost"),
    Column("charged_to", Integer, doc="the last one"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("node", _NODE, primary_key=True),
    Column("box", _BOX, nullable=False, index=True),
    Column("connected", Integer, nullable=False, doc="1 while its control process hears of it, else 0"),
)

confirmations = Table(
    "confirmations",
    metadata,
    Column("node", _NODE, primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("confirmed_at", BigInteger, nullable=False),
    Column("streams_cut", Integer, nullable=False),
    Index("ix_confirmations_generation", "generation"),
)
"""That a node obeys every kill up to a generation, for the newest of them."""
