"""The price book: what a provider's model costs from when on, over the catalogue."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "prices",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("provider", sa.String(length=256), nullable=False),
        sa.Column("model", sa.String(length=256), nullable=False),
        sa.Column("effective_from", sa.BigInteger(), nullable=False),
        sa.Column("price", sa.JSON(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_prices"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_prices_of_a_model", "prices", ["provider", "model", "effective_from"], unique=False)
