"""Let the runs be found whose events have been kept for long."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_FINISHED = sa.text("SELECT id, state FROM runs WHERE status = 'finished'")
_KEEP = sa.text("UPDATE runs SET kept_since_ms = :since WHERE id = :id")


def upgrade() -> None:
    """Add the time since when a finished run's events are kept, and fill it in."""
    op.add_column("runs", sa.Column("kept_since_ms", _LONG))
    op.create_index("ix_runs_kept_since_ms", "runs", ["kept_since_ms"])
    connection = op.get_bind()
    finished = [
        {"id": run_id, "since": json.loads(state)["finished_at_ms"]}
        for run_id, state in connection.execute(_FINISHED)
    ]
    if finished:
        connection.execute(_KEEP, finished)
