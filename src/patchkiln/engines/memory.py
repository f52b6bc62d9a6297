"""Runs as tasks of this process; what is known of them is gone with it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from patchkiln.ports.engine import Standing, Workflow


@dataclass(slots=True)
class _Known:
    """What is known of one run. Also its `Journal`."""

    records: dict[str, str] = field(default_factory=dict[str, str])
    over: bool = False

    async def step(self, name: str, work: Callable[[], Awaitable[str]]) -> str:
        """Return the record of before, or do the work."""
        if name not in self.records:
            self.records[name] = await work()
        return self.records[name]


class MemoryEngine:
    """An `Engine` of dictionaries: what it knows outlives `close`, not the object."""

    def __init__(self) -> None:
        """Know nothing."""
        self._runs: dict[str, _Known] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._workflow: Workflow | None = None

    async def open(self, workflow: Workflow) -> None:
        """Go on with what is unfinished."""
        self._workflow = workflow
        for run_id, known in self._runs.items():
            if not known.over:
                self._execute(run_id, known, workflow)

    async def start(self, run_id: str) -> None:
        """Execute a run as a task."""
        if run_id not in self._runs and self._workflow is not None:
            known = self._runs[run_id] = _Known()
            self._execute(run_id, known, self._workflow)

    async def standing(self, run_id: str) -> Standing:
        """Tell what is known of a run."""
        known = self._runs.get(run_id)
        if known is None:
            return Standing.UNKNOWN
        return Standing.OVER if known.over else Standing.UNDER_WAY

    async def finished_steps(self, run_id: str) -> Mapping[str, str]:
        """Return what a run's finished steps found."""
        known = self._runs.get(run_id)
        return {} if known is None else dict(known.records)

    async def forget(self, run_id: str) -> None:
        """Drop a run."""
        known = self._runs.get(run_id)
        if known is not None and known.over:
            del self._runs[run_id]

    async def close(self) -> None:
        """Cancel every task."""
        self._workflow = None
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _execute(self, run_id: str, known: _Known, workflow: Workflow) -> None:
        async def main() -> None:
            await workflow(run_id, known)
            known.over = True

        task = self._tasks[run_id] = asyncio.create_task(main(), name=run_id)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task.get_name(), None)
        if not task.cancelled():
            # What a workflow raises is its own to tell; asyncio must not tell it too.
            task.exception()
