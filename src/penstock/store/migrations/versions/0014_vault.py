"""The vault: data keys, the credentials of providers, and their versions."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "data_keys",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("scope", sa.String(length=256), nullable=False),
        sa.Column("wrapper", sa.String(length=16), nullable=False),
        sa.Column("wrapping_key", sa.String(length=2048), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("wrapped_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_data_keys"),
    )
    op.create_index("ix_data_keys_scope", "data_keys", ["scope"])
    op.create_table(
        "credentials",
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("address", sa.String(length=512), nullable=False),
        sa.Column("team", sa.String(length=256), nullable=False),
        sa.Column("rotate_every", sa.Integer(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("rotated_at", sa.BigInteger(), nullable=False),
        sa.Column("active_from", sa.BigInteger(), nullable=False),
        sa.Column("origin", sa.String(length=8), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_credentials"),
    )
    op.create_table(
        "credential_versions",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("credential", sa.String(length=256), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("data_key", sa.String(length=40), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("active_from", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_credential_versions"),
    )
    op.create_index("ix_credential_versions_credential", "credential_versions", ["credential", "version"])
    op.add_column("providers", sa.Column("credential_terms", sa.JSON(), server_default="{}", nullable=False))
