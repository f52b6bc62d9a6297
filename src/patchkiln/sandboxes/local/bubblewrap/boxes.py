"""Makes boxes by bubblewrap, on machines that let nobody else make namespaces.

The root, the filter, Landlock and the agent are those of native boxes. What differs: a workspace is
a copy of the base in a memory disk of the box's own, not a layer above it, so that no box can be
kept or forked; no control group bounds a box, and the watches of files are not bounded.
"""

import asyncio
import errno
import os
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from patchkiln.errors import SandboxUnsupported
from patchkiln.sandboxes.local.box import wire
from patchkiln.sandboxes.local.box.layout import BASE, OPT_PYTHON, WORKSPACE
from patchkiln.sandboxes.local.box.plan import BoxPlan, MountPlan
from patchkiln.sandboxes.local.bubblewrap import process as bwrap_process
from patchkiln.sandboxes.local.bubblewrap.archive import open_archive
from patchkiln.sandboxes.local.bubblewrap.command import PROGRAM
from patchkiln.sandboxes.local.bubblewrap.copying import copy_tree
from patchkiln.sandboxes.local.bubblewrap.process import BwrapProcess
from patchkiln.sandboxes.local.channel import Channel, Reply
from patchkiln.sandboxes.local.selftest.diagnosis import BUBBLEWRAP_STEP
from patchkiln.sandboxes.local.selftest.tools import Tools
from patchkiln.sandboxes.local.zygote_process import (
    START_S,
    StepFailed,
    lost_box,
    next_reply,
)

_VERSION = re.compile(r"bubblewrap (\d+)\.(\d+)")
_OLDEST = (0, 7)  # --size, --perms and --disable-userns
_PAGE_BYTES = 4096
_VERSION_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Box:
    """A box that was made, and the line to its PID 1."""

    process: BwrapProcess
    channel: Channel


class Bubblewrap:
    """Implements `Namespaces`."""

    def __init__(self, version: str, tools: Tools) -> None:
        """Take its version, and the tools that boxes are lent: the agent needs the Python."""
        self.name = version
        self.pid = os.getpid()
        self.as_root = os.geteuid() == 0
        self.cgroup = 0
        self.keeps_layers = False
        self.opens_low_ports = False
        self.running = True
        self._python = _python_in_box(tools)
        self._archive = open_archive()
        self._lent = [mount for mount in tools.mounts if mount["target"] == OPT_PYTHON]
        self._boxes: dict[str, _Box] = {}

    @classmethod
    async def start(cls, tools: Tools) -> "Bubblewrap":
        """Find it. Raises `StepFailed`, with ``ENOENT`` where it is missing or too old."""
        version = await asyncio.to_thread(_find_version)
        return await asyncio.to_thread(cls, version, tools)

    async def create(
        self, plan: BoxPlan, *, start_s: float = START_S
    ) -> tuple[Channel, list[int], int]:
        """Make a box, and copy into it what its workspace shows."""
        base, reviewed = plan["base"], plan["purpose"] == "review"
        base_bytes = 0 if base is None else await asyncio.to_thread(_tree_bytes, base)
        limits = plan["limits"]
        shown: BoxPlan = {
            **plan,
            # The copy is written in the box: a file of the base may be larger than its disk.
            "limits": {**limits, "file_bytes": limits["file_bytes"] + base_bytes},
            "base": base if reviewed else None,
            "mounts": [*self._lent, *_without_python(plan["mounts"])],
        }
        box, descriptors = await self._make(shown, limits["disk_bytes"] + base_bytes, start_s)
        try:
            if reviewed:
                await _copy(self._boxes[plan["chain"][0]].channel, WORKSPACE, box.channel)
            elif base is not None:
                await self._copy_base(plan, box.channel)
        except BaseException:
            wire.close_all(descriptors)
            box.channel.close()
            await self.destroy(plan["name"])
            raise
        return box.channel, descriptors, box.process.pid

    async def destroy(self, name: str) -> None:
        """Kill a box and wait until nothing of it is left. Idempotent."""
        box = self._boxes.pop(name, None)
        if box is not None:
            box.channel.close()
            await box.process.end()

    async def hold(self, holder: str, layers: Sequence[str]) -> int:
        """Refuse: what a box holds ends with it."""
        raise SandboxUnsupported(
            f"Sandboxes made by bubblewrap cannot be kept ({holder}: {len(layers)})."
        )

    async def freeze(self, name: str, *, frozen: bool) -> bool:
        """Leave it to the box's own PID 1: there is no control group."""
        raise StepFailed(f"{'freeze' if frozen else 'thaw'} {name}", errno.ENOTSUP)

    async def measure(self, name: str) -> Reply:
        """Leave it to the box's own PID 1."""
        if name not in self._boxes:
            raise lost_box()
        return Reply(event="done", disk_bytes=-1)

    def release(self, holder: str) -> None:
        """Keep nothing, and so let go of nothing."""
        del holder

    async def stop(self) -> None:
        """End every box. Idempotent."""
        self.running = False
        await asyncio.gather(*(self.destroy(name) for name in list(self._boxes)))
        if self._archive >= 0:
            os.close(self._archive)
            self._archive = -1

    async def _make(
        self, plan: BoxPlan, disk_bytes: int, start_s: float = START_S
    ) -> tuple[_Box, list[int]]:
        """Make a box as it is, its workspace empty."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        descriptors: list[int] = []
        try:
            with theirs:
                process = bwrap_process.start(
                    plan, self._python, theirs, self._archive, disk_bytes=disk_bytes
                )
            try:
                _tell(ours, plan)
                if plan["places"]:
                    descriptors += (await next_reply(ours, BUBBLEWRAP_STEP, start_s))[1]
                await next_reply(ours, BUBBLEWRAP_STEP, start_s)
                if len(descriptors) != len(plan["places"]):
                    raise StepFailed("listeners", 0)  # noqa: TRY301 - ends as every other failure
            except BaseException:
                await process.end()
                raise
        except BaseException:
            ours.close()
            wire.close_all(descriptors)
            raise
        box = _Box(process=process, channel=Channel(ours, lost_box))
        self._boxes[plan["name"]] = box
        return box, descriptors

    async def _copy_base(self, plan: BoxPlan, target: Channel) -> None:
        """Copy the base by way of a box that sees it: the other is not to learn where it lies."""
        room: BoxPlan = {
            **plan,
            "name": f"{plan['name']}.{secrets.token_hex(4)}",
            "mounts": self._lent,
            "addresses": [],
            "places": [],
            "site": None,
        }
        box, _ = await self._make(room, _PAGE_BYTES)
        try:
            await _copy(box.channel, BASE, target)
        finally:
            await self.destroy(room["name"])


def _without_python(mounts: list[MountPlan]) -> list[MountPlan]:
    """Leave out the interpreter, which every box here has: its agent runs by it."""
    return [mount for mount in mounts if mount["target"] != OPT_PYTHON]


def _tell(line: socket.socket, plan: BoxPlan) -> None:
    try:
        wire.send(line, {**plan})
    except ConnectionError as error:  # bubblewrap has ended already
        raise StepFailed(BUBBLEWRAP_STEP, 0) from error


async def _copy(source: Channel, place: str, target: Channel) -> None:
    if not await copy_tree(source, place, target, WORKSPACE):
        raise StepFailed("workspace", errno.ENOSPC)


def is_installed() -> bool:
    """Tell whether there is a bubblewrap to try."""
    return os.access(PROGRAM, os.X_OK)


def _find_version() -> str:
    """Return what it calls itself. Raises `StepFailed`."""
    try:
        done = subprocess.run(  # noqa: S603 - a program of the system
            [PROGRAM, "--version"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_VERSION_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StepFailed(BUBBLEWRAP_STEP, errno.ENOENT) from error
    match = _VERSION.match(done.stdout)
    if match is None or (int(match[1]), int(match[2])) < _OLDEST:
        raise StepFailed(BUBBLEWRAP_STEP, errno.ENOENT)
    return done.stdout.strip()


def _python_in_box(tools: Tools) -> str:
    if tools.own_python is not None:
        return f"{OPT_PYTHON}/bin/python3"
    prefix = os.path.realpath(sys.base_prefix)
    if prefix.startswith("/usr"):
        return f"{prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    return "/usr/bin/python3"


def _tree_bytes(directory: str) -> int:
    """Return what a checkout of the cache takes on a disk, in whole pages."""
    total = 0
    for place, directories, names in os.walk(directory):
        total += _PAGE_BYTES * len(directories)
        for name in names:
            # Not its blocks: a file that was written just now may have none yet.
            total += os.lstat(f"{place}/{name}").st_size // _PAGE_BYTES * _PAGE_BYTES + _PAGE_BYTES
    return total + total // 8
