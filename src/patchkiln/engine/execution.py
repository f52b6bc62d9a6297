"""One run being run in this process, from the queue to its summary."""

import asyncio
import contextlib
import logging

from patchkiln.domain.event import StatusUpdate
from patchkiln.domain.run import RUN_STARTED, Run
from patchkiln.engine.feeds import Feeds
from patchkiln.engine.metrics import Metrics
from patchkiln.engine.unforeseen import log_unforeseen
from patchkiln.errors import BudgetExhausted, PatchkilnError
from patchkiln.pipeline.context import RunContext, Services
from patchkiln.pipeline.runner import Cancelled, conclude, run_steps

logger = logging.getLogger(__name__)


class RunExecution:
    """Runs the pipeline for one run and writes its events. Made and awaited once."""

    def __init__(self, run: Run, services: Services, feeds: Feeds, metrics: Metrics) -> None:
        """Take the run as created; nothing happens before `main`."""
        self._run = run
        self._services = services
        self._feeds = feeds
        self._metrics = metrics
        self._steps: asyncio.Task[None] | None = None
        self._cancel_requested = False

    async def tell(self, update: StatusUpdate) -> None:
        """Append an update to the log, then show it to the followers."""
        stored = await self._services.store.append(self._run.id, [update])
        self._metrics.told(self._run.id, update)
        self._feeds.publish(self._run.id, stored)

    def cancel(self) -> None:
        """Have the run end as cancelled. Idempotent."""
        self._cancel_requested = True
        if self._steps is not None:
            self._steps.cancel()

    async def main(self, slots: asyncio.Semaphore) -> None:
        """Wait for a slot, run, and end with a summary; only the server's shutdown cancels this."""
        context = RunContext(run=self._run, services=self._services)
        try:
            self._steps = asyncio.create_task(self._queued_steps(context, slots))
            await conclude(context, self.tell, await self._outcome_of_steps())
        except PatchkilnError as error:
            logger.error("run %s could not be told to its end: %s", self._run.id, error)  # noqa: TRY400 - the store's own fault, a trace tells no more
        finally:
            await self._close(context)

    async def _queued_steps(self, context: RunContext, slots: asyncio.Semaphore) -> None:
        if slots.locked():
            await self.tell(StatusUpdate(event="run.queued", message="Waiting for a free slot"))
        async with slots:
            await self.tell(StatusUpdate(event=RUN_STARTED, message="Run started"))
            minutes = self._run.request.limits.minutes
            limit = asyncio.timeout(minutes * 60)
            try:
                async with limit:
                    await run_steps(context, self.tell)
            except TimeoutError as error:
                if not limit.expired():
                    raise
                raise BudgetExhausted(f"The limit of {minutes:g} minutes was reached.") from error

    async def _outcome_of_steps(self) -> PatchkilnError | None:
        """Return what ended the steps early. This is the run's boundary."""
        steps = self._steps
        if steps is None:
            return None
        if self._cancel_requested:
            steps.cancel()
        try:
            await steps
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return Cancelled("The run was cancelled.")
        except PatchkilnError as error:
            return error
        except Exception as error:  # noqa: BLE001 - the run's boundary
            log_unforeseen(error, self._run.id)
            return PatchkilnError("The server failed in an unforeseen way.")
        return None

    async def _close(self, context: RunContext) -> None:
        with contextlib.suppress(PatchkilnError):
            await context.close()
