"""Limits get a time zone, a kind of window and temporary increases; shares are kept per window."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_INT64 = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    op.add_column("limits", sa.Column("timezone", sa.String(length=64), server_default="UTC", nullable=False))
    op.add_column("limits", sa.Column("window", sa.String(length=8), server_default="fixed", nullable=False))
    op.add_column("limits", sa.Column("raises", sa.JSON(), server_default="[]", nullable=False))
    _rebuild_shares()


def _rebuild_shares() -> None:
    """Another primary key is another table. What is settled in the windows that are open goes over."""
    connection = op.get_bind()
    rows = connection.execute(sa.text("SELECT limit_id, value, window_start, per, settled FROM shares")).mappings()
    kept = [dict(row) for row in rows]
    op.drop_table("shares")
    shares = op.create_table(
        "shares",
        sa.Column("limit_id", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("window_start", _INT64, nullable=False),
        sa.Column("per", sa.Text(), nullable=False),
        sa.Column("settled", _INT64, nullable=False),
        sa.PrimaryKeyConstraint("limit_id", "value", "window_start", name="pk_shares"),
        sqlite_with_rowid=False,
    )
    if kept:
        op.bulk_insert(shares, kept)
