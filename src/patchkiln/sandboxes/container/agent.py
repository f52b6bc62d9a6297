"""PID 1 of a container: hardens itself as the first process of a local box does, then serves.

The engine made the namespaces and starts this as the container's root, with the few capabilities
that the way down takes. It goes that way before it reads a byte that anyone but the server wrote.
"""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypedDict

from patchkiln.sandboxes.local.box import hardening, init, loopback, syscalls, wire
from patchkiln.sandboxes.local.box.layout import HOME, HOST_GID, HOST_UID, WORKSPACE
from patchkiln.sandboxes.local.box.plan import LimitsPlan, MountPlan, SitePlan
from patchkiln.sandboxes.network.places import Place, open_place

LINE = "/opt/patchkiln/line"
LINE_NAME = "line"
SOURCE = "/opt/patchkiln/agent"
PROGRAM = (
    f"import sys; sys.path.insert(0, {SOURCE!r}); "
    "from patchkiln.sandboxes.container import agent; agent.main()"
)
_LAST_DESCRIPTOR = 1 << 16
_MODES = {WORKSPACE: 0o755, HOME: 0o700, "/tmp": 0o1777}  # noqa: S108 - inside the container


class AgentPlan(TypedDict):
    """What the server tells PID 1: limits, lent directories, and whether it watches memory.

    ``own_kernel``: it runs on gVisor's. ``site`` says where Python finds lent packages.
    ``addresses`` stand for hosts outside, and ``places`` are the sockets to pass out at birth.
    """

    limits: LimitsPlan
    mounts: list[MountPlan]
    site: SitePlan | None
    watches: bool
    own_kernel: bool
    addresses: list[str]
    places: list[Place]


def main() -> NoReturn:
    """Connect to the server, become the sandbox's user, and serve until the server is gone."""
    # Python's own answer to it would end the sandbox; without one, the kernel keeps it from PID 1.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.connect(f"{LINE}/{LINE_NAME}")
        plan, _ = wire.receive(control)
        if plan is not None:
            _Agent(control, plan).run()
    finally:
        os._exit(1)


class _Agent:
    def __init__(self, control: socket.socket, plan: dict[str, Any]) -> None:
        self._control = control
        self._plan = plan
        self._oom_score = -1

    def run(self) -> None:
        for name, act in self._steps():
            try:
                act()
            except OSError as error:
                failure = {"event": "failed", "step": name, "errno": error.errno or 0}
                wire.send(self._control, failure)
                return
        wire.send(self._control, {"event": "ready"})
        limit = self._plan["limits"]["memory_bytes"] if self._plan["watches"] else None
        init.serve(self._control, self._oom_score, limit)

    def _steps(self) -> Iterator[tuple[str, Callable[[], object]]]:
        counted = not self._plan["watches"]
        yield "descriptors", self._close_others
        # Up it is already; gVisor lets nobody set it so again.
        if self._plan["addresses"]:
            yield "addresses", lambda: loopback.add_addresses(self._plan["addresses"])
        yield "listeners", self._pass_out_sockets
        yield "identity", _take_identity
        yield "out-of-memory score", self._take_oom_score
        yield "packages", self._point_to_packages
        yield "resource limits", self._set_limits
        yield "capabilities", self._drop_privileges
        yield "landlock", lambda: hardening.restrict_files(self._plan["mounts"])
        yield "seccomp", lambda: hardening.filter_system_calls(counted=counted)

    def _set_limits(self) -> None:
        hardening.set_resource_limits(self._plan["limits"], lenient=self._plan["own_kernel"])

    def _drop_privileges(self) -> None:
        hardening.drop_privileges(lenient=self._plan["own_kernel"])

    def _pass_out_sockets(self) -> None:
        opened = [open_place(Place(*place)) for place in self._plan["places"]]
        if opened:
            descriptors = [door.fileno() for door in opened]
            wire.send(self._control, {"event": "listening"}, descriptors)
        for door in opened:
            door.close()

    def _close_others(self) -> None:
        os.closerange(self._control.fileno() + 1, _LAST_DESCRIPTOR)

    def _take_oom_score(self) -> None:
        """Open this process's score, or nothing where the kernel lets it only be raised."""
        self._oom_score = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        try:
            os.pwrite(self._oom_score, b"0", 0)
        except PermissionError:
            os.close(self._oom_score)
            self._oom_score = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)

    def _point_to_packages(self) -> None:
        site = self._plan["site"]
        if site is not None:
            place = f"{HOME}/.local/lib/python{site['version']}/site-packages"
            os.makedirs(place)
            with open(f"{place}/patchkiln.pth", "w", encoding="utf-8") as file:
                file.write(f"{site['path']}\n")


def _take_identity() -> None:
    """Own the places that the engine mounted, and be their owner."""
    for place, mode in _MODES.items():
        os.chmod(place, mode)
        os.chown(place, HOST_UID, HOST_GID)
    # While it still may: a user who is not root has no say in the bounding set.
    syscalls.drop_bounding_set()
    os.setgroups([])
    os.setresgid(HOST_GID, HOST_GID, HOST_GID)
    os.setresuid(HOST_UID, HOST_UID, HOST_UID)
    # Only after the change of identity, which clears it.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
