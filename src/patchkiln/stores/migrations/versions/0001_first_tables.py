"""Make the first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make runs, their events, their keys and their patches."""
    _make_runs()
    op.create_table(
        "run_events",
        _run_id("run_events"),
        sa.Column("seq", _LONG, nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("last", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "seq", name="pk_run_events"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("caller", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        _run_id("idempotency_keys"),
        sa.PrimaryKeyConstraint("caller", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_run_id", "idempotency_keys", ["run_id"])
    op.create_table(
        "patches",
        _run_id("patches"),
        sa.Column("diff", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_patches"),
    )


def _make_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("created_at_ms", _LONG, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    for first in ([], ["status"], ["repository"]):
        columns = [*first, "created_at_ms", "id"]
        op.create_index(f"ix_runs_{'_'.join(columns)}", "runs", columns)


def _run_id(table: str) -> sa.Column[str]:
    name = f"fk_{table}_run_id"
    key = sa.ForeignKey("runs.id", name=name, ondelete="CASCADE")
    return sa.Column("run_id", sa.Text(), key, nullable=False)
