"""The first schema: the control plane, the ledger and the records."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_INT64 = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
_INT16 = sa.Integer().with_variant(sa.SmallInteger(), "postgresql")


def upgrade() -> None:
    _create_tenants()
    _create_supply_and_limits()
    _create_history()
    _create_ledger()
    _create_records()


def _create_tenants() -> None:
    op.create_table(
        "teams",
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("required_tags", sa.JSON(), nullable=False),
        sa.Column("origin", sa.String(length=8), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_teams"),
    )
    op.create_table(
        "projects",
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("team", sa.String(length=256), nullable=False),
        sa.Column("environment", sa.String(length=256), nullable=False),
        sa.Column("origin", sa.String(length=8), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_projects"),
    )
    op.create_index("ix_projects_team", "projects", ["team"], unique=False)
    op.create_table(
        "users",
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("origin", sa.String(length=8), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_users"),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("team", sa.String(length=256), nullable=False),
        sa.Column("project", sa.String(length=256), nullable=False),
        sa.Column("user", sa.String(length=256), nullable=False),
        sa.Column("models", sa.JSON(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("origin", sa.String(length=8), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.UniqueConstraint("digest", name="uq_keys_digest"),
        sa.UniqueConstraint("name", name="uq_keys_name"),
    )
    op.create_index("ix_keys_project", "keys", ["project"], unique=False)
    op.create_index("ix_keys_team", "keys", ["team"], unique=False)
    op.create_index("ix_keys_user", "keys", ["user"], unique=False)


def _create_supply_and_limits() -> None:
    op.create_table(
        "providers",
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("base_url", sa.Text(), nullable=False),
        sa.Column("credentials", sa.JSON(), nullable=False),
        sa.Column("timeouts", sa.JSON(), nullable=False),
        sa.Column("headers", sa.JSON(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("origin", sa.String(length=8), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_providers"),
    )
    op.create_table(
        "models",
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("origin", sa.String(length=8), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_models"),
    )
    op.create_table(
        "limits",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("match", sa.JSON(), nullable=False),
        sa.Column("each", sa.String(length=256), nullable=True),
        sa.Column("unit", sa.String(length=16), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("per", sa.String(length=8), nullable=False),
        sa.Column("mode", sa.String(length=8), nullable=False),
        sa.Column("alert_at", sa.JSON(), nullable=False),
        sa.Column("origin", sa.String(length=8), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_limits"),
        sa.UniqueConstraint("name", name="uq_limits_name"),
    )


def _create_history() -> None:
    op.create_table(
        "kills",
        sa.Column("generation", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("scope", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("lifted_at", sa.BigInteger(), nullable=True),
        sa.Column("lifted_by", sa.String(length=128), nullable=True),
        sa.Column("lift_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("generation", name="pk_kills"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_kills_in_force", "kills", ["lifted_at"], unique=False)
    op.create_table(
        "config_versions",
        sa.Column("version", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("node", sa.String(length=128), nullable=False),
        sa.Column("applied_at", sa.BigInteger(), nullable=False),
        sa.Column("changes", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_config_versions"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_config_versions_digest", "config_versions", ["digest"], unique=False)
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("before", sa.JSON(), nullable=True),
        sa.Column("after", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name="pk_audit"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_object", "audit", ["kind", "name"], unique=False)


def _create_ledger() -> None:
    op.create_table(
        "entries",
        sa.Column("attempt_id", sa.Text(), nullable=False),
        sa.Column("step", _INT16, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", _INT64, nullable=False),
        sa.Column("epoch", _INT64, nullable=False),
        sa.Column("charges", sa.LargeBinary(), nullable=False),
        sa.Column("cause", sa.Text(), server_default="", nullable=False),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("attempt_id", "step", name="pk_entries"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "balances",
        sa.Column("limit_id", sa.Text(), nullable=False),
        sa.Column("window_start", _INT64, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("per", sa.Text(), nullable=False),
        sa.Column("settled", _INT64, nullable=False),
        sa.PrimaryKeyConstraint("limit_id", "window_start", "value", name="pk_balances"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_balances_per_window_start", "balances", ["per", "window_start"], unique=False)
    op.create_table(
        "shares",
        sa.Column("limit_id", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("per", sa.Text(), nullable=False),
        sa.Column("window_start", _INT64, nullable=False),
        sa.Column("settled", _INT64, nullable=False),
        sa.PrimaryKeyConstraint("limit_id", "value", name="pk_shares"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "open_holds",
        sa.Column("attempt_id", sa.Text(), nullable=False),
        sa.Column("epoch", _INT64, nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", name="pk_open_holds"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_open_holds_epoch", "open_holds", ["epoch"], unique=False)
    op.create_table(
        "journals",
        sa.Column("epoch", _INT64, autoincrement=False, nullable=False),
        sa.Column("part", _INT64, nullable=False),
        sa.Column("position", _INT64, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("damages", _INT64, server_default="0", nullable=False),
        sa.Column("opened_at", _INT64, nullable=False),
        sa.PrimaryKeyConstraint("epoch", name="pk_journals"),
    )


def _create_records() -> None:
    op.create_table(
        "usage_events",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("started_at", _INT64, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", name="pk_usage_events"),
    )
    op.create_index("ix_usage_events_started_at", "usage_events", ["started_at"], unique=False)
    op.create_table(
        "rollups",
        sa.Column("hour", _INT64, autoincrement=False, nullable=False),
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("customer", sa.Text(), nullable=False),
        sa.Column("surface", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("deployment", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("calls", _INT64, nullable=False),
        sa.Column("errors", _INT64, nullable=False),
        sa.Column("input", _INT64, nullable=False),
        sa.Column("output", _INT64, nullable=False),
        sa.Column("cache_read", _INT64, nullable=False),
        sa.Column("cache_write_5m", _INT64, nullable=False),
        sa.Column("cache_write_1h", _INT64, nullable=False),
        sa.Column("cache_write_other", _INT64, nullable=False),
        sa.Column("reasoning", _INT64, nullable=False),
        sa.Column("audio_in", _INT64, nullable=False),
        sa.Column("audio_out", _INT64, nullable=False),
        sa.Column("images", _INT64, nullable=False),
        sa.Column("requests", _INT64, nullable=False),
        sa.Column("cost_nanousd", _INT64, nullable=False),
        sa.Column("estimated_nanousd", _INT64, nullable=False),
        sa.Column("latency_us", _INT64, nullable=False),
        sa.Column("ttft_us", _INT64, nullable=False),
        sa.Column("ttft_calls", _INT64, nullable=False),
        sa.PrimaryKeyConstraint(
            "hour",
            "organisation",
            "team",
            "project",
            "environment",
            "key",
            "user",
            "customer",
            "surface",
            "alias",
            "provider",
            "model",
            "deployment",
            "cause",
            name="pk_rollups",
        ),
        sqlite_with_rowid=False,
    )
