"""Roles: who is bound to which, with which tokens they come, and whose objects the audit log and limits are about."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_NAME = sa.String(length=256)


def upgrade() -> None:
    op.add_column("users", sa.Column("kind", sa.String(length=16), server_default="person", nullable=False))
    op.add_column("users", sa.Column("active", sa.Integer(), server_default="1", nullable=False))
    op.add_column("limits", sa.Column("level", sa.String(length=16), server_default="organisation", nullable=False))
    for name, length in (("actor_kind", 16), ("address", 64), ("request_id", 64), ("team", 256), ("project", 256)):
        op.add_column("audit", sa.Column(name, sa.String(length=length), server_default="", nullable=False))
    op.create_index("ix_audit_tenant", "audit", ["team", "project"])
    op.create_table(
        "bindings",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("subject_kind", sa.String(length=8), nullable=False),
        sa.Column("subject", _NAME, nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("scope_kind", sa.String(length=16), nullable=False),
        sa.Column("scope", _NAME, nullable=False),
        *_provenance(),
        sa.PrimaryKeyConstraint("name", name="pk_bindings"),
    )
    op.create_index("ix_bindings_subject", "bindings", ["subject_kind", "subject"])
    op.create_table(
        "admin_tokens",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("user", _NAME, nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        *_provenance(),
        sa.PrimaryKeyConstraint("name", name="pk_admin_tokens"),
        sa.UniqueConstraint("digest", name="uq_admin_tokens_digest"),
    )
    op.create_index("ix_admin_tokens_user", "admin_tokens", ["user"])


def _provenance() -> list[sa.Column[object]]:
    return [
        sa.Column("origin", sa.String(length=8), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
    ]
