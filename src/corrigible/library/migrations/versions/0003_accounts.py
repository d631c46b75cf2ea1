"""Accounts: attempts to log in, so that guessing ends soon; when a token for programs ends; what a user has set."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "login_attempts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_login_attempts")),
    )
    with op.batch_alter_table("login_attempts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_login_attempts_at"), ["at"], unique=False)
    op.add_column("api_tokens", sa.Column("expires", sa.DateTime(), nullable=True))
    op.add_column("users", sa.Column("settings", sa.JSON(), nullable=False, server_default=sa.text("'{}'")))
