"""Boxes share a database: who they are, whose journal is whose, and which worker obeys which kill."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("journals", sa.Column("box", sa.String(length=32), server_default="", nullable=False))
    op.create_table(
        "installation",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_installation"),
    )
    op.create_table(
        "boxes",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("node", sa.String(length=128), nullable=False),
        sa.Column("release", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("charged_from", sa.Integer()),
        sa.Column("charged_to", sa.Integer()),
        sa.PrimaryKeyConstraint("id", name="pk_boxes"),
    )
    op.create_table(
        "nodes",
        sa.Column("node", sa.String(length=128), nullable=False),
        sa.Column("box", sa.String(length=32), nullable=False),
        sa.Column("connected", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("node", name="pk_nodes"),
    )
    op.create_index("ix_nodes_box", "nodes", ["box"])
    op.create_table(
        "confirmations",
        sa.Column("node", sa.String(length=128), nullable=False),
        sa.Column("generation", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("confirmed_at", sa.BigInteger(), nullable=False),
        sa.Column("streams_cut", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("node", "generation", name="pk_confirmations"),
    )
    op.create_index("ix_confirmations_generation", "confirmations", ["generation"])
