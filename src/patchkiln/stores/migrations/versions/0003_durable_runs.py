"""Let runs be taken over, told once and gone on with."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the epoch, the parent, the keys of milestones and what runs keep."""
    op.add_column("runs", sa.Column("epoch", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("runs", sa.Column("parent_run_id", sa.Text(), nullable=True))
    op.add_column("run_events", sa.Column("key", sa.Text(), nullable=True))
    only = sa.text("key IS NOT NULL")
    op.create_index(
        "ix_run_events_run_id_key",
        "run_events",
        ["run_id", "key"],
        unique=True,
        sqlite_where=only,
        postgresql_where=only,
    )
    run_id = sa.ForeignKey("runs.id", name="fk_keepsakes_run_id", ondelete="CASCADE")
    op.create_table(
        "keepsakes",
        sa.Column("run_id", sa.Text(), run_id, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "name", name="pk_keepsakes"),
    )
