"""Organisations, what stands in for a team's required tags, and the values that a key's tags may have."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "organisations",
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("origin", sa.String(length=8), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_organisations"),
    )
    op.add_column("teams", sa.Column("organisation", sa.String(length=256), server_default="default", nullable=False))
    op.add_column("teams", sa.Column("tags_from", sa.JSON(), server_default="{}", nullable=False))
    op.add_column("keys", sa.Column("allowed_tags", sa.JSON(), server_default="{}", nullable=False))
    op.create_index("ix_teams_organisation", "teams", ["organisation"])
