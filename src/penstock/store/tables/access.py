"""The tables of signing in and of provisioning: passwords, sessions, and what an identity provider has told.

Times are Unix nanoseconds. A password is its argon2 hash, a session the digest of its cookie.
"""

from sqlalchemy import JSON, BigInteger, Column, PrimaryKeyConstraint, String, Table, Text, UniqueConstraint

from penstock.store.tables.control import NAME
from penstock.store.tables.schema import metadata

passwords = Table(
    "passwords",
    metadata,
    Column("user", NAME, primary_key=True),
    Column("hash", Text, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("name", String(40), primary_key=True, doc="its id"),
    Column("digest", String(64), nullable=False, unique=True),
    Column("user", NAME, nullable=False, index=True),
    Column("how", String(16), nullable=False, doc="password, oidc"),
    Column("groups", JSON, nullable=False, doc="that the identity provider said the user is in"),
    Column("address", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)
"""Who is signed in. A session that ends is deleted; the audit log tells of it."""

provisioned = Table(
    "provisioned",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("kind", String(8), nullable=False, doc="User, Group"),
    Column("name", NAME, nullable=False, doc="the user's, or the group's"),
    Column("folded", NAME, nullable=False, doc="the name without regard to case"),
    Column("external_id", NAME, nullable=False),
    Column("body", JSON, nullable=False, doc="the resource as SCIM has it"),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("kind", "folded"),
)

members = Table(
    "members",
    metadata,
    Column("group_id", String(40), nullable=False),
    Column("user_id", String(40), nullable=False, index=True),
    PrimaryKeyConstraint("group_id", "user_id"),
)
"""Which provisioned user is in which group, by the ids of both."""
