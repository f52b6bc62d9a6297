"""Runs in one SQLite file."""

import asyncio
from pathlib import Path

from sqlalchemy import Connection

from patchkiln.stores import queries
from patchkiln.stores.connect import make_file, migration_engine, reader_engine, writer_engine
from patchkiln.stores.database import READERS, DatabaseStore
from patchkiln.stores.failures import database_errors
from patchkiln.stores.migrate import migrate
from patchkiln.stores.sqlite_ledger import SqliteLedger
from patchkiln.stores.writer import MAX_BATCH


class SqliteStore(DatabaseStore[SqliteLedger]):
    """A `Store` in a file, for the processes of one machine."""

    @classmethod
    async def open(cls, path: Path, *, max_batch: int = MAX_BATCH) -> "SqliteStore":
        """Open a database, made or migrated where that is due.

        ``max_batch`` bounds the jobs of one transaction. Raises `SettingsError` for a database of
        a newer version, `StoreError` for a file that cannot be used.
        """
        connection = await asyncio.to_thread(_open_writer, path)
        readers = reader_engine(path, connections=READERS)
        return cls(SqliteLedger(connection), readers, max_batch=max_batch)

    async def check(self) -> None:
        """Write to the database and read from it."""
        await self._writer.run(lambda ledger: ledger.touch())
        await self._read(queries.unfinished_runs)


def _open_writer(path: Path) -> Connection:
    make_file(path)
    with database_errors():
        migrate(migration_engine(path), setting="PATCHKILN_DATA_DIR")
        return writer_engine(path).connect()
