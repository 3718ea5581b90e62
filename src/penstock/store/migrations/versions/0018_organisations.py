"""Roles for one organisation among several: what of the audit log is an organisation's and no team's."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("organisation", sa.String(length=256), nullable=False, server_default="")
    op.add_column("audit", column)
