"""Says what a run waits for when nothing else is told of it."""

import asyncio
import time
from collections.abc import Callable

from patchkiln.domain.event import StatusUpdate
from patchkiln.pipeline.runner import Tell

SILENCE_S = 10.0
STEP_WAITING = "step.waiting"


class Silence:
    """How long ago it is that something happened in a run."""

    def __init__(self) -> None:
        """Begin now."""
        self._since_s = time.monotonic()

    def broken_by(self, update: StatusUpdate) -> None:
        """Note that something was told; to say that one waits is no news."""
        if update.event != STEP_WAITING:
            self._since_s = time.monotonic()

    async def watch(self, tell: Tell, waiting_for: Callable[[], str]) -> None:
        """Tell after every `SILENCE_S` of silence what the run waits for; until it is cancelled."""
        since_s, due_s = 0.0, 0.0
        while True:
            if self._since_s != since_s:
                since_s, due_s = self._since_s, self._since_s + SILENCE_S
            now_s = time.monotonic()
            if now_s < due_s:
                await asyncio.sleep(due_s - now_s)
            else:
                due_s += SILENCE_S
                await tell(_waiting(waiting_for(), now_s - since_s))


def _waiting(what: str, silent_s: float) -> StatusUpdate:
    return StatusUpdate(
        event=STEP_WAITING,
        message=f"Waiting for {what}, {silent_s:.0f} s by now",
        data={"waiting_for": what, "silent_s": round(silent_s, 1)},
    )
