"""The sums of ledger entries that are too old to be kept one by one."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_INT64 = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "carried",
        sa.Column("limit_id", sa.Text(), nullable=False),
        sa.Column("window_start", _INT64, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("per", sa.Text(), nullable=False),
        sa.Column("epoch", _INT64, nullable=False),
        sa.Column("settled", _INT64, nullable=False),
        sa.Column("exceeded", sa.Integer().with_variant(sa.SmallInteger(), "postgresql"), nullable=False),
        sa.PrimaryKeyConstraint("limit_id", "value", "window_start", "epoch", name="pk_carried"),
        sqlite_with_rowid=False,
    )
