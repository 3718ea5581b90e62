"""What workers may spend without asking: their leases, and the last that each of them asked for."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_INT64 = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("limit_id", sa.Text(), nullable=False),
        sa.Column("window_start", _INT64, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("per", sa.Text(), nullable=False),
        sa.Column("epoch", _INT64, nullable=False),
        sa.Column("granted", _INT64, nullable=False),
        sa.Column("posted", _INT64, nullable=False),
        sa.Column("since", _INT64, nullable=False),
        sa.Column("until_s", _INT64, nullable=True),
        sa.PrimaryKeyConstraint("limit_id", "window_start", "value", "per", "epoch", name="pk_leases"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_leases_epoch", "leases", ["epoch"], unique=False)
    op.create_table(
        "lease_requests",
        sa.Column("epoch", _INT64, autoincrement=False, nullable=False),
        sa.Column("number", _INT64, nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("epoch", name="pk_lease_requests"),
    )
