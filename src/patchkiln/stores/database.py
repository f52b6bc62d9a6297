"""What the database stores have in common: a thread that writes, a few that read."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

from sqlalchemy import Connection, Engine, TextClause

from patchkiln.domain.event import StatusUpdate, StoredEvent
from patchkiln.domain.run import Run, RunStatus
from patchkiln.errors import StoreError
from patchkiln.ports.store import IdempotencyKey, RunPage
from patchkiln.stores import queries
from patchkiln.stores.failures import database_errors
from patchkiln.stores.writer import Books, Writer

READERS = 4

Result = TypeVar("Result")


class DatabaseStore(Generic[Books]):
    """All of a `Store` that is the same on every database.

    Its methods are called from the event loop in which it was opened.
    """

    # Reads a JSON object of heads, each dialect in its own words.
    _beyond: TextClause

    def __init__(self, ledger: Books, readers: Engine, *, max_batch: int) -> None:
        """Take a migrated database; a store's own `open` is the way to have one."""
        self._writer = Writer(ledger, max_batch=max_batch)
        self._readers = readers
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._closed = False

    async def create_run(
        self, run: Run, first: StatusUpdate, *, idempotency: IdempotencyKey | None = None
    ) -> tuple[Run, bool]:
        """Keep a run and its first event."""
        return await self._writer.run(lambda ledger: ledger.create_run(run, first, idempotency))

    async def find_run(self, idempotency: IdempotencyKey) -> Run | None:
        """Return the run that a key was used for, None where it is new."""
        return await self._read(partial(queries.run_of_key, idempotency=idempotency))

    async def claim(self, run_id: str) -> Run:
        """Raise a run's epoch."""
        return await self._writer.run(lambda ledger: ledger.claim(run_id), run_id=run_id)

    async def append(
        self, run_id: str, updates: Sequence[StatusUpdate], *, epoch: int | None = None
    ) -> list[StoredEvent]:
        """Append updates as the next events."""
        return await self._writer.run(
            lambda ledger: ledger.append(run_id, updates, epoch), run_id=run_id
        )

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

    async def events_beyond(
        self, heads: Mapping[str, int], *, limit: int
    ) -> Mapping[str, list[StoredEvent]]:
        """Return the events of several runs above their heads."""
        return await self._read(
            partial(queries.events_beyond, statement=self._beyond, heads=heads, limit=limit)
        )

    async def save_patch(self, run_id: str, diff: bytes, *, epoch: int | None = None) -> None:
        """Keep a run's patch."""
        await self._writer.run(lambda ledger: ledger.save_patch(run_id, diff, epoch), run_id=run_id)

    async def get_patch(self, run_id: str) -> bytes | None:
        """Return the patch, None where there is none."""
        return await self._read(partial(queries.get_patch, run_id=run_id))

    async def keep(self, run_id: str, name: str, data: bytes, *, epoch: int | None = None) -> None:
        """Keep what a run needs to be gone on with."""
        await self._writer.run(lambda ledger: ledger.keep(run_id, name, data, epoch), run_id=run_id)

    async def kept(self, run_id: str, name: str) -> bytes | None:
        """Return what a name has, None where it has nothing."""
        return await self._read(partial(queries.kept, run_id=run_id, name=name))

    async def delete_run(self, run_id: str) -> None:
        """Forget a run and all that belongs to it."""
        await self._writer.run(lambda ledger: ledger.delete_run(run_id), run_id=run_id)

    async def prune(self, *, ended_before_ms: int, limit: int) -> bool:
        """Forget events of the run that ended first, and with the last of them its patch."""
        return await self._writer.run(lambda ledger: ledger.prune(ended_before_ms, limit))

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
