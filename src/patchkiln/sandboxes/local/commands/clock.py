"""Timers of one sandbox, which stand still while it does."""

import asyncio
import time
from collections.abc import Callable


class Timer:
    """Calls back once, after some seconds in which its clock went."""

    def __init__(self, seconds: float, callback: Callable[[], object]) -> None:
        """Take the time that is left."""
        self._left_s = seconds
        self._callback = callback
        self._began = 0.0
        self._handle: asyncio.TimerHandle | None = None
        self.over = False

    def go(self) -> None:
        """Begin, or go on."""
        self._began = time.monotonic()
        self._handle = asyncio.get_running_loop().call_later(self._left_s, self._end)

    def stop(self) -> None:
        """Stand still, keeping the time that is left."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
            self._left_s -= time.monotonic() - self._began

    def cancel(self) -> None:
        """Never call back. Idempotent."""
        self.over = True
        self.stop()

    def _end(self) -> None:
        self.over = True
        self._callback()


class Clock:
    """Runs timers."""

    def __init__(self) -> None:
        """Begin to go."""
        self._timers: set[Timer] = set()
        self._going = True

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call back after some seconds, unless the timer is cancelled."""
        self._timers = {timer for timer in self._timers if not timer.over}
        timer = Timer(seconds, callback)
        self._timers.add(timer)
        if self._going:
            timer.go()
        return timer

    def stop(self) -> None:
        """Let all timers stand still. Idempotent."""
        self._going = False
        for timer in self._timers:
            timer.stop()

    def go(self) -> None:
        """Let all timers go on. Idempotent."""
        if not self._going:
            self._going = True
            for timer in self._timers:
                if not timer.over:
                    timer.go()
