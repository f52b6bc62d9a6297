"""Runs in one SQLite file: a thread that writes, a few that read."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine

from patchkiln.domain.event import StatusUpdate, StoredEvent
from patchkiln.domain.run import Run, RunStatus
from patchkiln.errors import StoreError
from patchkiln.ports.store import IdempotencyKey, RunPage
from patchkiln.stores import queries
from patchkiln.stores.connect import database_errors, make_file, reader_engine, writer_engine
from patchkiln.stores.migrate import migrate
from patchkiln.stores.writer import MAX_BATCH, Writer

READERS = 4

Result = TypeVar("Result")


class SqliteStore:
    """A `Store` in a file. Its methods are called from the event loop in which it was opened."""

    def __init__(self, connection: Connection, readers: Engine, *, max_batch: int) -> None:
        """Take a migrated database; `open` is the way to have one."""
        self._writer = Writer(connection, max_batch=max_batch)
        self._readers = readers
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._closed = False

    @classmethod
    async def open(cls, path: Path, *, max_batch: int = MAX_BATCH) -> "SqliteStore":
        """Open a database, made or migrated where that is due.

        ``max_batch`` bounds the jobs of one transaction. Raises `SettingsError` for a database of
        a newer version, `StoreError` for a file that cannot be used.
        """
        connection = await asyncio.to_thread(_open_writer, path)
        return cls(connection, reader_engine(path, connections=READERS), max_batch=max_batch)

    async def create_run(
        self, run: Run, first: StatusUpdate, *, idempotency: IdempotencyKey | None = None
    ) -> tuple[Run, bool]:
        """Keep a run and its first event."""
        return await self._writer.run(lambda ledger: ledger.create_run(run, first, idempotency))

    async def find_run(self, idempotency: IdempotencyKey) -> Run | None:
        """Return the run that a key was used for, None where it is new."""
        return await self._read(partial(queries.run_of_key, idempotency=idempotency))

    async def append(self, run_id: str, updates: Sequence[StatusUpdate]) -> list[StoredEvent]:
        """Append updates as the next events."""
        return await self._writer.run(lambda ledger: ledger.append(run_id, updates))

    async def get_run(self, run_id: str) -> Run:
        """Return a run."""
        return await self._read(partial(queries.find_run, run_id=run_id))

    async def list_runs(
        self,
        *,
        status: RunStatus | None = None,
        repository: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """Return runs, newest first."""
        return await self._read(
            partial(
                queries.list_runs, status=status, repository=repository, limit=limit, cursor=cursor
            )
        )

    async def unfinished_runs(self) -> list[Run]:
        """Return the runs without a summary, oldest first."""
        return await self._read(queries.unfinished_runs)

    async def events(self, run_id: str, *, after: int, limit: int) -> list[StoredEvent]:
        """Return at most ``limit`` events with ``seq`` above ``after``."""
        return await self._read(partial(queries.events, run_id=run_id, after=after, limit=limit))

    async def save_patch(self, run_id: str, diff: bytes) -> None:
        """Keep a run's patch."""
        await self._writer.run(lambda ledger: ledger.save_patch(run_id, diff))

    async def get_patch(self, run_id: str) -> bytes | None:
        """Return the patch, None where there is none."""
        return await self._read(partial(queries.get_patch, run_id=run_id))

    async def delete_run(self, run_id: str) -> None:
        """Forget a run and all that belongs to it."""
        await self._writer.run(lambda ledger: ledger.delete_run(run_id))

    async def check(self) -> None:
        """Write to the database and read from it."""
        await self._writer.run(lambda ledger: ledger.touch())
        await self._read(queries.unfinished_runs)

    async def close(self) -> None:
        """Write what waits, and close every connection."""
        self._closed = True
        await self._writer.close()
        await asyncio.to_thread(self._threads.shutdown)
        self._readers.dispose()

    async def _read(self, query: Callable[[Connection], Result]) -> Result:
        if self._closed:
            raise StoreError("The store is closed.")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._answer, query)

    def _answer(self, query: Callable[[Connection], Result]) -> Result:
        with database_errors(), self._readers.connect() as connection:
            return query(connection)


def _open_writer(path: Path) -> Connection:
    make_file(path)
    with database_errors():
        migrate(path)
        return writer_engine(path).connect()
