"""An index of when papers changed and were seen: what is new since then is asked for often."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("papers", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_papers_seen"), ["seen"], unique=False)
        batch_op.create_index(batch_op.f("ix_papers_changed"), ["changed"], unique=False)
