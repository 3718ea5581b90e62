"""Keys with a scope of surfaces and networks, keys under keys, two secrets while one is rotated, and their last use."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("keys", sa.Column("surfaces", sa.JSON(), server_default="[]", nullable=False))
    op.add_column("keys", sa.Column("allowed_cidrs", sa.JSON(), server_default="[]", nullable=False))
    op.add_column("keys", sa.Column("parent", sa.String(length=256), server_default="", nullable=False))
    op.add_column("keys", sa.Column("old_digest", sa.String(length=64), server_default="", nullable=False))
    op.add_column("keys", sa.Column("old_until", sa.BigInteger(), server_default="0", nullable=False))
    op.create_index("ix_keys_parent", "keys", ["parent"])
    op.create_index("ix_keys_old_digest", "keys", ["old_digest"])
    op.create_table(
        "key_activity",
        sa.Column("key", sa.String(length=256), nullable=False),
        sa.Column("last_used_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_key_activity"),
    )
