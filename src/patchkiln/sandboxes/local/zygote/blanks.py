"""Boxes that are nobody's yet: made beforehand, they wait to be told which box they are.

A blank has its namespaces, its control groups and the root that all boxes have, and no code but
ours has run in it. It goes on as every box does, and never becomes a blank again.
"""

import itertools
import os
import signal
import socket
from typing import NamedTuple

from patchkiln.sandboxes.local.box import syscalls
from patchkiln.sandboxes.local.box.layout import BOX_GID, BOX_UID, HOST_GID, HOST_UID
from patchkiln.sandboxes.local.zygote import bringup, hostmounts
from patchkiln.sandboxes.local.zygote.cgroups import Cgroups

# What is made beforehand, in idle moments; each takes about 2 MB of memory.
POOL_SIZE = 2
_NAMESPACES = (
    syscalls.CLONE_NEWUSER
    | syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUTS
)


class Blank(NamedTuple):
    """A process that waits at the other end of a line, and its control groups' name."""

    pid: int
    group: str
    line: socket.socket
    shared_proc: bool


class Blanks:
    """Makes blanks, and keeps a few."""

    def __init__(self, cgroups: Cgroups | None, *, as_root: bool) -> None:
        """Take the control groups, and whether root made them."""
        self._cgroups = cgroups
        self._as_root = as_root
        self._numbers = itertools.count(1)
        self._waiting: list[Blank] = []
        # As the last box was wanted; None: nothing is to be made beforehand.
        self._shared_proc: bool | None = None

    def take(self, *, shared_proc: bool) -> Blank | None:
        """Return one that waits and is alive, if there is one."""
        self._shared_proc = shared_proc
        while self._waiting:
            blank = self._waiting.pop(0)
            if blank.shared_proc == shared_proc and _is_alive(blank.pid):
                return blank
            self.end(blank)
        return None

    def make_group(self) -> str:
        """Make control groups; return their name."""
        name = f"box-{next(self._numbers)}"
        if self._cgroups is not None:
            self._cgroups.create(name)
        return name

    def make(self, group: str, *, shared_proc: bool, beforehand: bool = False) -> Blank:
        """Make one in control groups of its own. Raises `OSError`.

        ``beforehand``: it ends where it fails, for nobody waits for its word.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        gate, opener = os.pipe2(os.O_CLOEXEC)
        doors = None if self._cgroups is None else self._cgroups.open(group)
        try:
            pid = syscalls.clone_process(_NAMESPACES, None if doors is None else doors.directory)
            if not pid:
                bringup.become_box(bringup.Origin(theirs, gate, doors, shared_proc, beforehand))
            self._release(pid, opener)
        except OSError:
            ours.close()
            self._remove_group(group)
            raise
        finally:
            theirs.close()
            os.close(gate)
            os.close(opener)
            if doors is not None:
                doors.close()
        return Blank(pid, group, ours, shared_proc)

    @property
    def wanted(self) -> bool:
        """Tell whether another one should be made in an idle moment."""
        return self._shared_proc is not None and len(self._waiting) < POOL_SIZE

    def refill(self) -> None:
        """Make another one; where that fails, the next box that is wanted will tell why."""
        shared_proc = bool(self._shared_proc)
        try:
            group = self.make_group()
            self._waiting.append(self.make(group, shared_proc=shared_proc, beforehand=True))
        except OSError:
            self._shared_proc = None

    def forget(self, pid: int) -> None:
        """Drop one that has ended, if it was one; no other is made before a box is wanted."""
        for blank in [blank for blank in self._waiting if blank.pid == pid]:
            self._shared_proc = None
            self._waiting.remove(blank)
            blank.line.close()
            self._remove_group(blank.group)

    def close(self) -> None:
        """End all that wait."""
        while self._waiting:
            self.end(self._waiting.pop())

    def end(self, blank: Blank) -> None:
        """End one, and wait for that: it has nothing to clean up."""
        os.kill(blank.pid, signal.SIGKILL)
        os.waitpid(blank.pid, 0)
        blank.line.close()
        self._remove_group(blank.group)

    def _release(self, pid: int, opener: int) -> None:
        """Say who the new process is, and let it go on."""
        uid, gid = (HOST_UID, HOST_GID) if self._as_root else (0, 0)
        try:
            hostmounts.write_id_maps(pid, (BOX_UID, uid), (BOX_GID, gid))
        except OSError:
            os.kill(pid, signal.SIGKILL)
            raise
        os.write(opener, b"!")

    def _remove_group(self, group: str) -> None:
        if self._cgroups is not None:
            self._cgroups.remove(group)


def _is_alive(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
