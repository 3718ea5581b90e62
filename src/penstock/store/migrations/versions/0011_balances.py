"""The balances of a limit lie together value by value, so that one value's windows are found without the others'."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_KEY = ("limit_id", "value", "window_start")


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint("pk_balances", "balances", type_="primary")
        op.create_primary_key("pk_balances", "balances", list(_KEY))
    else:
        _rebuild()


def _rebuild() -> None:
    """On SQLite another primary key is another table."""
    op.create_table(
        "balances_by_value",
        sa.Column("limit_id", sa.Text(), nullable=False),
        sa.Column("window_start", sa.Integer(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("per", sa.Text(), nullable=False),
        sa.Column("settled", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(*_KEY, name="pk_balances"),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO balances_by_value (limit_id, window_start, value, per, settled) "
        "SELECT limit_id, window_start, value, per, settled FROM balances"
    )
    op.drop_table("balances")
    op.rename_table("balances_by_value", "balances")
    op.create_index("ix_balances_per_window_start", "balances", ["per", "window_start"])
