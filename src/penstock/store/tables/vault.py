"""The tables of the vault. No secret is in them but sealed, and no key but wrapped. Times are Unix nanoseconds."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Table

from penstock.store.tables.control import NAME
from penstock.store.tables.schema import metadata

_ID = String(40)

data_keys = Table(
    "data_keys",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("scope", NAME, nullable=False, doc="the tenant whose secrets it seals: organisation:default, team:growth"),
    Column("wrapper", String(16), nullable=False, doc="root, transit, kms"),
    Column("wrapping_key", String(2_048), nullable=False, doc="which key of the wrapper's; no secret"),
    Column("wrapped", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("wrapped_at", BigInteger, nullable=False),
)
Index("ix_data_keys_scope", data_keys.c.scope)

credential_versions = Table(
    "credential_versions",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("credential", NAME, nullable=False),
    Column("version", Integer, nullable=False),
    Column("data_key", _ID, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("active_from", BigInteger, nullable=False),
)
"""The version that serves, and the one that will. What was replaced is deleted."""
Index("ix_credential_versions_credential", credential_versions.c.credential, credential_versions.c.version)
