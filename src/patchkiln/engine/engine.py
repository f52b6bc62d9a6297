"""Starts, follows, cancels and ends runs in this process."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from patchkiln.domain.event import EventType, StatusUpdate, StoredEvent
from patchkiln.domain.run import RUN_CANCEL_REQUESTED, RUN_CREATED, Run, RunRequest
from patchkiln.engine.execution import RunExecution
from patchkiln.engine.feeds import Feeds
from patchkiln.engine.metrics import Metrics
from patchkiln.engine.unforeseen import log_unforeseen
from patchkiln.errors import Conflict, PatchkilnError, StoreError, TooManyRuns
from patchkiln.pipeline.context import RunContext, Services
from patchkiln.pipeline.runner import conclude
from patchkiln.ports.sandbox import Isolation, IsolationLevel
from patchkiln.ports.store import IdempotencyKey, Store

RETRY_AFTER_S = 10


class Interrupted(PatchkilnError):
    """The server was stopped while the run was under way."""

    code = "interrupted"
    retryable = True
    default_remedy = "Start the run again."


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """How much this process takes on: runs at once, and unfinished runs of one caller."""

    running: int = 4
    unfinished_per_caller: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether a run could start now, and why not."""

    ready: bool
    store: str
    isolation: Isolation
    agents: tuple[str, ...]


class RunEngine:
    """All runs of one process. Its methods are called from one event loop."""

    def __init__(self, services: Services, limits: EngineLimits | None = None) -> None:
        """Take what runs need; `recover` must have ended before the first `submit`."""
        self.store: Store = services.store
        self.metrics = Metrics()
        self._services = services
        self._limits = limits or EngineLimits()
        self._slots = asyncio.Semaphore(self._limits.running)
        self._executions: dict[str, RunExecution] = {}
        self._feeds = Feeds(services.store)
        self._tasks: set[asyncio.Task[None]] = set()
        self._callers: dict[str, str] = {}

    async def recover(self) -> int:
        """End every run that an earlier process left unfinished; return how many."""
        runs = await self.store.unfinished_runs()
        for run in runs:
            context = _interrupted(run, self._services)
            context.patch_kept = await self.store.get_patch(run.id) is not None

            async def tell(update: StatusUpdate, run_id: str = run.id) -> None:
                await self.store.append(run_id, [update])
                self.metrics.told(run_id, update)

            await conclude(context, tell, Interrupted("The server was stopped during this run."))
        return len(runs)

    async def submit(
        self, request: RunRequest, *, idempotency: IdempotencyKey | None = None
    ) -> tuple[Run, bool]:
        """Create a run and start it; with a key that was used before, return that run and False.

        Raises `TooManyRuns` and `Conflict`.
        """
        known = None if idempotency is None else await self.store.find_run(idempotency)
        if known is not None:
            return known, False
        self._check_room(request.caller)
        run, created = await self.store.create_run(
            Run.new(request), await self._created(request), idempotency=idempotency
        )
        if created:
            self._start(run)
        return run, created

    async def cancel(self, run_id: str) -> Run:
        """Ask a run to end as cancelled, and return it. A finished run stays as it is."""
        run = await self.store.get_run(run_id)
        execution = self._executions.get(run_id)
        if execution is None or run.finished:
            return run
        if not run.cancel_requested:
            try:
                await execution.tell(
                    StatusUpdate(event=RUN_CANCEL_REQUESTED, message="Cancel requested")
                )
            except Conflict:
                return await self.store.get_run(run_id)
        execution.cancel()
        return await self.store.get_run(run_id)

    async def follow(self, run_id: str, *, after: int = 0) -> AsyncGenerator[list[StoredEvent]]:
        """Yield batches of a run's events: what is there, then what comes.

        It does not matter which process executes the run. Ends after the summary, or
        without one when the server drains. Raises `NotFound`.
        """
        with self.metrics.stream():
            async with aclosing(self._feeds.follow(run_id, after=after)) as batches:
                async for batch in batches:
                    yield batch

    async def readiness(self) -> Readiness:
        """Look at the store and at the sandboxes' self-tests."""
        try:
            await self.store.check()
            store = "ok"
        except StoreError as error:
            store = error.message
        isolation = Isolation(level=IsolationLevel.NONE, reason="There is no sandbox provider.")
        for provider in self._services.sandboxes.values():
            isolation = await provider.isolation()
            if isolation.level is not IsolationLevel.NONE:
                break
        return Readiness(
            ready=store == "ok" and isolation.level is not IsolationLevel.NONE,
            store=store,
            isolation=isolation,
            agents=tuple(sorted(self._services.agents)),
        )

    async def warm(self, agent: str) -> None:
        """Have an agent made before the first run asks for it."""
        await self._services.agents[agent]()

    def drain(self) -> None:
        """Let every stream end; runs go on until `close`."""
        self._feeds.drain()

    async def close(self) -> None:
        """Stop the runs where they are, and destroy what they hold. Idempotent."""
        self.drain()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._feeds.close()

    def _check_room(self, caller: str) -> None:
        unfinished = sum(1 for name in self._callers.values() if name == caller)
        if unfinished >= self._limits.unfinished_per_caller:
            raise TooManyRuns(
                f"{unfinished} runs of this caller are waiting or running.",
                retry_after_s=RETRY_AFTER_S,
            )

    async def _created(self, request: RunRequest) -> StatusUpdate:
        """Return a run's first event, which says how far its sandbox isolates."""
        provider = self._services.sandboxes.get(request.sandbox)
        isolation = None if provider is None else await provider.isolation()
        return StatusUpdate(
            event=RUN_CREATED,
            message=f"Run created for {request.repository}",
            type=EventType.INFO,
            step="init",
            progress=0,
            data={
                "repository": request.repository,
                "repo_url": request.repo_url,
                "ref": request.ref,
                "sandbox": request.sandbox,
                "isolation": None if isolation is None else isolation.level.value,
            },
        )

    def _start(self, run: Run) -> None:
        execution = RunExecution(run, self._services, self._feeds, self.metrics)
        self._executions[run.id] = execution
        self.metrics.created(run.id)
        self._callers[run.id] = run.request.caller
        task = asyncio.create_task(execution.main(self._slots), name=run.id)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        run_id = task.get_name()
        self.metrics.ended(run_id)
        for table in (self._executions, self._callers):
            table.pop(run_id, None)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log_unforeseen(error, run_id)


def _interrupted(run: Run, services: Services) -> RunContext:
    lasted_s = time.time() - run.created_at_ms / 1000
    context = RunContext(
        run=run, services=services, started_at_s=time.monotonic() - lasted_s, usage=run.usage
    )
    if run.sandbox_id is not None:
        context.sandbox_id = run.sandbox_id
    return context
