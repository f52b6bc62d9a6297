"""Runs in a Postgres database, which any number of processes on any machines share."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import ExitStack
from typing import Any, TypeVar

from sqlalchemy import Connection, text

from patchkiln.stores.database import READERS, DatabaseStore
from patchkiln.stores.failures import ServerError, database_errors
from patchkiln.stores.migrate import migrate
from patchkiln.stores.postgres_connect import (
    check_server,
    connection_parameters,
    migration_engine,
    reader_engine,
    writer_engine,
)
from patchkiln.stores.postgres_ledger import PostgresLedger
from patchkiln.stores.postgres_watch import watch_server
from patchkiln.stores.writer import MAX_BATCH

Result = TypeVar("Result")

# A number for a transaction is what a server gives only where it can be written.
_WRITABLE = text("SELECT pg_current_xact_id()")

_VERSION = text("SELECT current_setting('server_version')")
# Crosswise and by itself for every head, so that each is looked up in the index of the log.
_BEYOND = text(
    "SELECT head.key, log.seq, log.payload, log.last "
    "FROM json_each_text(CAST(:heads AS json)) AS head CROSS JOIN LATERAL ("
    "SELECT seq, payload, last FROM run_events "
    "WHERE run_id = head.key AND seq > CAST(head.value AS bigint) ORDER BY seq LIMIT :count"
    ") AS log ORDER BY head.key, log.seq LIMIT :count"
)


class PostgresStore(DatabaseStore[PostgresLedger]):
    """A `Store` on a Postgres server, of version 15 or newer.

    While the server is gone, writes wait for it (`writer.PATIENCE_S`) and reads fail at once.
    """

    _beyond = _BEYOND

    def __init__(
        self, parameters: Mapping[str, Any], connection: Connection, *, max_batch: int
    ) -> None:
        """Take a migrated database; `open` is the way to have one."""
        readers = reader_engine(parameters, connections=READERS)
        super().__init__(PostgresLedger(connection), readers, max_batch=max_batch)
        self._parameters = parameters

    @classmethod
    async def open(cls, url: str, *, max_batch: int = MAX_BATCH) -> "PostgresStore":
        """Open a database by its libpq URL; its tables are made or migrated where that is due.

        ``max_batch`` bounds the jobs of one transaction. Raises `SettingsError` for a URL, server
        or database that does not do, `StoreError` for one that cannot be reached.
        """
        parameters = connection_parameters(url)
        connection = await asyncio.to_thread(_open_writer, parameters)
        return cls(parameters, connection, max_batch=max_batch)

    def changes(self) -> AsyncGenerator[Mapping[str, int] | None]:
        """Tell for ever that runs grow."""
        return watch_server(self._parameters)

    async def check(self) -> None:
        """Ask for what only a database gives that can be written."""
        await self._read(lambda connection: connection.execute(_WRITABLE).one())

    def _answer(self, query: Callable[[Connection], Result]) -> Result:
        try:
            return super()._answer(query)
        except ServerError as error:
            if not error.gone:
                raise
            # A server that was started anew leaves broken connections behind, one of them here.
            return super()._answer(query)


def _open_writer(parameters: Mapping[str, Any]) -> Connection:
    engine = writer_engine(parameters)
    with ExitStack() as undo, database_errors():
        undo.callback(engine.dispose)
        connection = undo.enter_context(engine.connect())
        with connection.begin():
            check_server(connection)
        migrate(migration_engine(parameters), setting="PATCHKILN_DATABASE_URL")
        undo.pop_all()
        return connection


def describe(url: str) -> str:
    """Return the server's kind and version. Raises `SettingsError` and `StoreError`."""
    engine = reader_engine(connection_parameters(url), connections=1)
    try:
        with database_errors(), engine.connect() as connection:
            check_server(connection)
            return f"Postgres {connection.execute(_VERSION).scalar_one()}"
    finally:
        engine.dispose()
