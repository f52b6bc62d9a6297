"""The one thread that writes: group commit, so that many small appends share one transaction."""

import asyncio
import itertools
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from patchkiln.errors import StoreError
from patchkiln.stores.ledger import Ledger

MAX_BATCH = 1000
# A run waits so long for a database that is gone before it fails.
PATIENCE_S = 60.0
PAUSES_S = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)

Books = TypeVar("Books", bound=Ledger)
Result = TypeVar("Result")


@dataclass(slots=True, kw_only=True)
class _Job:
    work: Callable[[Any], Any]
    run_id: str
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


class Writer(Generic[Books]):
    """Runs jobs in the order in which they came, up to ``max_batch`` of them a transaction."""

    def __init__(self, ledger: Books, *, max_batch: int) -> None:
        """Start the thread. Callers must live in the event loop that runs now."""
        self._ledger = ledger
        self._max_batch = max_batch
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        # A daemon, so that a process whose loop died without `close` can still end.
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[Books], Result], *, run_id: str = "") -> Result:
        """Return what a job returned, once its transaction is committed.

        ``run_id`` names the run that the job changes, where there is one already. A job that has
        been handed over is done, though its caller be cancelled. Raises what the job raised, and
        `StoreError` where the transaction failed.
        """
        if self._closed:
            raise StoreError("The store is closed.")
        future: asyncio.Future[Result] = self._loop.create_future()
        self._jobs.put(_Job(work=work, run_id=run_id, future=future))
        return await future

    async def close(self) -> None:
        """Do the jobs that wait, end the thread and close the connection. Idempotent."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        while jobs := self._next_batch():
            self._commit(jobs)
            # The loop may be closed, and its callers with it.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_settle, jobs)
        self._ledger.close()

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
        """Do jobs in one transaction, and again in another where that may help."""
        until_s = time.monotonic() + PATIENCE_S
        for pause_s in itertools.chain(PAUSES_S, itertools.repeat(PAUSES_S[-1])):
            try:
                if not self._ledger.committed():
                    self._transact(jobs)
            except StoreError as error:
                late = self._closed or time.monotonic() > until_s
                if late or not self._ledger.may_repeat(error):
                    for job in jobs:
                        job.error = error
                    return
                time.sleep(pause_s)
            else:
                return

    def _transact(self, jobs: list[_Job]) -> None:
        with self._ledger.transaction({job.run_id for job in jobs if job.run_id}):
            for job in jobs:
                self._attempt(job)

    def _attempt(self, job: _Job) -> None:
        job.error = None
        try:
            job.result = job.work(self._ledger)
        except SQLAlchemyError:
            raise
        except Exception as error:  # noqa: BLE001 - raised again where the job came from
            job.error = error


def _settle(jobs: list[_Job]) -> None:
    for job in jobs:
        job.settle()
