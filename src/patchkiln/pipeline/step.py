"""What a step is."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from patchkiln.domain.event import StatusUpdate
from patchkiln.pipeline.context import RunContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One part of every run: its name on the stream, its work, the progress at its end.

    ``run`` yields status updates while it works and keeps what later steps need in the context.
    It raises a `PatchkilnError` to end the run; an outcome set in the context ends it early too.
    """

    name: str
    run: Callable[[RunContext], AsyncGenerator[StatusUpdate]]
    progress: int
