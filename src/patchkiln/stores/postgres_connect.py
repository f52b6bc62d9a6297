"""Connections to a Postgres server."""

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, Engine, create_engine, event, text

from patchkiln.errors import SettingsError

OLDEST_VERSION = 15
# Of a database that is gone nobody must learn by waiting for ever (libpq, section 34.1.2).
DEFAULTS: Mapping[str, str | int] = {
    "application_name": "patchkiln",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
# A process that is stopped in the middle of a transaction keeps no run from the others for longer.
IDLE_IN_TRANSACTION_MS = 5_000
# Any number will do; every process takes the same.
MIGRATION_LOCK = 0x70617463686B696C
_SETTING = "PATCHKILN_DATABASE_URL"


def connection_parameters(url: str) -> dict[str, Any]:
    """Read a URL, with defaults for what it leaves out. Raises `SettingsError`."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # The driver's text quotes what it could not read.
        raise SettingsError(
            "The URL of the database cannot be read.",
            remedy=f"Write {_SETTING} as postgresql://USER:PASSWORD@HOST:PORT/DATABASE, and every "
            "special character of the password as % and two hexadecimal digits.",
        ) from None
    return {**DEFAULTS, **given, "client_encoding": "utf8"}


def writer_engine(parameters: Mapping[str, Any]) -> Engine:
    """Return an engine of one connection, with a limit to the time that it may hold locks."""
    given = parameters.get("options", "")
    options = f"{given} -c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_MS}"
    return _engine({**parameters, "options": options.strip()}, connections=1)


def migration_engine(parameters: Mapping[str, Any]) -> Engine:
    """Return an engine whose transactions come one after the other, in all processes."""
    engine = _engine(parameters, connections=1)
    event.listen(engine, "begin", _lock_migrations)
    return engine


def reader_engine(parameters: Mapping[str, Any], *, connections: int) -> Engine:
    """Return an engine without transactions, so that every statement sees the newest commit."""
    return _engine({**parameters, "autocommit": True}, connections=connections)


def check_server(connection: Connection) -> None:
    """Raise `SettingsError` for a server that is too old, or a database of another encoding."""
    version, encoding = connection.execute(
        text("SELECT current_setting('server_version_num'), current_setting('server_encoding')")
    ).one()
    if int(version) // 10_000 < OLDEST_VERSION:
        raise SettingsError(
            f"The database server is Postgres {int(version) // 10_000}.",
            remedy=f"Use Postgres {OLDEST_VERSION} or newer.",
        )
    if encoding != "UTF8":
        raise SettingsError(
            f"The database's encoding is {encoding}.",
            remedy="Make one with: CREATE DATABASE patchkiln ENCODING 'UTF8' TEMPLATE template0",
        )


def _engine(parameters: Mapping[str, Any], *, connections: int) -> Engine:
    return create_engine(
        "postgresql+psycopg://",
        # The driver's own URL, which says more than that of the engine (several hosts, a socket).
        creator=lambda: psycopg.connect(**parameters),
        pool_size=connections,
        max_overflow=0,
        use_native_hstore=False,
        # The values are prompts, and errors are logged.
        hide_parameters=True,
    )


def _lock_migrations(connection: Connection) -> None:
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
