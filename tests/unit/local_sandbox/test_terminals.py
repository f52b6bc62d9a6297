"""Terminals of a box that lies about them."""

import asyncio
import json
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from patchkiln.errors import SandboxLost
from patchkiln.ports.execution import TerminalSize
from patchkiln.sandboxes.local.channel import Channel
from patchkiln.sandboxes.local.commands.terminals import Terminals


def descriptors() -> set[str]:
    """Return the numbers of this process's open descriptors."""
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def directory(path: str) -> int:
    """Open a directory."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY)


@pytest.mark.parametrize(
    "lend",
    [
        lambda: directory(tempfile.gettempdir()),
        lambda: directory("/proc/self"),
        lambda: directory("/dev/pts"),
        lambda: os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY),
        lambda: os.open("/dev/null", os.O_RDWR),
    ],
)
async def test_only_a_private_directory_of_terminals_is_taken(lend: Callable[[], int]) -> None:
    """Any other, the host's own among them, loses the box; nothing in it is opened."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(ours, lambda: SandboxLost("gone"))
    terminals = Terminals(channel)
    before = descriptors()
    with theirs:
        opening = asyncio.create_task(terminals.open(TerminalSize()))
        await asyncio.sleep(0)
        request = json.loads(theirs.recv(1000))
        lent = lend()
        answer = {"event": "done", "id": request["id"]}
        socket.send_fds(theirs, [json.dumps(answer).encode()], [lent])
        os.close(lent)
        with pytest.raises(SandboxLost):
            await opening
    assert channel.closed.is_set()
    assert descriptors() <= before
    terminals.close()
