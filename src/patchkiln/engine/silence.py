"""Says what a run waits for when nothing else is told of it."""

import asyncio
import time
from collections.abc import Callable

from patchkiln.domain.event import StatusUpdate
from patchkiln.pipeline.runner import Tell

SILENCE_S = 10.0


class Silence:
    """How long ago a run's last event was."""

    def __init__(self) -> None:
        """Begin now."""
        self._since_s = time.monotonic()

    def broken(self) -> None:
        """Note that something was told."""
        self._since_s = time.monotonic()

    async def watch(self, tell: Tell, waiting_for: Callable[[], str]) -> None:
        """Tell every `SILENCE_S` of silence what the run waits for; until it is cancelled."""
        began_s = self._since_s
        while True:
            rest_s = self._since_s + SILENCE_S - time.monotonic()
            if rest_s > 0:
                await asyncio.sleep(rest_s)
                continue
            silent_s = round(time.monotonic() - began_s)
            what = waiting_for()
            await tell(
                StatusUpdate(
                    event="step.waiting",
                    message=f"Waiting for {what}, {silent_s} s by now",
                    data={"waiting_for": what, "silent_s": silent_s},
                )
            )
