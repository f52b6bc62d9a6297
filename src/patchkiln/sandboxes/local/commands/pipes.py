"""Pipes between the server and a box, read and written without blocking the event loop."""

import asyncio
import os
from collections.abc import Callable

_BLOCK_BYTES = 1 << 18


async def readable(descriptor: int) -> None:
    """Wait until a descriptor can be read, or is at its end."""
    loop = asyncio.get_running_loop()
    await _wait(descriptor, loop.add_reader, loop.remove_reader)


async def read_to_end(descriptor: int, max_bytes: int) -> bytes | None:
    """Read a non-blocking pipe to its end; None when more comes than allowed."""
    data = bytearray()
    while len(data) <= max_bytes:
        block = await _read_some(descriptor)
        if not block:
            return bytes(data)
        data += block
    return None


async def write_to_end(descriptor: int, data: bytes) -> bool:
    """Write to a non-blocking pipe; tell whether all was written before the reader left."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest[:_BLOCK_BYTES]) :]
        except BlockingIOError:
            loop = asyncio.get_running_loop()
            await _wait(descriptor, loop.add_writer, loop.remove_writer)
        except BrokenPipeError:
            return False
    return True


async def _read_some(descriptor: int) -> bytes:
    while True:
        try:
            return os.read(descriptor, _BLOCK_BYTES)
        except BlockingIOError:
            await readable(descriptor)


async def _wait(
    descriptor: int,
    add: Callable[..., object],
    remove: Callable[[int], object],
) -> None:
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    add(descriptor, _resolve, ready)
    try:
        await ready
    finally:
        remove(descriptor)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
