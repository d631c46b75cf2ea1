"""What each result of evidence read like, so that digests can tell what changed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "evidence_log",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=160), nullable=False),
        sa.Column("before", sa.JSON(), nullable=True),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evidence_log")),
    )
    with op.batch_alter_table("evidence_log", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_evidence_log_name"), ["name"], unique=False)
        batch_op.create_index(batch_op.f("ix_evidence_log_at"), ["at"], unique=False)
