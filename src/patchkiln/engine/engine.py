"""Starts, follows, cancels and ends runs in this process."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from patchkiln.domain.event import EventType, StatusUpdate, StoredEvent
from patchkiln.domain.run import (
    RUN_CANCEL_REQUESTED,
    RUN_CREATED,
    RUN_STRANDED,
    Outcome,
    Run,
    RunRequest,
)
from patchkiln.engine.clock import monotonic_s
from patchkiln.engine.execution import RunExecution
from patchkiln.engine.feeds import Feeds
from patchkiln.engine.metrics import Metrics
from patchkiln.engine.unforeseen import log_unforeseen
from patchkiln.errors import (
    Conflict,
    NotFound,
    PatchkilnError,
    RunTakenOver,
    StoreError,
    TooManyRuns,
)
from patchkiln.pipeline.context import RunContext, Services
from patchkiln.pipeline.runner import Cancelled, conclude, ending_of
from patchkiln.ports.engine import Engine, Journal, Standing
from patchkiln.ports.sandbox import Isolation, IsolationLevel
from patchkiln.ports.store import IdempotencyKey, Store

RETRY_AFTER_S = 10
# No caller has this name: that of a key holds no colon.
RETRY_CALLER = "retry:"
DEAD = frozenset({Standing.OVER, Standing.OTHER_VERSION})
CANCEL_REQUESTED = StatusUpdate(
    event=RUN_CANCEL_REQUESTED, message="Cancel requested", key=RUN_CANCEL_REQUESTED
)
STRANDED = StatusUpdate(
    event=RUN_STRANDED,
    message="Another version of the server began this run, and it goes on when that one is back",
    type=EventType.WARNING,
    data={"remedy": "Start that version of the server again, or cancel the run."},
    key=RUN_STRANDED,
)


logger = logging.getLogger(__name__)


class Interrupted(PatchkilnError):
    """The run cannot go on: it was given up, or what was known of its steps is gone."""

    code = "interrupted"
    retryable = True
    default_remedy = "Retry the run, or start it again."


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
        """Take what runs need.

        `recover` must have ended before the first `submit`; runs are carried out from `open` on.
        """
        self.store: Store = services.store
        self.metrics = Metrics()
        self._services = services
        self._engine: Engine | None = None
        self._opened = asyncio.Event()
        self._limits = limits or EngineLimits()
        self._slots = asyncio.Semaphore(self._limits.running)
        self._executions: dict[str, RunExecution] = {}
        self._feeds = Feeds(services.store)
        self._starting: set[asyncio.Task[None]] = set()
        self._callers: dict[str, str] = {}

    async def recover(self) -> int:
        """Take in every run that an earlier process left unfinished; return how many.

        They go on with `open`.
        """
        runs = [run for run in await self.store.unfinished_runs() if run.id not in self._callers]
        for run in runs:
            self.metrics.waits(run.id)
            self._callers[run.id] = run.request.caller
        return len(runs)

    async def open(self, engine: Engine) -> None:
        """Have an engine carry runs out from now on: those left unfinished, and those since.

        It is closed with this one. Raises `StoreError`.
        """
        await self.recover()
        self._engine = engine
        await engine.open(self._carry_out)
        self._opened.set()
        for run in await self.store.unfinished_runs():
            await self._go_on(run, engine)

    async def submit(
        self, request: RunRequest, *, idempotency: IdempotencyKey | None = None
    ) -> tuple[Run, bool]:
        """Create a run and start it; with a key that was used before, return that run and False.

        Raises `TooManyRuns` and `Conflict`.
        """
        known = None if idempotency is None else await self.store.find_run(idempotency)
        if known is not None:
            return known, False
        return await self._create(Run.new(request), idempotency=idempotency)

    async def cancel(self, run_id: str) -> Run:
        """Ask a run to end as cancelled, and return it. A finished run stays as it is.

        What is asked is in the log before this returns: it holds after a restart too.
        """
        run = await self.store.get_run(run_id)
        if run.finished:
            return run
        try:
            await self._tell(run, CANCEL_REQUESTED)
        except Conflict:
            return await self.store.get_run(run_id)
        execution = self._executions.get(run_id)
        if execution is not None:
            execution.cancel()
        elif self._opened.is_set() and await self._opened_engine.standing(run_id) in DEAD:
            await self._end(run, Cancelled("The run was cancelled."))
        return await self.store.get_run(run_id)

    async def retry(self, run_id: str) -> tuple[Run, bool]:
        """Start a failed run again at the step that failed, as a new run; return it and True.

        The finished steps of the failed one are taken over. Where this was asked before: the run
        of then and False. Raises `NotFound`, `TooManyRuns`, and `Conflict` for a run that did not
        fail.
        """
        parent = await self.store.get_run(run_id)
        if parent.outcome is not Outcome.FAILED:
            raise Conflict(
                "Only a run that failed can be retried.",
                remedy="Start a new run instead."
                if parent.finished
                else "Wait for the run's end, or cancel it and start a new one.",
            )
        once = IdempotencyKey(caller=RETRY_CALLER, key=run_id, fingerprint=run_id)
        known = await self.store.find_run(once)
        if known is not None:
            return known, False
        return await self._create(Run.new(parent.request, parent_run_id=run_id), idempotency=once)

    async def delete(self, run_id: str) -> None:
        """Forget a finished run and all that is known of it. Raises `NotFound` and `Conflict`."""
        await self.store.delete_run(run_id)
        if self._opened.is_set():
            await self._opened_engine.forget(run_id)

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
        """Stop the runs where they are, and destroy what they hold. Idempotent.

        They go on where the next process opens the same engine and store.
        """
        self.drain()
        for task in self._starting:
            task.cancel()
        await asyncio.gather(
            *(execution.suspend() for execution in self._executions.values()),
            *self._starting,
            return_exceptions=True,
        )
        if self._engine is not None:
            await self._engine.close()
        await self._feeds.close()

    @property
    def _opened_engine(self) -> Engine:
        if self._engine is None:
            raise StoreError("The engine is not open yet.")
        return self._engine

    def _check_room(self, caller: str) -> None:
        unfinished = sum(1 for name in self._callers.values() if name == caller)
        if unfinished >= self._limits.unfinished_per_caller:
            raise TooManyRuns(
                f"{unfinished} runs of this caller are waiting or running.",
                retry_after_s=RETRY_AFTER_S,
            )

    async def _create(self, run: Run, *, idempotency: IdempotencyKey | None) -> tuple[Run, bool]:
        self._check_room(run.request.caller)
        run, created = await self.store.create_run(
            run, await self._created(run), idempotency=idempotency
        )
        if created:
            self.metrics.created(run.id)
            self._callers[run.id] = run.request.caller
            task = asyncio.create_task(self._start(run.id))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)
        return run, created

    async def _created(self, run: Run) -> StatusUpdate:
        """Return a run's first event, which says how far its sandbox isolates."""
        request = run.request
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
                "parent_run_id": run.parent_run_id,
            },
        )

    async def _start(self, run_id: str) -> None:
        """Have the engine carry a run out; should it fail to begin, the next `open` sees to it."""
        await self._opened.wait()
        try:
            await self._opened_engine.start(run_id)
        except PatchkilnError as error:
            logger.error("run %s could not be started: %s", run_id, error)  # noqa: TRY400 - the store's own fault, a trace tells no more

    async def _go_on(self, run: Run, engine: Engine) -> None:
        """See to it that an unfinished run has someone who carries it out, or an end."""
        match await engine.standing(run.id):
            case Standing.UNKNOWN:
                # Its process died between the run's creation and its start.
                await engine.start(run.id)
            case Standing.OVER:
                await self._end(run, Interrupted("The server could not go on with this run."))
            case Standing.OTHER_VERSION if run.cancel_requested:
                await self._end(run, Cancelled("The run was cancelled."))
            case Standing.OTHER_VERSION:
                logger.warning("run %s waits for the version of the server that began it", run.id)
                await self._tell(run, STRANDED)
            case Standing.UNDER_WAY:
                pass

    async def _carry_out(self, run_id: str, journal: Journal) -> None:
        """Be the engine's workflow: one execution of one run."""
        try:
            run = await self.store.claim(run_id)
            if not run.finished:
                await self._execute(run, journal)
        except NotFound:
            # Deleted since; nobody waits for it.
            return
        except (StoreError, RunTakenOver) as error:
            logger.error("run %s could not be told to its end: %s", run_id, error)  # noqa: TRY400 - the store's own fault, a trace tells no more
            raise
        finally:
            self._forget(run_id)

    async def _execute(self, run: Run, journal: Journal) -> None:
        execution = RunExecution(
            run, self._services, self._opened_engine, feeds=self._feeds, metrics=self.metrics
        )
        self._executions[run.id] = execution
        try:
            await execution.main(journal, self._slots)
        except PatchkilnError:
            raise
        except Exception as error:  # noqa: BLE001 - the run's boundary: it must come to an end
            log_unforeseen(error, run.id)
            await self._end(run, PatchkilnError("The server failed in an unforeseen way."))

    async def _end(self, run: Run, error: PatchkilnError) -> None:
        """End a run that nobody carries out any more."""
        run = await self.store.claim(run.id)
        context = RunContext(
            run=run,
            services=self._services,
            began_at_s=monotonic_s(run.created_at_ms),
            usage=run.usage,
        )
        if run.sandbox_id is not None:
            context.sandbox_id = run.sandbox_id

        async def tell(update: StatusUpdate) -> None:
            await self._tell(run, update, epoch=run.epoch)

        await conclude(context, tell, ending_of(error))
        self._forget(run.id)

    async def _tell(self, run: Run, update: StatusUpdate, *, epoch: int | None = None) -> None:
        (stored,) = await self.store.append(run.id, [update], epoch=epoch)
        if stored.seq > run.last_seq:
            self.metrics.told(run.id, update)
            self._feeds.publish(run.id, [stored])

    def _forget(self, run_id: str) -> None:
        self.metrics.ended(run_id)
        self._executions.pop(run_id, None)
        self._callers.pop(run_id, None)
