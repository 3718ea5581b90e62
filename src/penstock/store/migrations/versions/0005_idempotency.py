"""Idempotency-Keys in use; limits get a model that takes over when they are exceeded."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_INT64 = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    op.add_column("limits", sa.Column("downgrade", sa.String(length=256), server_default="", nullable=False))
    op.create_table(
        "idempotency_keys",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("epoch", _INT64, nullable=False),
        sa.Column("taken_at", _INT64, nullable=False),
        sa.PrimaryKeyConstraint("key_id", "name", name="pk_idempotency_keys"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_idempotency_keys_taken_at", "idempotency_keys", ["taken_at"])
