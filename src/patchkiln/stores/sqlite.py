"""Runs in one SQLite file."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

from sqlalchemy import Connection, text

from patchkiln.stores import queries
from patchkiln.stores.connect import make_file, migration_engine, reader_engine, writer_engine
from patchkiln.stores.database import READERS, DatabaseStore
from patchkiln.stores.failures import database_errors
from patchkiln.stores.migrate import migrate
from patchkiln.stores.sqlite_ledger import SqliteLedger
from patchkiln.stores.sqlite_watch import watch_file
from patchkiln.stores.writer import MAX_BATCH

# Joined crosswise, so that every head is looked up in the tree of the log.
_BEYOND = text(
    "SELECT log.run_id, log.seq, log.payload, log.last FROM json_each(:heads) AS head "
    "CROSS JOIN run_events AS log ON log.run_id = head.key AND log.seq > head.value "
    "ORDER BY log.run_id, log.seq LIMIT :count"
)


class SqliteStore(DatabaseStore[SqliteLedger]):
    """A `Store` in a file, for the processes of one machine."""

    _beyond = _BEYOND

    def __init__(self, path: Path, connection: Connection, *, max_batch: int) -> None:
        """Take a migrated database; `open` is the way to have one."""
        readers = reader_engine(path, connections=READERS)
        super().__init__(SqliteLedger(connection), readers, max_batch=max_batch)
        self._path = path

    @classmethod
    async def open(cls, path: Path, *, max_batch: int = MAX_BATCH) -> "SqliteStore":
        """Open a database, made or migrated where that is due.

        ``max_batch`` bounds the jobs of one transaction. Raises `SettingsError` for a database of
        a newer version, `StoreError` for a file that cannot be used.
        """
        connection = await asyncio.to_thread(_open_writer, path)
        return cls(path, connection, max_batch=max_batch)

    def changes(self) -> AsyncGenerator[Mapping[str, int] | None]:
        """Tell for ever that runs grow."""
        return watch_file(self._path)

    async def check(self) -> None:
        """Write to the database and read from it."""
        await self._writer.run(lambda ledger: ledger.touch())
        await self._read(queries.unfinished_runs)


def _open_writer(path: Path) -> Connection:
    make_file(path)
    with database_errors():
        migrate(migration_engine(path), setting="PATCHKILN_DATA_DIR")
        return writer_engine(path).connect()
