"""This process's stdin, for a command that runs elsewhere."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterable, AsyncIterator
from concurrent.futures import CancelledError

PIECE_BYTES = 64 << 10


def standard_input() -> bytes | AsyncIterable[bytes]:
    """Return stdin as a stream; nothing where it is a terminal or closed."""
    if sys.stdin is None or sys.stdin.isatty():
        return b""
    return _pieces(sys.stdin.fileno())


async def _pieces(descriptor: int) -> AsyncIterator[bytes]:
    """Read in a daemon thread: a pipe that nobody closes must not keep this process from ending."""
    queue: asyncio.Queue[bytes] = asyncio.Queue(maxsize=1)
    loop = asyncio.get_running_loop()

    def read() -> None:
        piece = b" "
        while piece:
            piece = os.read(descriptor, PIECE_BYTES)
            try:
                asyncio.run_coroutine_threadsafe(queue.put(piece), loop).result()
            except (RuntimeError, CancelledError):
                return  # the loop is closed: nobody wants more

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while piece := await queue.get():
        yield piece
