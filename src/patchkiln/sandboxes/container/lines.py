"""The line to a container's PID 1: a socket in a directory that the container is shown.

The directory holds nothing else. One connection is accepted, the container's first process being
the only one that could make it, and then nobody listens any more.
"""

import asyncio
import os
import shutil
import socket
from pathlib import Path

from patchkiln.sandboxes.container.agent import LINE_NAME, AgentPlan
from patchkiln.sandboxes.local.box import wire
from patchkiln.sandboxes.local.channel import Reply, parse_reply
from patchkiln.sandboxes.local.commands import pipes

START_S = 30.0
_DIRECTORY_MODE = 0o755
_SOCKET_MODE = 0o666


class NoAnswer(Exception):
    """A container's PID 1 did not come up; ``reply`` is what it said of it, if anything."""

    def __init__(self, reply: Reply | None = None) -> None:
        """Take its last word."""
        super().__init__()
        self.reply = reply


class Doorway:
    """The host's side before a container has started."""

    def __init__(self, directory: Path) -> None:
        """Make the directory, and listen in it. Raises `OSError`."""
        self.directory = directory
        directory.mkdir(parents=True, mode=_DIRECTORY_MODE)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._listen()
        except OSError:
            self.close()
            raise

    async def accept(self, plan: AgentPlan) -> tuple[socket.socket, list[int]]:
        """Wait for PID 1, tell it its plan, and return the line when it serves.

        Beside it come the descriptors of the plan's places, in order. Raises `NoAnswer`.
        """
        try:
            async with asyncio.timeout(START_S):
                line, _ = await asyncio.get_running_loop().sock_accept(self._listener)
        except (TimeoutError, OSError) as error:
            raise NoAnswer from error
        self.close()
        descriptors: list[int] = []
        try:
            await _introduce(line, plan, descriptors)
        except BaseException:
            wire.close_all(descriptors)
            line.close()
            raise
        return line, descriptors

    def close(self) -> None:
        """Listen no more, and take the directory away. Idempotent."""
        self._listener.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _listen(self) -> None:
        """Listen by way of a descriptor: a socket's path must not be longer than 107 bytes."""
        self.directory.chmod(_DIRECTORY_MODE)
        place = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._listener.bind(f"/proc/self/fd/{place}/{LINE_NAME}")
        finally:
            os.close(place)
        # The container's user is nobody of this machine; the way to here is closed to others.
        (self.directory / LINE_NAME).chmod(_SOCKET_MODE)
        self._listener.listen(1)
        self._listener.settimeout(0.0)


async def _introduce(line: socket.socket, plan: AgentPlan, descriptors: list[int]) -> None:
    """Tell PID 1 its plan, and collect what it passes out. Raises `NoAnswer`."""
    try:
        wire.send(line, dict(plan))
        if plan["places"]:
            descriptors += await _hear(line, "listening", len(plan["places"]))
        await _hear(line, "ready", 0)
    except (TimeoutError, OSError) as error:
        raise NoAnswer from error


async def _hear(line: socket.socket, event: str, count: int) -> list[int]:
    """Wait for one event, which brings so many descriptors."""
    async with asyncio.timeout(START_S):
        await pipes.readable(line.fileno())
    body, descriptors = wire.receive_packet(line, count)
    reply = parse_reply(body)
    if reply is None or reply.event != event or len(descriptors) != count:
        wire.close_all(descriptors)
        raise NoAnswer(reply)
    return descriptors
