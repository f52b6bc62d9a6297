"""The database that DBOS keeps its own state in, opened the way that a crash asks for."""

import os
import sqlite3
from pathlib import Path

from sqlalchemy import URL, Engine, create_engine, event

BUSY_TIMEOUT_MS = 30_000
CONNECTIONS = 10


def open_system_database(path: Path) -> Engine:
    """Return an engine for DBOS over a file of this user's alone, made when missing.

    Its own default is a rollback journal, five times slower, whose readers and writers lock each
    other out.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    engine = create_engine(
        URL.create("sqlite", database=str(path)), pool_size=CONNECTIONS, hide_parameters=True
    )
    event.listen(engine, "connect", _configure)
    return engine


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    # A transaction that reads first and asks for the lock later would be refused it at once.
    connection.isolation_level = "IMMEDIATE"
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
