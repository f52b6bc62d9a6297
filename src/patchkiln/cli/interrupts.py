"""Ctrl-C: once to end in good order, twice to stop at once."""

import asyncio
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptible(on_first: Callable[[], None]) -> Generator[None]:
    """Call ``on_first`` at the first SIGINT or SIGTERM; the second cancels the current task.

    A third finds the handlers that were there before, which end the process.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    seen = False

    def interrupted() -> None:
        nonlocal seen
        if not seen:
            seen = True
            on_first()
            return
        release()
        if task is not None:
            task.cancel()

    def release() -> None:
        for number in SIGNALS:
            loop.remove_signal_handler(number)

    for number in SIGNALS:
        loop.add_signal_handler(number, interrupted)
    try:
        yield
    finally:
        release()
