"""One execution of a run in this process: from its claim to its summary, or to the next restart."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

from patchkiln.domain.event import EventType, JsonObject, StatusUpdate
from patchkiln.domain.run import (
    RUN_STARTED,
    RUN_SUSPENDED,
    STEP_RESTARTED,
    STEP_STARTED,
    STEPS_TAKEN_OVER,
    Run,
)
from patchkiln.engine.clock import monotonic_s, now_ms
from patchkiln.engine.feeds import Feeds
from patchkiln.engine.metrics import Metrics
from patchkiln.engine.records import TAKE_OVER, Records
from patchkiln.engine.silence import Silence
from patchkiln.engine.unforeseen import log_unforeseen
from patchkiln.errors import BudgetExhausted, NotFound, PatchkilnError, RunTakenOver, StoreError
from patchkiln.pipeline import runner
from patchkiln.pipeline.context import RunContext, Services
from patchkiln.pipeline.record import Ending, StepRecord
from patchkiln.pipeline.runner import Cancelled, ending_of
from patchkiln.pipeline.step import Step
from patchkiln.ports.engine import Engine, Journal

MAX_STEP_ATTEMPTS = 3


class AttemptsExhausted(PatchkilnError):
    """A step ended the server's process each time that it was tried."""

    code = "attempts_exhausted"
    default_remedy = (
        "Look at the server's log and at the memory of its machine, then retry the run."
    )


class RunExecution:
    """Carries one run out by its journal. Made and awaited once."""

    def __init__(
        self, run: Run, services: Services, engine: Engine, *, feeds: Feeds, metrics: Metrics
    ) -> None:
        """Take the run as this process has claimed it; nothing happens before `main`."""
        self._run = run
        self._engine = engine
        self._store = services.store
        self._feeds = feeds
        self._metrics = metrics
        self._silence = Silence()
        self._records = Records(run=run, store=services.store)
        self._last_seq = run.last_seq
        self._steps: asyncio.Task[Ending | None] | None = None
        self._cancel_requested = run.cancel_requested
        self._context = RunContext(
            run=run, services=services, began_at_s=monotonic_s(run.created_at_ms)
        )

    async def tell(self, update: StatusUpdate) -> None:
        """Append an update to the log, then show it to the followers; a milestone but once."""
        run = self._run
        stored = await self._store.append(run.id, [update], epoch=run.epoch)
        self._silence.broken_by(update)
        if stored[-1].seq > self._last_seq:
            self._last_seq = stored[-1].seq
            self._metrics.told(run.id, update)
            self._feeds.publish(run.id, stored)

    def cancel(self) -> None:
        """Have the run end as cancelled. Idempotent."""
        self._cancel_requested = True
        if self._steps is not None:
            self._steps.cancel()

    async def suspend(self) -> None:
        """Tell that the server stops, so that the attempt under way does not count as failed."""
        with suppress(PatchkilnError):
            await self.tell(
                StatusUpdate(
                    event=RUN_SUSPENDED,
                    message="The server stops; the run goes on when it is back",
                    type=EventType.WARNING,
                )
            )

    async def main(self, journal: Journal, slots: asyncio.Semaphore) -> None:
        """Go on at the first unfinished step, and end with a summary.

        Only the server's shutdown cancels this. Raises `StoreError` and `RunTakenOver`, which
        leave the run as it is.
        """
        try:
            # It may have been asked for since the claim.
            now = await self._store.get_run(self._run.id)
            self._cancel_requested = self._cancel_requested or now.cancel_requested
            async with AsyncExitStack() as held:
                self._steps = asyncio.create_task(self._all_steps(journal, slots, held))
                ending = await self._ending_of(self._steps)
                await runner.conclude(self._context, self.tell, ending)
        finally:
            with suppress(PatchkilnError):
                await self._context.close()

    async def _ending_of(self, steps: asyncio.Task[Ending | None]) -> Ending | None:
        """Return what ended the steps early."""
        try:
            return await steps
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return ending_of(Cancelled("The run was cancelled."))
        except (StoreError, RunTakenOver):
            raise
        except PatchkilnError as error:
            return ending_of(error)

    async def _all_steps(
        self, journal: Journal, slots: asyncio.Semaphore, held: AsyncExitStack
    ) -> Ending | None:
        """Return how the run ends before its time, None where every step was done."""
        limit = asyncio.timeout(None)
        begin = partial(self._begin, slots, held, limit)
        try:
            async with self._company(), limit:
                return await self._step_by_step(journal, begin)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise self._out_of_time() from error

    async def _step_by_step(
        self, journal: Journal, begin: Callable[[], Awaitable[None]]
    ) -> Ending | None:
        taken = await self._take_over(journal)
        for step in runner.steps():
            if step.name in taken:
                record = StepRecord.read(taken[step.name])
                await runner.restore(step, self._context, record)
            else:
                record = await self._journaled(step, journal, begin)
                if record.ending is not None:
                    return record.ending
                await runner.complete(step, record, self.tell)
            if record.outcome is not None and self._context.patch is None:
                return None
        return None

    async def _take_over(self, journal: Journal) -> Mapping[str, str]:
        """Return the records of the finished steps of the run whose retry this is."""
        parent_id = self._run.parent_run_id
        if parent_id is None:
            return {}

        async def work() -> str:
            try:
                finished = await self._engine.finished_steps(parent_id)
                return await self._records.take_over(parent_id, finished)
            except NotFound:
                return "{}"

        text = await self._records.read(await journal.step(TAKE_OVER, work))
        taken: dict[str, str] = json.loads(text)
        await self.tell(_taken_over(parent_id, taken))
        return taken

    async def _journaled(
        self, step: Step, journal: Journal, begin: Callable[[], Awaitable[None]]
    ) -> StepRecord:
        """Return a step's record: of before, or of now."""
        done: list[StepRecord] = []

        async def work() -> str:
            done.append(await self._attempt(step, begin))
            return await self._records.keep(step.name, done[0].text())

        text = await journal.step(step.name, work)
        if done:
            return done[0]
        record = StepRecord.read(await self._records.read(text))
        await runner.restore(step, self._context, record)
        return record

    async def _attempt(self, step: Step, begin: Callable[[], Awaitable[None]]) -> StepRecord:
        """Do a step once. What ends the run makes a record too; a cancel and the limit do not."""
        if self._cancel_requested:
            raise Cancelled("The run was cancelled.")
        await begin()
        try:
            await self._tell_attempt(step)
            return await runner.perform(step, self._context, self.tell)
        except (StoreError, RunTakenOver):
            raise
        except PatchkilnError as error:
            return self._ended(error)
        except Exception as error:  # noqa: BLE001 - the run's boundary
            log_unforeseen(error, self._run.id)
            return self._ended(PatchkilnError("The server failed in an unforeseen way."))

    async def _begin(
        self, slots: asyncio.Semaphore, held: AsyncExitStack, limit: asyncio.Timeout
    ) -> None:
        """Wait for a slot before the first step that is done here, and set the limit of time."""
        if limit.when() is not None:
            return
        if slots.locked():
            await self.tell(StatusUpdate(event="run.queued", message="Waiting for a free slot"))
        await held.enter_async_context(slots)
        self._metrics.started(self._run.id)
        await self.tell(StatusUpdate(event=RUN_STARTED, message="Run started", key=RUN_STARTED))
        started_s = monotonic_s(self._run.started_at_ms or now_ms())
        self._context.ends_at_s = started_s + self._run.request.limits.minutes * 60
        left_s = self._context.ends_at_s - time.monotonic()
        if left_s <= 0:
            raise self._out_of_time()
        limit.reschedule(asyncio.get_running_loop().time() + left_s)

    async def _tell_attempt(self, step: Step) -> None:
        """Tell that a step begins, or begins again. Raises `AttemptsExhausted`."""
        run = self._run
        if run.step_seq is None or run.step != step.name:
            await self.tell(
                StatusUpdate(
                    event=STEP_STARTED,
                    message=f"Step {step.name}",
                    step=step.name,
                    key=f"{STEP_STARTED}:{step.name}",
                )
            )
            return
        if run.step_attempts >= MAX_STEP_ATTEMPTS:
            raise AttemptsExhausted(
                f"The server ended {run.step_attempts} times during the step {step.name}."
            )
        data: JsonObject = {
            "step": step.name,
            "attempt": run.step_attempts + 1,
            "supersedes_from_seq": run.step_seq,
        }
        await self.tell(
            StatusUpdate(
                event=STEP_RESTARTED,
                message=f"Step {step.name} begins again: the server was restarted during it",
                type=EventType.WARNING,
                step=step.name,
                data=data,
            )
        )

    @asynccontextmanager
    async def _company(self) -> AsyncGenerator[None]:
        """Tell meanwhile what no step yields, and what it is that takes long."""
        context = self._context
        watching = asyncio.create_task(self._silence.watch(self.tell, lambda: context.waiting_for))
        try:
            async with runner.asides_told(context, self.tell):
                yield
        finally:
            watching.cancel()
            # The steps meet the same fault of the store, and tell it.
            with suppress(asyncio.CancelledError, PatchkilnError):
                await watching

    def _ended(self, error: PatchkilnError) -> StepRecord:
        context = self._context
        return StepRecord(
            outcome=context.outcome,
            agent_message=context.agent_message,
            usage=context.usage,
            ending=ending_of(error),
        )

    def _out_of_time(self) -> BudgetExhausted:
        minutes = self._run.request.limits.minutes
        return BudgetExhausted(f"The limit of {minutes:g} minutes was reached.")


def _taken_over(parent_id: str, taken: Mapping[str, str]) -> StatusUpdate:
    commit = StepRecord.read(taken["clone"]).found["commit"] if "clone" in taken else None
    return StatusUpdate(
        event=STEPS_TAKEN_OVER,
        message=f"Taken over from {parent_id}: {', '.join(taken) or 'no step'}",
        data={"parent_run_id": parent_id, "steps": list(taken), "commit": commit},
        key=STEPS_TAKEN_OVER,
    )
