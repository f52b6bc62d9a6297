"""Locks on files, between the tasks of a process and between processes.

Each lock is an open file description of its own (flock(2)), so that two tasks of one process
exclude each other as two processes do, and a process that dies lets go. A lock file may be deleted
by who holds it exclusively: a lock on a file that is gone is not granted to anyone.
"""

import asyncio
import fcntl
import os
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path


def try_lock(path: Path, *, shared: bool = False) -> int | None:
    """Lock a file, made when missing, and return its descriptor; None where another holds it."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if _present(path, descriptor):
            return descriptor
        os.close(descriptor)


@asynccontextmanager
async def locked(path: Path) -> AsyncGenerator[None]:
    """Hold a file's exclusive lock; waiting may be cancelled and blocks nobody."""
    descriptor = try_lock(path)
    while descriptor is None:
        descriptor = await _wait(path)
    try:
        yield
    finally:
        os.close(descriptor)


async def _wait(path: Path) -> int | None:
    """Let a thread wait: a daemon, so that a lock held elsewhere delays no shutdown.

    None where the file was deleted meanwhile.
    """
    loop = asyncio.get_running_loop()
    granted: asyncio.Future[int] = loop.create_future()
    descriptor = _open(path)

    def block() -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            loop.call_soon_threadsafe(_hand_over, granted, descriptor)
        except RuntimeError:  # the loop has ended meanwhile
            os.close(descriptor)

    threading.Thread(target=block, name=f"lock {path.name}", daemon=True).start()
    try:
        descriptor = await granted
    except asyncio.CancelledError:
        if granted.done() and not granted.cancelled():
            os.close(granted.result())
        raise
    if _present(path, descriptor):
        return descriptor
    os.close(descriptor)
    return None


def _hand_over(granted: asyncio.Future[int], descriptor: int) -> None:
    if granted.cancelled():
        os.close(descriptor)
    else:
        granted.set_result(descriptor)


def _present(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
