"""The tables of the database stores.

What is listed or filtered by has a column; the rest of a run is JSON text (`codec`). The first
statement that made them, and every change since, stands in `migrations/versions`.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

HEAD = "0003"

# SQLite's integers have 64 bits anyway.
LONG = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData(
    # A constraint without a name cannot be changed by a later migration.
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _of_run(*, primary_key: bool = False) -> Column[str]:
    return Column(
        "run_id",
        Text,
        ForeignKey("runs.id", ondelete="CASCADE"),
        primary_key=primary_key,
        nullable=False,
    )


runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("created_at_ms", LONG, nullable=False),
    Column("status", Text, nullable=False),
    Column("repository", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("state", Text, nullable=False),
    # The end of a finished run whose events are all held yet.
    Column("kept_since_ms", LONG),
    Index(None, "kept_since_ms"),
    Column("epoch", Integer, nullable=False, server_default="0"),
    Column("parent_run_id", Text),
    Index(None, "created_at_ms", "id"),
    Index(None, "status", "created_at_ms", "id"),
    Index(None, "repository", "created_at_ms", "id"),
)

# Without a rowid the log is one tree, in the order in which it is read.
run_events = Table(
    "run_events",
    metadata,
    _of_run(primary_key=True),
    Column("seq", LONG, primary_key=True, autoincrement=False),
    Column("payload", Text, nullable=False),
    Column("last", Boolean, nullable=False),
    # Few events are milestones; the others cost the index nothing.
    Column("key", Text),
    Index(
        None,
        "run_id",
        "key",
        unique=True,
        sqlite_where=text("key IS NOT NULL"),
        postgresql_where=text("key IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("caller", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    _of_run(),
    Index(None, "run_id"),
)

patches = Table(
    "patches",
    metadata,
    _of_run(primary_key=True),
    Column("diff", LargeBinary, nullable=False),
)

# What a run needs to be gone on with after a restart: step results, the agent's memory.
keepsakes = Table(
    "keepsakes",
    metadata,
    _of_run(primary_key=True),
    Column("name", Text, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)
