"""A server whose runs can be held, or killed, at any step: ``python held_server.py DIRECTORY``.

A run whose metadata has ``hold`` as ``STEP:begin`` or ``STEP:end`` makes the file of that name and
its id in the directory, and goes on when there is a file ``go``. With ``poison`` as ``STEP`` it
kills the server there, each time.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

from patchkiln.cli import main
from patchkiln.domain.event import StatusUpdate
from patchkiln.pipeline import runner
from patchkiln.pipeline.context import RunContext
from patchkiln.pipeline.step import Step
from patchkiln.pipeline.steps import STEPS

DIRECTORY = Path(sys.argv[1])


async def hold(context: RunContext, place: str) -> None:
    """Wait where the run asks for it."""
    if context.run.request.metadata.get("hold") == place:
        (DIRECTORY / f"{place}-{context.run.id}").touch()
        while not (DIRECTORY / "go").exists():  # noqa: ASYNC110 - files have no event
            await asyncio.sleep(0.02)


def held(step: Step) -> Step:
    """Return the step with its places to wait at."""

    async def run(context: RunContext) -> AsyncGenerator[StatusUpdate]:
        if context.run.request.metadata.get("poison") == step.name:
            os.kill(os.getpid(), signal.SIGKILL)
        await hold(context, f"{step.name}:begin")
        async for update in step.run(context):
            yield update
        await hold(context, f"{step.name}:end")

    return replace(step, run=run)


if __name__ == "__main__":
    setattr(runner, "STEPS", tuple(map(held, STEPS)))  # noqa: B010 - another module's name
    sys.argv = ["patchkiln", "serve"]
    sys.exit(main())
