"""The one thread that writes: group commit, so that many small appends share one transaction."""

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from patchkiln.errors import StoreError
from patchkiln.stores.connect import database_errors
from patchkiln.stores.ledger import Ledger

MAX_BATCH = 1000

Result = TypeVar("Result")


@dataclass(slots=True, kw_only=True)
class _Job:
    work: Callable[[Ledger], Any]
    future: "asyncio.Future[Any]"
    result: Any = None
    error: Exception | None = None

    def settle(self) -> None:
        # A caller that was cancelled waits no more.
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class Writer:
    """Runs jobs in the order in which they came, up to ``max_batch`` of them a transaction."""

    def __init__(self, connection: Connection, *, max_batch: int) -> None:
        """Start the thread. Callers must live in the event loop that runs now."""
        self._connection = connection
        self._max_batch = max_batch
        self._ledger = Ledger(connection)
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        # A daemon, so that a process whose loop died without `close` can still end.
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[Ledger], Result]) -> Result:
        """Return what a job returned, once its transaction is committed.

        A job that has been handed over is done, though its caller be cancelled. Raises what the
        job raised, and `StoreError` where the transaction failed.
        """
        if self._closed:
            raise StoreError("The store is closed.")
        future: asyncio.Future[Result] = self._loop.create_future()
        self._jobs.put(_Job(work=work, future=future))
        return await future

    async def close(self) -> None:
        """Do the jobs that wait, end the thread and close the connection. Idempotent."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        with self._connection:
            while jobs := self._next_batch():
                self._commit(jobs)
                # The loop may be closed, and its callers with it.
                with suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(_settle, jobs)
        self._connection.engine.dispose()

    def _next_batch(self) -> list[_Job]:
        """Wait for a job, and take with it all that wait too; nothing at the end."""
        batch: list[_Job] = []
        job = self._jobs.get()
        with suppress(queue.Empty):
            while job is not None:
                batch.append(job)
                if len(batch) == self._max_batch:
                    return batch
                job = self._jobs.get_nowait()
            # The end comes after the jobs before it.
            self._jobs.put(None)
        return batch

    def _commit(self, jobs: list[_Job]) -> None:
        try:
            with database_errors(), self._connection.begin():
                self._ledger.refresh()
                for job in jobs:
                    self._attempt(job)
                self._ledger.flush()
        except StoreError as error:
            self._ledger.forget()
            for job in jobs:
                job.error = error

    def _attempt(self, job: _Job) -> None:
        try:
            job.result = job.work(self._ledger)
        except SQLAlchemyError:
            raise
        except Exception as error:  # noqa: BLE001 - raised again where the job came from
            job.error = error


def _settle(jobs: list[_Job]) -> None:
    for job in jobs:
        job.settle()
