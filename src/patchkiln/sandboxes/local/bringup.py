"""The way from a cloned process to the PID 1 of a box, step by step.

Runs in the cloned process alone. A step that fails is reported by its name, because the name is
what tells a person which facility of the kernel is missing.
"""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from patchkiln.sandboxes.local import hardening, init, loopback, rootfs, syscalls, wire
from patchkiln.sandboxes.local.layout import BOX_GID, BOX_UID
from patchkiln.sandboxes.local.plan import BoxPlan

_CONTROL = 3
_FIRST_OTHER = 4
_LAST_DESCRIPTOR = 1 << 16

_Step: TypeAlias = tuple[str, Callable[[], object]]


class Birth(NamedTuple):
    """What a new process is given: its plan, its line to the server, the zygote's gate, mounts."""

    plan: BoxPlan
    control: socket.socket
    gate: int
    base: int | None
    mounts: list[int]


def become_box(birth: Birth) -> None:
    """Turn this process into PID 1 of a box; never returns."""
    try:
        _serve(birth)
    finally:
        os._exit(1)


def _serve(birth: Birth) -> None:
    listeners: list[socket.socket] = []
    for name, step in _steps(birth, listeners):
        try:
            step()
        except OSError as error:
            failure = {"event": "failed", "step": name, "errno": error.errno or 0}
            wire.send(birth.control, failure)
            return
    wire.send(birth.control, {"event": "ready"}, [entry.fileno() for entry in listeners])
    init.serve(_keep_only(birth.control), birth.plan)


def _steps(birth: Birth, listeners: list[socket.socket]) -> Iterator[_Step]:
    plan = birth.plan
    yield "identity", lambda: _take_identity(birth.gate)
    yield "cgroup namespace", lambda: syscalls.unshare(syscalls.CLONE_NEWCGROUP)
    yield "root", rootfs.make_root
    yield "system", rootfs.share_system
    yield "proc", rootfs.mount_proc
    yield "devices", lambda: rootfs.mount_own_devices(plan["limits"])
    yield "scratch", lambda: rootfs.mount_scratch(plan)
    yield "workspace", lambda: rootfs.mount_workspace(plan, birth.base)
    yield "mounts", lambda: rootfs.attach_mounts(plan, birth.mounts)
    yield "host names", lambda: rootfs.name_hosts(plan)
    yield "loopback", lambda: listeners.extend(loopback.open_listeners(plan["listeners"]))
    yield "pivot", rootfs.enter_root
    yield "hostname", lambda: syscalls.set_hostname("sandbox")
    yield "resource limits", lambda: hardening.set_resource_limits(plan["limits"])
    yield "capabilities", hardening.drop_privileges
    yield "landlock", lambda: hardening.restrict_files(plan)
    yield "seccomp", hardening.filter_system_calls


def _take_identity(gate: int) -> None:
    """Wait until the zygote has written the id maps, then be the box's user."""
    signal.set_wakeup_fd(-1)
    if not os.read(gate, 1):
        raise OSError
    os.setresgid(BOX_GID, BOX_GID, BOX_GID)
    os.setresuid(BOX_UID, BOX_UID, BOX_UID)
    # Only after the change of identity, which clears it.
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()


def _keep_only(control: socket.socket) -> socket.socket:
    """Close every descriptor but the line to the server and the three standard ones."""
    os.dup2(control.detach(), _CONTROL, inheritable=False)
    os.closerange(_FIRST_OTHER, _LAST_DESCRIPTOR)
    return socket.socket(fileno=_CONTROL)
