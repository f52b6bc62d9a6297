"""Copying a tree from one box into another: through a pipe between two programs of theirs.

The server holds the pipe's ends for a moment and reads nothing.
"""

import asyncio
import os
from functools import partial

from patchkiln.errors import SandboxLost
from patchkiln.sandboxes.local.channel import Channel, Reply

TIMEOUT_S = 600.0
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
# Unreadable entries could not be copied, and would be missing as if they had been deleted.
_SEND = """\
find . -type d ! -perm -700 -exec chmod u+rwx {} \\;
find . -type f ! -perm -400 -exec chmod u+r {} +
exec tar -c -S -f - ."""
_TAKE = "exec tar -x -p -f -"
_CHANGED_MEANWHILE = 1  # tar(1): some files differ
_SHELL = "/bin/sh"


async def copy_tree(source: Channel, origin: str, target: Channel, place: str) -> bool:
    """Copy what lies in a directory of one box to one of another; tell whether all came over.

    Raises the line's error where a box is lost, and `SandboxLost` past the time limit.
    """
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        sending = await _start(source, _SEND, origin, (None, write))
        taking = await _start(target, _TAKE, place, (read, None))
    finally:
        os.close(read)
        os.close(write)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            sent, taken = await asyncio.gather(sending, taking)
    except TimeoutError as error:
        raise SandboxLost("The copy of the workspace took too long.") from error
    return sent <= _CHANGED_MEANWHILE and taken == 0


async def _start(
    channel: Channel, script: str, cwd: str, streams: tuple[int | None, int | None]
) -> "asyncio.Future[int]":
    """Start a script in a box; its exit code comes later."""
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    number = channel.listen(partial(_note, channel, ended))
    message = {
        "op": "exec",
        "id": number,
        "argv": [_SHELL, "-c", script],
        "env": _ENVIRONMENT,
        "cwd": cwd,
        "confirm": False,
        "terminal": False,
    }
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        given = [null if stream is None else stream for stream in streams]
        await channel.send(message, [*given, null])
    finally:
        os.close(null)
    ended.add_done_callback(lambda _: channel.forget(number))
    return ended


def _note(channel: Channel, ended: "asyncio.Future[int]", reply: Reply | None) -> None:
    if ended.done():
        return
    if reply is None:
        ended.set_exception(channel.lost())
    else:
        ended.set_result(reply.code)
