"""This process's terminal, lent to a command that runs elsewhere."""

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from patchkiln.errors import InvalidRequest, SandboxError
from patchkiln.ports.execution import Execution, TerminalSize

PIECE_BYTES = 4 << 10


def check_terminal() -> None:
    """Raise `InvalidRequest` where there is no terminal to lend."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidRequest(
            "--tty needs a terminal on both ends.",
            field="--tty",
            remedy="Leave --tty out where input or output is a pipe or a file.",
        )


def terminal_size() -> TerminalSize:
    """Return the size of the terminal."""
    columns, rows = os.get_terminal_size(sys.stdout.fileno())
    return TerminalSize(rows=rows, columns=columns)


@asynccontextmanager
async def lent_terminal(execution: Execution) -> AsyncGenerator[None]:
    """Pass every key and every change of size on, and leave the terminal as it was found."""
    descriptor = sys.stdin.fileno()
    loop = asyncio.get_running_loop()
    before = termios.tcgetattr(descriptor)
    keys: asyncio.Queue[bytes] = asyncio.Queue()
    resized = asyncio.Event()
    tasks = [
        asyncio.create_task(_write(execution, keys)),
        asyncio.create_task(_resize(execution, resized)),
    ]
    tty.setraw(descriptor)
    loop.add_reader(descriptor, lambda: keys.put_nowait(os.read(descriptor, PIECE_BYTES)))
    loop.add_signal_handler(signal.SIGWINCH, resized.set)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        for task in tasks:
            task.cancel()
        # The command may have ended under a key: that is no error of anyone's.
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception) and not isinstance(result, SandboxError):
                raise result


async def _write(execution: Execution, keys: asyncio.Queue[bytes]) -> None:
    while piece := await keys.get():
        await execution.write(piece)


async def _resize(execution: Execution, resized: asyncio.Event) -> None:
    while True:
        await resized.wait()
        resized.clear()
        await execution.resize(terminal_size())
