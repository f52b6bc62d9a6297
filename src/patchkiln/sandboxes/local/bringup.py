"""The way from a cloned process to the PID 1 of a box, step by step.

Runs in the cloned process alone. A step that fails is reported by its name, because the name is
what tells a person which facility of the kernel is missing.
"""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn, TypeAlias

from patchkiln.sandboxes.local import (
    disk,
    flatten,
    hardening,
    init,
    loopback,
    rootfs,
    syscalls,
    wire,
)
from patchkiln.sandboxes.local.cgroups import Doors
from patchkiln.sandboxes.local.layout import BOX_GID, BOX_UID
from patchkiln.sandboxes.local.plan import BoxPlan
from patchkiln.sandboxes.network.places import Place, open_place

_CONTROL = 3
_OOM_SCORE = 4
_FIRST_OTHER = 5
_LAST_DESCRIPTOR = 1 << 16

_Step: TypeAlias = tuple[str, Callable[[], object]]


class Birth(NamedTuple):
    """What a new process is given.

    ``control`` leads to the server; ``gate`` opens when the zygote is ready; ``base`` and
    ``mounts`` are detached mounts; ``doors`` lead into the box's control groups, which bound its
    memory; where there are none, it watches over itself.
    """

    plan: BoxPlan
    control: socket.socket
    gate: int
    base: int | None
    mounts: list[int]
    doors: Doors | None


def become_box(birth: Birth) -> NoReturn:
    """Turn this process into PID 1 of a box; never returns."""
    try:
        _BringUp(birth).run()
    finally:
        os._exit(1)


class _BringUp:
    def __init__(self, birth: Birth) -> None:
        self._birth = birth
        self._oom_score = -1

    def run(self) -> None:
        control = self._birth.control
        for name, act in self._steps():
            try:
                act()
            except OSError as error:
                wire.send(control, {"event": "failed", "step": name, "errno": error.errno or 0})
                return
        wire.send(control, {"event": "ready"})
        line, oom_score = self._keep_only_lines()
        limit = self._birth.plan["limits"]["memory_bytes"] if self._birth.doors is None else None
        init.serve(line, oom_score, limit)

    def _steps(self) -> Iterator[_Step]:
        plan, limits = self._birth.plan, self._birth.plan["limits"]
        yield "identity", self._take_identity
        yield "cgroup namespace", lambda: syscalls.unshare(syscalls.CLONE_NEWCGROUP)
        yield "root", rootfs.make_root
        yield "system", rootfs.share_system
        yield "proc", lambda: rootfs.mount_proc(shared=plan["shared_proc"])
        yield "devices", lambda: rootfs.mount_own_devices(limits)
        yield "scratch", lambda: disk.mount_scratch(plan)
        yield "workspace", lambda: disk.mount_workspace(plan, self._birth.base)
        yield "mounts", lambda: rootfs.attach_mounts(plan, self._birth.mounts)
        yield "loopback", lambda: loopback.bring_up(plan["addresses"])
        # Before the limits: other boxes' descriptors on their way count with these.
        yield "listeners", self._pass_out_sockets
        yield "pivot", rootfs.enter_root
        if plan["purpose"] == "flatten":
            based = plan["base"] is not None
            yield "flatten", lambda: flatten.join_layers(len(plan["chain"]), with_base=based)
        yield "hostname", hardening.name_machine
        yield "resource limits", lambda: hardening.set_resource_limits(limits)
        yield "capabilities", hardening.drop_privileges
        yield "landlock", lambda: hardening.restrict_files(plan["mounts"])
        counted = self._birth.doors is not None
        yield "seccomp", lambda: hardening.filter_system_calls(counted=counted)

    def _take_identity(self) -> None:
        """Wait until the zygote has written the id maps, then be the box's user."""
        signal.set_wakeup_fd(-1)
        if self._birth.doors is not None:
            self._birth.doors.enter()
        if not os.read(self._birth.gate, 1):
            raise OSError
        os.setresgid(BOX_GID, BOX_GID, BOX_GID)
        os.setresuid(BOX_UID, BOX_UID, BOX_UID)
        # Only after the change of identity, which clears both.
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
        self._oom_score = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        os.setsid()

    def _pass_out_sockets(self) -> None:
        opened = [open_place(Place(*place)) for place in self._birth.plan["places"]]
        if opened:
            descriptors = [each.fileno() for each in opened]
            wire.send(self._birth.control, {"event": "listening"}, descriptors)

    def _keep_only_lines(self) -> tuple[socket.socket, int]:
        """Close all but the line to the server, the out-of-memory score and the standard three."""
        lines = [os.dup(self._birth.control.detach()), os.dup(self._oom_score)]
        for place, descriptor in enumerate(lines, start=_CONTROL):
            os.dup2(descriptor, place, inheritable=False)
        os.closerange(_FIRST_OTHER, _LAST_DESCRIPTOR)
        return socket.socket(fileno=_CONTROL), _OOM_SCORE
