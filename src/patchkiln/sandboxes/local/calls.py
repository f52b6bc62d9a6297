"""File operations of one box, seen from the server: a request, and a pipe for what is large."""

import asyncio
import errno
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from patchkiln.errors import SandboxFileError
from patchkiln.sandboxes.local.box.files import MAX_ENTRIES
from patchkiln.sandboxes.local.channel import Channel, Reply
from patchkiln.sandboxes.local.commands import pipes

# The box may stop the process that works for it.
FILE_TIMEOUT_S = 30.0


class FileCalls:
    """Sends file operations over a box's line."""

    def __init__(self, channel: Channel) -> None:
        """Take the line."""
        self._channel = channel

    async def fetch(self, request: dict[str, Any], max_bytes: int) -> bytes:
        """Return what an operation sends back. Raises `SandboxFileError` and `SandboxLost`."""
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            os.set_blocking(ours, False)
            async with _time_limit():
                replied = await self._begin(request, theirs)
                data = await pipes.read_to_end(ours, max_bytes)
                if data is None:
                    replied.cancel()
                    raise file_error(errno.EFBIG)
                self._check(await replied)
        finally:
            os.close(ours)
        return data

    async def deliver(self, request: dict[str, Any], data: bytes) -> None:
        """Run an operation that takes data. Raises `SandboxFileError` and `SandboxLost`."""
        theirs, ours = os.pipe2(os.O_CLOEXEC)
        try:
            os.set_blocking(ours, False)
            async with _time_limit():
                replied = await self._begin(request, theirs)
                await pipes.write_to_end(ours, data)
                os.close(ours)
                ours = -1
                self._check(await replied)
        finally:
            if ours >= 0:
                os.close(ours)

    async def _begin(
        self, request: dict[str, Any], descriptor: int
    ) -> asyncio.Future[Reply | None]:
        try:
            return await self._channel.begin(request, [descriptor])
        finally:
            os.close(descriptor)

    def _check(self, reply: Reply | None) -> None:
        if reply is None:
            raise self._channel.lost()
        if reply.event != "done":
            raise file_error(reply.errno)


@asynccontextmanager
async def _time_limit() -> AsyncGenerator[None]:
    try:
        async with asyncio.timeout(FILE_TIMEOUT_S):
            yield
    except TimeoutError as error:
        raise file_error(errno.ETIMEDOUT) from error


def file_error(number: int) -> SandboxFileError:
    """Return the error for a number that came out of a box."""
    if number == errno.EOVERFLOW:
        text = f"The directory has more than {MAX_ENTRIES} entries; list a part of it by a command."
        return SandboxFileError(text, errno=number)
    return SandboxFileError(f"{os.strerror(number)}.", errno=number)
