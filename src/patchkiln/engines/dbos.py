"""Runs as workflows of DBOS (https://docs.dbos.dev), which keeps the records of their steps.

DBOS lives in a thread and an event loop of its own: it replaces its loop's default executor, and
its database must not stall the streams. A run's workflow stays in the loop that opened the engine,
and the two meet at each step. What this module knows of DBOS is contract-tested over the version
that pyproject.toml pins.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID

from patchkiln.engines.system_database import open_system_database
from patchkiln.errors import StoreError
from patchkiln.ports.engine import Standing, Workflow

APP_NAME = "patchkiln"
WORKFLOW = "run"
EXECUTOR = "local"
# Each start of the server that finds a run unfinished counts. The engine above gives a step up that
# ends its process, after fewer; this bounds what dies before it can be told.
MAX_EXECUTIONS = 50
RETENTION_S = 30 * 24 * 3600
# What the listener waits for is not used here; it is asked often enough to let a stop be quick.
LISTENER_POLL_S = 0.25
RECOVERY_POLL_S = 0.2
MAX_DELETED_AT_ONCE = 1000
UNFINISHED = ("PENDING", "ENQUEUED", "DELAYED")

Result = TypeVar("Result")


class _LeftUnfinished(BaseException):
    """Leaves a step or a workflow without a record; DBOS keeps every `Exception` as an outcome."""


@dataclass(slots=True, kw_only=True)
class _Asked:
    """A step that a workflow asks for, on its way between the two loops.

    ``record`` is the one of before, or None where the work is to be done; ``found`` is what was
    found then, and ``kept`` is done when it is safe.
    """

    name: str
    record: "Future[str | None]" = field(default_factory=Future[str | None])
    found: "Future[str]" = field(default_factory=Future[str])
    kept: "Future[None]" = field(default_factory=Future[None])


@dataclass(slots=True, kw_only=True)
class _Journal:
    """A `Journal` whose other end is a workflow of DBOS in the other loop."""

    loop: asyncio.AbstractEventLoop
    steps: "asyncio.Queue[_Asked | None]"

    async def step(self, name: str, work: Callable[[], Awaitable[str]]) -> str:
        """Return the record of before, or do the work and have it recorded."""
        asked = _Asked(name=name)
        self.loop.call_soon_threadsafe(self.steps.put_nowait, asked)
        record = await asyncio.wrap_future(asked.record)
        if record is not None:
            return record
        try:
            found = await work()
        except BaseException:
            asked.found.set_exception(_LeftUnfinished())
            raise
        asked.found.set_result(found)
        await asyncio.wrap_future(asked.kept)
        return found


class DbosEngine:
    """An `Engine` over a SQLite file that DBOS alone writes. One may be open in a process."""

    def __init__(self, path: Path, *, version: str) -> None:
        """Take the file, made when missing, and the version of the workflow's steps."""
        self._path = path
        self._version = version
        self._workflow: Workflow | None = None
        self._home: asyncio.AbstractEventLoop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._database: Any = None

    async def open(self, workflow: Workflow) -> None:
        """Start DBOS, which goes on with what is unfinished."""
        self._workflow = workflow
        self._home = asyncio.get_running_loop()
        self._loop = await asyncio.to_thread(_start_loop)
        await self._call(self._launch())
        await self._call(_delete_old())

    async def start(self, run_id: str) -> None:
        """Start a workflow whose id is the run's."""
        await self._call(_start(run_id))

    async def standing(self, run_id: str) -> Standing:
        """Ask DBOS for the workflow's status."""
        status = await self._call(DBOS.get_workflow_status_async(run_id))
        if status is None:
            return Standing.UNKNOWN
        if status.status not in UNFINISHED:
            return Standing.OVER
        return Standing.UNDER_WAY if status.app_version == self._version else Standing.OTHER_VERSION

    async def finished_steps(self, run_id: str) -> Mapping[str, str]:
        """Ask DBOS for the workflow's records."""
        steps = await self._call(DBOS.list_workflow_steps_async(run_id))
        return {
            step["function_name"]: step["output"]
            for step in steps
            if isinstance(step["output"], str)
        }

    async def forget(self, run_id: str) -> None:
        """Have DBOS delete the workflow."""
        if await self.standing(run_id) is Standing.OVER:
            await self._call(DBOS.delete_workflows_async([run_id]))

    async def close(self) -> None:
        """Cancel the workflows, then stop DBOS, to which they are unfinished."""
        self._workflow = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        loop, self._loop = self._loop, None
        if loop is not None:
            await asyncio.to_thread(_stop, loop)
            self._database.dispose()
            _OPEN.remove(self)

    async def execute(self, run_id: str) -> None:
        """Be the workflow of DBOS, in its loop: have the run carried out in the loop of its own."""
        loop = asyncio.get_running_loop()
        journal = _Journal(loop=loop, steps=asyncio.Queue())
        home, workflow = self._home, self._workflow
        if home is None or workflow is None:
            raise _LeftUnfinished
        work = asyncio.run_coroutine_threadsafe(self._carry_out(workflow, run_id, journal), home)
        work.add_done_callback(lambda _: loop.call_soon_threadsafe(journal.steps.put_nowait, None))
        while (asked := await journal.steps.get()) is not None:
            await _journal(asked)
        if work.cancelled() or work.exception() is not None:
            raise _LeftUnfinished

    async def _carry_out(self, workflow: Workflow, run_id: str, journal: _Journal) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await workflow(run_id, journal)

    async def _launch(self) -> None:
        """Configure and start DBOS in the loop that runs now."""
        self._database = open_system_database(self._path)
        _silence_dbos()
        config: DBOSConfig = {
            "name": APP_NAME,
            "system_database_engine": self._database,
            "application_version": self._version,
            "executor_id": EXECUTOR,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "CRITICAL",
            "notification_listener_polling_interval_sec": LISTENER_POLL_S,
        }
        _OPEN.append(self)
        queue = DBOS(config=config)._registry.get_internal_queue()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - there is no setting for it
        # What a crash cut off goes on through this queue, which is looked at once a second else.
        queue._polling_interval_sec = RECOVERY_POLL_S  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - as above
        DBOS.launch()

    async def _call(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Await something in the loop of DBOS."""
        if self._loop is None:
            coroutine.close()
            raise StoreError("The engine is closed.")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return await asyncio.wrap_future(future)
        except Exception as error:
            raise StoreError(f"The engine failed: {type(error).__name__}.") from error


# DBOS finds a workflow by its registered function, and there is one DBOS in a process.
_OPEN: list[DbosEngine] = []


@DBOS.workflow(name=WORKFLOW, max_recovery_attempts=MAX_EXECUTIONS)
async def _run(run_id: str) -> None:
    for engine in _OPEN:
        await engine.execute(run_id)


async def _start(run_id: str) -> None:
    with SetWorkflowID(run_id):
        await DBOS.start_workflow_async(_run, run_id)


async def _journal(asked: _Asked) -> None:
    """Return the record of a step, or have DBOS record what is found now."""

    async def body() -> str:
        asked.record.set_result(None)
        return await asyncio.wrap_future(asked.found)

    try:
        record = await DBOS.run_step_async({"name": asked.name}, body)
    except _LeftUnfinished:
        return
    except Exception as error:  # noqa: BLE001 - whatever it is, it goes where it was asked
        failure = StoreError(f"The engine failed: {type(error).__name__}.")
        (asked.kept if asked.record.done() else asked.record).set_exception(failure)
        return
    if asked.record.done():
        asked.kept.set_result(None)
    else:
        asked.record.set_result(record)


async def _delete_old() -> None:
    """Forget workflows that ended long ago; their runs are in the store."""
    before = datetime.fromtimestamp(time.time() - RETENTION_S, UTC).isoformat()
    old = await DBOS.list_workflows_async(
        completed_before=before,
        limit=MAX_DELETED_AT_ONCE,
        load_input=False,
        load_output=False,
    )
    if old:
        await DBOS.delete_workflows_async([status.workflow_id for status in old])


def _start_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=_run_loop, args=(loop,), name="dbos-loop", daemon=True).start()
    return loop


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.close()


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result()
    DBOS.destroy()
    loop.call_soon_threadsafe(loop.stop)


async def _cancel_others() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _silence_dbos() -> None:
    """Keep DBOS off the console: its lines hold stack traces with the server's paths."""
    log = logging.getLogger("dbos")
    log.handlers[:] = [logging.NullHandler()]
    log.propagate = False
