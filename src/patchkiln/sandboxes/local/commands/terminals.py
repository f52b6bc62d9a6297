"""Terminals of a box, opened by the server on the box's private devpts.

The box lends the directory; the kernel makes the terminal in it. So the server's side of a terminal
is never in the box's hands, which could make it block, and the box sees none of the host's.
Sources: pts(4), ioctl_tty(2), the kernel's filesystems/devpts.
"""

import asyncio
import fcntl
import os
import stat
import struct
import termios

from patchkiln.errors import SandboxUnsupported
from patchkiln.ports.execution import TerminalSize
from patchkiln.sandboxes.local.box import syscalls
from patchkiln.sandboxes.local.box.layout import HOST_GID, HOST_UID
from patchkiln.sandboxes.local.channel import Channel

ANSWER_S = 10.0
_MAX_CHARACTERS = 0xFFFF
_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441
_DEVPTS = 0x1CD1


class Terminals:
    """Opens terminals of one box."""

    def __init__(self, channel: Channel) -> None:
        """Take the box's line."""
        self._channel = channel
        self._directory = -1
        self._asking = asyncio.Lock()

    async def open(self, size: TerminalSize) -> tuple[int, int]:
        """Return the server's side, which never blocks, and the command's.

        Raises `SandboxLost`, also where the box lends something else, and `SandboxUnsupported`
        where it has none.
        """
        async with self._asking:
            if self._directory < 0:
                self._directory = await self._ask()
        return _open(self._directory, size)

    def close(self) -> None:
        """Give the directory back. Idempotent."""
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1

    async def _ask(self) -> int:
        try:
            async with asyncio.timeout(ANSWER_S):
                request = {"op": "terminals"}
                reply, descriptors = await self._channel.request_descriptors(request, 1)
        except TimeoutError as error:
            self._channel.close()
            raise self._channel.lost() from error
        if reply.event == "failed" and not descriptors:
            raise SandboxUnsupported(
                "A sandbox that bubblewrap made with a network has no terminals."
            )
        if descriptors and _is_private_devpts(descriptors[0]):
            return descriptors[0]
        for descriptor in descriptors:
            os.close(descriptor)
        self._channel.close()
        raise self._channel.lost()


def resize(terminal: int, size: TerminalSize) -> None:
    """Change a terminal's size; the kernel tells those who run on it (``SIGWINCH``)."""
    words = struct.pack("HHHH", _bounded(size.rows), _bounded(size.columns), 0, 0)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, words)


def _open(directory: int, size: TerminalSize) -> tuple[int, int]:
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    terminal = os.open("ptmx", flags | os.O_NONBLOCK, dir_fd=directory)
    try:
        fcntl.ioctl(terminal, _TIOCSPTLCK, struct.pack("i", 0))
        resize(terminal, size)
        peer = fcntl.ioctl(terminal, _TIOCGPTPEER, flags)
        if os.geteuid() == 0:  # the devpts that bubblewrap mounts does not say whose they are
            os.fchown(peer, HOST_UID, HOST_GID)
    except BaseException:
        os.close(terminal)
        raise
    return terminal, peer


def _is_private_devpts(descriptor: int) -> bool:
    """Tell whether it is a directory of terminals, and not the host's own."""
    status = os.fstat(descriptor)
    if not stat.S_ISDIR(status.st_mode) or syscalls.file_system_type(descriptor) != _DEVPTS:
        return False
    try:
        return status.st_dev != os.stat("/dev/pts").st_dev
    except OSError:  # the host has none
        return True


def _bounded(characters: int) -> int:
    return min(max(characters, 1), _MAX_CHARACTERS)
