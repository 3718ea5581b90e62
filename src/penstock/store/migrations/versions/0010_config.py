"""The versions of the declared configuration keep what was declared, who did it and how."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("config_versions", sa.Column("how", sa.String(length=16), server_default="serve", nullable=False))
    op.add_column("config_versions", sa.Column("by", sa.String(length=128), server_default="", nullable=False))
    op.add_column("config_versions", sa.Column("restores", sa.Integer(), nullable=True))
    op.add_column("config_versions", sa.Column("content", sa.Text(), nullable=True))
