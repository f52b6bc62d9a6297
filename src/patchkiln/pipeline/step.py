"""What a step is."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from patchkiln.domain.event import JsonObject, StatusUpdate
from patchkiln.pipeline.context import RunContext
from patchkiln.pipeline.record import Found


def found_nothing(_context: RunContext) -> JsonObject:
    """Return what a step keeps whose finds no later step needs."""
    return {}


async def restore_nothing(_context: RunContext, _found: Found) -> None:
    """Leave the context as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One part of every run: its name on the stream, its work, the progress at its end.

    ``run`` yields status updates while it works and keeps what later steps need in the context.
    It raises a `PatchkilnError` to end the run; an outcome set in the context ends it early too.
    An update with a ``key`` is a milestone: told once, when the step is done for good.

    ``found`` returns, as JSON, what ``run`` has left in the context, and ``restore`` puts it back
    in a later process, where the step is not run again. It tells nothing and reaches for nothing
    but the store: what costs time is made when a step asks the context for it.
    """

    name: str
    run: Callable[[RunContext], AsyncGenerator[StatusUpdate]]
    progress: int
    found: Callable[[RunContext], JsonObject] = found_nothing
    restore: Callable[[RunContext, Found], Awaitable[None]] = restore_nothing
