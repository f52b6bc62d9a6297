"""Connections to the database file."""

import os
import sqlite3
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event

from patchkiln.errors import StoreError

BUSY_TIMEOUT_S = 30
# With a write-ahead log NORMAL survives the death of the process, kill -9 included, and leaves no
# corrupt database behind a power loss, which may take the last milliseconds. FULL would sync at
# every commit and quarter the rate.
SYNCHRONOUS = "NORMAL"


def make_file(path: Path) -> None:
    """Make the database file and its directory, for this user's eyes alone.

    SQLite gives its log and index files the same mode. What exists keeps its own. Raises
    `StoreError`.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StoreError(f"The database file cannot be opened: {error.strerror}.") from error


def writer_engine(path: Path) -> Engine:
    """Return an engine of one connection, whose transactions hold the write lock from the first.

    One that reads first and asks for the lock later is refused it at once, whatever the timeout,
    where another process wrote in between (https://sqlite.org/isolation.html).
    """
    engine = migration_engine(path)
    event.listen(engine, "connect", _enforce_foreign_keys)
    return engine


def migration_engine(path: Path) -> Engine:
    """Return a writer's engine for which foreign keys are but text.

    A migration that copies a table drops the old one, and with it all that refers to it would go
    (https://sqlite.org/lang_altertable.html, section 7).
    """
    engine = reader_engine(path, connections=1)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def reader_engine(path: Path, *, connections: int) -> Engine:
    """Return an engine without transactions, so that every statement sees the newest commit."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT_S},
        pool_size=connections,
        max_overflow=0,
        # The values are prompts, and errors are logged.
        hide_parameters=True,
    )
    event.listen(engine, "connect", _configure)
    return engine


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    # The driver must not begin transactions of its own.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")


def _enforce_foreign_keys(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
