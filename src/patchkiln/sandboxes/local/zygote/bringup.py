"""The way from a cloned process to the PID 1 of a box, step by step.

Runs in the cloned process alone: what all boxes share at once, the rest when it is told which box
it is. A step that fails is reported by its name, because the name is
what tells a person which facility of the kernel is missing.
"""

import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, NoReturn, TypeAlias

from patchkiln.sandboxes.local.box import hardening, init, loopback, syscalls, wire
from patchkiln.sandboxes.local.box.layout import BOX_GID, BOX_UID
from patchkiln.sandboxes.local.box.plan import BoxPlan
from patchkiln.sandboxes.local.zygote import disk, flatten, rootfs
from patchkiln.sandboxes.local.zygote.cgroups import Doors
from patchkiln.sandboxes.network.places import Place, open_place

_CONTROL = 3
_OOM_SCORE = 4
_FIRST_OTHER = 5
_LAST_DESCRIPTOR = 1 << 16

_Step: TypeAlias = tuple[str, Callable[[], object]]


class Origin(NamedTuple):
    """What a new process is given.

    ``inbox`` brings what it is to be; ``gate`` opens when the zygote is ready; ``doors`` lead into
    the box's control groups; ``shared_proc`` as in the plan; ``beforehand``: it is to wait.
    """

    inbox: socket.socket
    gate: int
    doors: Doors | None
    shared_proc: bool
    beforehand: bool


class Birth(NamedTuple):
    """What it is to be: its plan, its line to the server, and detached mounts.

    Those are its own layer and the chain's, the base, if there is one, and the plan's mounts.
    """

    plan: BoxPlan
    control: socket.socket
    layers: list[int]
    base: int | None
    mounts: list[int]


def send_birth(line: socket.socket, plan: BoxPlan, control: int, mounts: Sequence[int]) -> None:
    """Tell a waiting process what it is to be. ``mounts`` in the order of `Birth`."""
    wire.send(line, {"plan": plan}, [control, *mounts])


def become_box(origin: Origin) -> NoReturn:
    """Turn this process into PID 1 of a box; never returns."""
    try:
        _close_others(
            [origin.inbox.fileno(), origin.gate, *(origin.doors or Doors()).descriptors()]
        )
        _BringUp(origin).run()
    finally:
        os._exit(1)


class _BringUp:
    """Makes what all boxes share, waits to be told which box it is, and makes the rest."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._oom_score = -1

    def run(self) -> None:
        failed = _take(self._first_steps())
        if failed is not None and self._origin.beforehand:
            return  # what was short then may not be when a box is wanted
        birth = _receive_birth(self._origin.inbox)
        failed = failed or _take(self._last_steps(birth))
        if failed is not None:
            step, number = failed
            wire.send(birth.control, {"event": "failed", "step": step, "errno": number})
            return
        wire.send(birth.control, {"event": "ready"})
        line, oom_score = self._keep_only_lines(birth.control)
        limit = birth.plan["limits"]["memory_bytes"] if self._origin.doors is None else None
        init.serve(line, oom_score, limit)

    def _first_steps(self) -> Iterator[_Step]:
        yield "identity", self._take_identity
        yield "cgroup namespace", lambda: syscalls.unshare(syscalls.CLONE_NEWCGROUP)
        yield "root", rootfs.make_root
        yield "system", rootfs.share_system
        yield "proc", lambda: rootfs.mount_proc(shared=self._origin.shared_proc)
        yield "devices", rootfs.mount_terminals
        yield "pivot", rootfs.enter_root
        yield "hostname", hardening.name_machine
        yield "loopback", loopback.bring_up

    def _last_steps(self, birth: Birth) -> Iterator[_Step]:
        plan, limits = birth.plan, birth.plan["limits"]
        yield "layers", lambda: disk.attach_layers(birth.layers)
        yield "shared memory", lambda: rootfs.mount_shared_memory(limits)
        yield "scratch", lambda: disk.mount_scratch(plan)
        yield "workspace", lambda: disk.mount_workspace(plan, birth.base)
        yield "mounts", lambda: rootfs.attach_mounts(plan, birth.mounts)
        if plan["addresses"]:
            yield "addresses", lambda: loopback.add_addresses(plan["addresses"])
        # Before the limits: other boxes' descriptors on their way count with these.
        yield "listeners", lambda: _pass_out_sockets(birth)
        yield "scaffold", rootfs.close_root
        if plan["purpose"] == "flatten":
            based = plan["base"] is not None
            yield "flatten", lambda: flatten.join_layers(len(plan["chain"]), with_base=based)
        yield "resource limits", lambda: hardening.set_resource_limits(limits)
        yield "capabilities", hardening.drop_privileges
        yield "landlock", lambda: hardening.restrict_files(plan["mounts"])
        counted = self._origin.doors is not None
        yield "seccomp", lambda: hardening.filter_system_calls(counted=counted)

    def _take_identity(self) -> None:
        """Wait until the zygote has written the id maps, then be the box's user."""
        signal.set_wakeup_fd(-1)
        if self._origin.doors is not None:
            self._origin.doors.enter()
        if not os.read(self._origin.gate, 1):
            raise OSError
        os.setresgid(BOX_GID, BOX_GID, BOX_GID)
        os.setresuid(BOX_UID, BOX_UID, BOX_UID)
        # Only after the change of identity, which clears both.
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
        self._oom_score = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        os.setsid()

    def _keep_only_lines(self, control: socket.socket) -> tuple[socket.socket, int]:
        """Close all but the line to the server, the out-of-memory score and the standard three."""
        lines = [os.dup(control.detach()), os.dup(self._oom_score)]
        for place, descriptor in enumerate(lines, start=_CONTROL):
            os.dup2(descriptor, place, inheritable=False)
        os.closerange(_FIRST_OTHER, _LAST_DESCRIPTOR)
        return socket.socket(fileno=_CONTROL), _OOM_SCORE


def _take(steps: Iterable[_Step]) -> tuple[str, int] | None:
    """Take steps; return the one that failed, and its error number."""
    for name, act in steps:
        try:
            act()
        except OSError as error:
            return name, error.errno or 0
    return None


def _receive_birth(inbox: socket.socket) -> Birth:
    """Wait to be told; where the zygote is gone there is nothing to become."""
    message, descriptors = wire.receive(inbox)
    if message is None:
        os._exit(0)
    plan: BoxPlan = message["plan"]
    control, *mounts = descriptors
    above = 1 + len(plan["chain"])
    layers, mounts = mounts[:above], mounts[above:]
    base = None if plan["base"] is None else mounts.pop(0)
    return Birth(plan, socket.socket(fileno=control), layers, base, mounts)


def _pass_out_sockets(birth: Birth) -> None:
    opened = [open_place(Place(*place)) for place in birth.plan["places"]]
    if opened:
        descriptors = [each.fileno() for each in opened]
        wire.send(birth.control, {"event": "listening"}, descriptors)


def _close_others(kept: Iterable[int]) -> None:
    """Close what is the zygote's; whoever waits would keep it open."""
    first = _CONTROL
    for descriptor in sorted(kept):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, _LAST_DESCRIPTOR)
