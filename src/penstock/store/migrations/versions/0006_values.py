"""Limits say how many values of their `each` get a balance of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("limits", sa.Column("max_values", sa.Integer(), server_default="100000", nullable=False))
