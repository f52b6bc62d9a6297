"""What carries runs out to their end, though the process dies in between."""

from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Protocol, TypeAlias


class Journal(Protocol):
    """What is known of one run's finished steps; given to its workflow, for one execution."""

    async def step(self, name: str, work: Callable[[], Awaitable[str]]) -> str:
        """Return what the step found: the record of before, or what ``work`` returns now.

        What ``work`` returns is kept when this returns, for good: the step is never done again.
        Where ``work`` raises, nothing is kept, and the workflow may ask for no further step. A
        workflow asks for the same steps in the same order at every execution. The text is ASCII,
        and should stay below 100 KB. ``work`` runs in the caller's own task.
        """
        ...


# Carries out one run, by its id. Where it raises, or its process dies, the run is left unfinished,
# and the workflow begins anew at the next `Engine.open`.
Workflow: TypeAlias = Callable[[str, Journal], Awaitable[None]]


class Standing(StrEnum):
    """What an engine knows of a run.

    ``OTHER_VERSION``: it is unfinished, and waits for a server of the version that began it.
    ``OVER``: its workflow has ended, or was given up because it never ends.
    """

    UNKNOWN = "unknown"
    UNDER_WAY = "under_way"
    OTHER_VERSION = "other_version"
    OVER = "over"


class Engine(Protocol):
    """Executes a workflow once for each run, to its end, at least once each step.

    Every method but `open` and `close` needs an open engine. All may raise `StoreError`
    (retryable).
    """

    async def open(self, workflow: Workflow) -> None:
        """Begin to execute, in the running event loop, first what was left unfinished."""
        ...

    async def start(self, run_id: str) -> None:
        """Execute a run; when this returns, no crash makes it forgotten. Idempotent."""
        ...

    async def standing(self, run_id: str) -> Standing:
        """Tell what is known of a run."""
        ...

    async def finished_steps(self, run_id: str) -> Mapping[str, str]:
        """Return what a run's finished steps found, by name, in their order."""
        ...

    async def forget(self, run_id: str) -> None:
        """Drop all that is known of a run that is not under way. Idempotent."""
        ...

    async def close(self) -> None:
        """Stop every execution where it stands; they go on at the next `open`. Idempotent."""
        ...
