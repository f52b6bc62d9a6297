"""Learns that a database file has changed, whichever process changed it."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import closing, suppress
from pathlib import Path

POLL_S = 0.005
RECONCILE_S = 2.0


async def watch_file(path: Path) -> AsyncGenerator[None]:
    """Yield at first, at every change, and every `RECONCILE_S`. Polls only while it is asked."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    stop = threading.Event()

    def tell() -> None:
        with suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(changed.set)

    poll = threading.Thread(target=_poll, args=(path, stop, tell), name="store-watch", daemon=True)
    poll.start()
    try:
        while True:
            yield
            with suppress(TimeoutError):
                async with asyncio.timeout(RECONCILE_S):
                    await changed.wait()
            changed.clear()
    finally:
        stop.set()


def _poll(path: Path, stop: threading.Event, tell: Callable[[], None]) -> None:
    """Look at the version that SQLite keeps for a connection: a read of shared memory.

    It is another one after every commit of another connection
    (https://sqlite.org/pragma.html#pragma_data_version).
    """
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, isolation_level=None)) as reader:
        seen = 0
        while not stop.wait(POLL_S):
            (version,) = reader.execute("PRAGMA data_version").fetchone()
            if version != seen:
                seen = version
                tell()
