"""A command's input on its way into the box: written as fast as the command takes it."""

import asyncio
import os
import termios
from collections.abc import AsyncIterable

from patchkiln.errors import SandboxError

_BLOCK_BYTES = 1 << 16
_CONTROL_CHARACTERS = 6  # the place of the list in what tcgetattr returns


class CommandInput:
    """The writing end of a pipe, or of a terminal."""

    def __init__(self, descriptor: int, *, terminal: bool = False) -> None:
        """Own a descriptor, which never blocks."""
        self._descriptor = descriptor
        self._terminal = terminal
        self._in_turn = asyncio.Lock()
        self._finished = False
        self._room: asyncio.Future[None] | None = None

    async def write(self, data: bytes) -> None:
        """Write all of it, after what others write. Raises `SandboxError` once it is closed."""
        async with self._in_turn:
            if self._finished:
                raise _closed()
            await self._write(data)

    async def finish(self) -> None:
        """End the input after what was written. Idempotent."""
        async with self._in_turn:
            if self._finished or self._descriptor < 0:
                return
            self._finished = True
            if self._terminal:
                await self._write(self._end_of_file())
            else:
                self.close()

    async def feed(self, source: bytes | AsyncIterable[bytes]) -> None:
        """Write what a caller gave at the start; a pipe is closed after it.

        Raises what the source raises; a command that takes no more is no error.
        """
        if isinstance(source, bytes):
            await self._offer(source)
        else:
            async for block in source:
                if not await self._offer(block):
                    return
        if not self._terminal:
            await self.finish()

    async def _offer(self, data: bytes) -> bool:
        """Write all of it; tell whether the command still takes input."""
        try:
            await self.write(data)
        except SandboxError:
            return False
        return True

    def close(self) -> None:
        """Close it at once; who waits is told. Idempotent."""
        if self._descriptor < 0:
            return
        self._stop_waiting()
        os.close(self._descriptor)
        self._descriptor = -1

    async def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            if self._descriptor < 0:
                raise _closed()
            try:
                rest = rest[os.write(self._descriptor, rest[:_BLOCK_BYTES]) :]
            except BlockingIOError:
                await self._wait_for_room()
            except OSError as error:  # nobody is there to read it any more
                self.close()
                raise _closed() from error

    def _end_of_file(self) -> bytes:
        """Return the character that ends a terminal's input, which the command may choose."""
        characters: list[bytes] = termios.tcgetattr(self._descriptor)[_CONTROL_CHARACTERS]
        return characters[termios.VEOF]

    async def _wait_for_room(self) -> None:
        loop = asyncio.get_running_loop()
        self._room = loop.create_future()
        loop.add_writer(self._descriptor, self._stop_waiting)
        try:
            await self._room
        finally:
            self._stop_waiting()

    def _stop_waiting(self) -> None:
        if self._room is not None:
            asyncio.get_running_loop().remove_writer(self._descriptor)
            room, self._room = self._room, None
            if not room.done():
                room.set_result(None)


def _closed() -> SandboxError:
    return SandboxError(
        "The command's input is closed.",
        remedy="Write before the command ends, and before its input is closed.",
    )
