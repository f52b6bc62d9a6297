"""Runs in a Postgres database, which any number of processes on any machines share."""

import asyncio
from collections.abc import Callable, Mapping
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
from patchkiln.stores.writer import MAX_BATCH

Result = TypeVar("Result")

# A number for a transaction is what a server gives only where it can be written.
_WRITABLE = text("SELECT pg_current_xact_id()")

_VERSION = text("SELECT current_setting('server_version')")


class PostgresStore(DatabaseStore[PostgresLedger]):
    """A `Store` on a Postgres server, of version 15 or newer.

    While the server is gone, writes wait for it (`writer.PATIENCE_S`) and reads fail at once.
    """

    @classmethod
    async def open(cls, url: str, *, max_batch: int = MAX_BATCH) -> "PostgresStore":
        """Open a database by its libpq URL; its tables are made or migrated where that is due.

        ``max_batch`` bounds the jobs of one transaction. Raises `SettingsError` for a URL, server
        or database that does not do, `StoreError` for one that cannot be reached.
        """
        parameters = connection_parameters(url)
        connection = await asyncio.to_thread(_open_writer, parameters)
        readers = reader_engine(parameters, connections=READERS)
        return cls(PostgresLedger(connection), readers, max_batch=max_batch)

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
