"""A box that bubblewrap made, seen from the server: started, and ended with all that is in it."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from patchkiln.sandboxes.local.box import syscalls
from patchkiln.sandboxes.local.box.plan import BoxPlan
from patchkiln.sandboxes.local.bubblewrap import command as bwrap_command
from patchkiln.sandboxes.local.bubblewrap.command import Descriptors, Sources
from patchkiln.sandboxes.local.bubblewrap.root import SHOWN
from patchkiln.sandboxes.local.zygote.template import ETC_TEXTS
from patchkiln.sandboxes.local.zygote_process import StepFailed

_SOURCE = Path(__file__).parents[4]
_AS_BOX_USER = """\
import sys
sys.path.append(sys.argv[1])
from patchkiln.sandboxes.local.bubblewrap.root import main
main(sys.argv[2])
"""
_MAX_INFO_BYTES = 1 << 16
_END_S = 10.0


class BwrapProcess:
    """A running bubblewrap, which lives as long as its box."""

    def __init__(self, process: subprocess.Popen[bytes], info: int) -> None:
        """Take the process and the pipe in which it tells the box's first one."""
        self._process = process
        self._info = info
        self._pid = 0

    @property
    def pid(self) -> int:
        """Return the pid of the box's first process on this machine, 0 while nobody knows."""
        if not self._pid:
            told = _read_all(self._info)
            self._pid = _child_pid(told)
        return self._pid

    async def end(self) -> None:
        """Kill the box and wait until nothing of it is left. Idempotent."""
        # Its first process may have made way for another one only once bubblewrap has ended.
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid or self._process.pid, signal.SIGKILL)
        await asyncio.to_thread(self._process.wait, _END_S)
        if self._info >= 0:
            os.close(self._info)
            self._info = -1


def start(
    plan: BoxPlan,
    python: str,
    control: socket.socket,
    archive: int,
    *,
    disk_bytes: int,
) -> BwrapProcess:
    """Start bubblewrap. Raises `StepFailed` and `OSError`.

    In the thread of the event loop: bubblewrap ends with the thread that started it.
    """
    with ExitStack() as opened:
        info, told = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        opened.callback(os.close, told)
        texts = {
            name: opened.enter_context(_memory(text.encode())) for name, text in ETC_TEXTS.items()
        }
        code = os.open(f"/proc/self/fd/{archive}", os.O_RDONLY | os.O_CLOEXEC)
        opened.callback(os.close, code)
        given = Descriptors(control.fileno(), code, texts, told)
        passed = [control.fileno(), code, told, *texts.values()]
        try:
            arguments, more = _arguments(plan, python, given, opened, disk_bytes)
            process = _spawn(arguments, [*passed, *more])
        except BaseException:
            os.close(info)
            raise
    return BwrapProcess(process, info)


def _arguments(
    plan: BoxPlan, python: str, given: Descriptors, opened: ExitStack, disk_bytes: int
) -> tuple[list[str], list[int]]:
    """Return the command line, and the descriptors of the host's directories."""
    wanted = [(mount["source"], mount["writable"]) for mount in plan["mounts"]]
    if plan["base"] is not None:
        wanted.insert(0, (plan["base"], False))
    as_root = os.geteuid() == 0
    try:
        places = [syscalls.open_place(source) for source, _ in wanted]
    except OSError as error:
        raise StepFailed("mounts", error.errno or 0) from error
    for place in places:
        opened.callback(os.close, place)
    shown = [
        f"{SHOWN}/{number}" if as_root else f"/proc/self/fd/{place}"
        for number, place in enumerate(places)
    ]
    base = shown.pop(0) if plan["base"] is not None else None
    command = bwrap_command.command(
        plan, python, Sources(base, shown), given, disk_bytes=disk_bytes
    )
    if not as_root:
        return command, places
    order = json.dumps({"command": command, "sources": wanted})
    return [sys.executable, "-I", "-S", "-c", _AS_BOX_USER, str(_SOURCE), order], []


def _spawn(arguments: list[str], passed: list[int]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own program, and bubblewrap
        arguments,
        env={},
        cwd="/",
        pass_fds=passed,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@contextmanager
def _memory(data: bytes) -> Generator[int]:
    """Lend a descriptor from which some bytes can be read."""
    descriptor = os.memfd_create("text")
    try:
        os.write(descriptor, data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _read_all(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _MAX_INFO_BYTES)
    except BlockingIOError:
        return b""


def _child_pid(told: bytes) -> int:
    try:
        message: Mapping[str, int] = json.loads(told)
    except ValueError:
        return 0
    return message.get("child-pid", 0)
