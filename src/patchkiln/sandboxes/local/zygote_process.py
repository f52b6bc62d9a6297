"""The zygote, seen from the server: started once, asked for boxes, ended with its line."""

import asyncio
import errno
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from patchkiln.errors import SandboxLost, SandboxUnavailable
from patchkiln.sandboxes.local.box import wire
from patchkiln.sandboxes.local.box.plan import BoxPlan
from patchkiln.sandboxes.local.channel import Channel, Reply, parse_reply
from patchkiln.sandboxes.local.commands import pipes

START_S = 20.0
END_S = 10.0
_ENDED_BEFOREHAND = {("start", 0), ("birth", errno.EPIPE), ("birth", errno.ECONNRESET)}
_SOURCE = Path(__file__).parents[3]
_PROGRAM = """\
import sys
sys.path.append(sys.argv[1])
from patchkiln.sandboxes.local.zygote.main import main
main(int(sys.argv[2]), sys.argv[3])
"""


class StepFailed(Exception):
    """The kernel refused a step of making a box; ``number`` is the errno, 0 where unknown."""

    def __init__(self, step: str, number: int) -> None:
        """Take the step's name and the error number."""
        super().__init__(f"{step}: errno {number}")
        self.step = step
        self.number = number


class ZygoteProcess:
    """A running zygote."""

    def __init__(self, process: subprocess.Popen[bytes], line: Channel, first: Reply) -> None:
        """Take the process, its line and its first word; `start` makes them."""
        self._process = process
        self._line = line
        self.name = "the server"
        self.keeps_layers = True
        self.opens_low_ports = True
        self.as_root = first.as_root
        self.cgroup = first.cgroup

    @classmethod
    async def start(cls, staging: Path, spawned: Callable[[int], None]) -> "ZygoteProcess":
        """Start a zygote that works in a directory of its own. Raises `StepFailed`.

        ``spawned`` is told its number before anything can go wrong with it.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            _raise_descriptor_limit()
            process = _spawn(theirs.fileno(), staging)
        try:
            await asyncio.to_thread(spawned, process.pid)
            reply, _ = await next_reply(ours, "zygote")
        except BaseException:
            ours.close()
            await asyncio.to_thread(process.wait)
            raise
        return cls(process, Channel(ours, _gone), reply)

    @property
    def pid(self) -> int:
        """Return its number on this machine."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Tell whether it still serves."""
        return not self._line.closed.is_set()

    async def create(
        self, plan: BoxPlan, *, start_s: float = START_S
    ) -> tuple[Channel, list[int], int]:
        """Make a box; return the line to its PID 1, descriptors and its pid here.

        The descriptors are as many as the plan has places; what they are, the caller checks.
        Raises `StepFailed`, and `SandboxUnavailable` where the zygote is gone.
        """
        try:
            return await self._create(plan, start_s)
        except StepFailed as failure:
            if (failure.step, failure.number) not in _ENDED_BEFOREHAND:
                raise
        # One that was made beforehand may have ended while it waited, or was told.
        await self.destroy(plan["name"])
        return await self._create(plan, start_s)

    async def _create(self, plan: BoxPlan, start_s: float) -> tuple[Channel, list[int], int]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        descriptors: list[int] = []
        try:
            with theirs:
                request = {"op": "create", "box": plan}
                reply = await self._line.request(request, [theirs.fileno()])
            _raise_failure(reply)
            if plan["places"]:
                descriptors += (await next_reply(ours, "start", start_s))[1]
            await next_reply(ours, "start", start_s)
            if len(descriptors) != len(plan["places"]):
                raise StepFailed("listeners", 0)  # noqa: TRY301 - ends as every other failure here
        except BaseException:
            # Its end of the line tells the box; the zygote is told, so that it forgets the name.
            ours.close()
            wire.close_all(descriptors)
            self._line.post({"op": "destroy", "id": 0, "name": plan["name"]})
            raise
        return Channel(ours, lost_box), descriptors, reply.pid

    async def destroy(self, name: str) -> None:
        """Kill a box and wait until nothing of it is left. Idempotent."""
        with suppress(SandboxUnavailable):  # boxes end with the zygote
            await self._line.request({"op": "destroy", "name": name})

    async def hold(self, holder: str, layers: Sequence[str]) -> int:
        """Keep layers until the holder is released; return the bytes that they take.

        Raises `SandboxLost` where one of them is gone.
        """
        reply = await self._line.request({"op": "hold", "holder": holder, "layers": layers})
        if reply.event != "done":
            raise SandboxLost("The sandbox is gone.")
        return reply.disk_bytes

    async def freeze(self, name: str, *, frozen: bool) -> bool:
        """Begin to freeze or thaw a box; tell whether all of it is frozen.

        Raises `StepFailed`, with ``ENOTSUP`` where no control group can.
        """
        reply = await self._line.request({"op": "freeze", "name": name, "frozen": frozen})
        _raise_failure(reply)
        return reply.frozen

    async def measure(self, name: str) -> Reply:
        """Ask what a box uses, as far as control groups and layers tell."""
        reply = await self._line.request({"op": "measure", "name": name})
        _raise_failure(reply)
        return reply

    def release(self, holder: str) -> None:
        """Let go of what a holder keeps, soon. Idempotent."""
        if self.running:
            self._line.post({"op": "release", "id": 0, "holder": holder})

    async def stop(self) -> None:
        """End the zygote and with it every box. Idempotent."""
        self._line.close()
        await asyncio.to_thread(_wait_for_end, self._process)


def _wait_for_end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that has been told to end; one that stands still is killed."""
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _raise_descriptor_limit() -> None:
    """Let this server, and the zygote after it, have as many descriptors as they may.

    Each command takes three. And Linux counts descriptors on their way through sockets by user: up
    to their own, lower limit, boxes hold some that count as the server's too.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _spawn(control: int, staging: Path) -> subprocess.Popen[bytes]:
    arguments = (str(_SOURCE), str(control), str(staging))
    return subprocess.Popen(  # noqa: S603 - our own interpreter and program
        (sys.executable, "-I", "-S", "-c", _PROGRAM, *arguments),
        env={},
        cwd="/",
        pass_fds=(control,),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


async def next_reply(
    line: socket.socket, step: str, within_s: float = START_S
) -> tuple[Reply, Sequence[int]]:
    """Wait for the other side's word that a step succeeded. Raises `StepFailed` for any other."""
    try:
        async with asyncio.timeout(within_s):
            await pipes.readable(line.fileno())
    except TimeoutError as error:
        raise StepFailed(step, 0) from error
    body, descriptors = wire.receive_packet(line)
    reply = parse_reply(body)
    if reply is None:
        raise StepFailed(step, 0)
    _raise_failure(reply)
    return reply, descriptors


def _raise_failure(reply: Reply) -> None:
    if reply.event == "failed":
        raise StepFailed(reply.step, reply.errno)


def lost_box() -> SandboxLost:
    """Return the error of a line to a box that is gone."""
    return SandboxLost("The sandbox is gone.")


def _gone() -> SandboxUnavailable:
    return SandboxUnavailable("The process that makes local sandboxes has ended.")
