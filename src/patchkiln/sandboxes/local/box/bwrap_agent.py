"""PID 1 of a box that bubblewrap made: gives up the rest, then serves as in any other box.

Runs in the box alone, from an archive. Steps that fail are reported by name, as in `bringup`.
"""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from patchkiln.sandboxes.local.box import hardening, init, loopback, syscalls, wire
from patchkiln.sandboxes.local.box.layout import HOME
from patchkiln.sandboxes.local.box.plan import BoxPlan
from patchkiln.sandboxes.network.places import Place, open_place

_NAME = "patchkiln-box"
_CONTROL = 3
_OOM_SCORE = 4
_FIRST_OTHER = 5
_LAST_DESCRIPTOR = 1 << 16

_Step: TypeAlias = tuple[str, Callable[[], object]]


def main(control_fd: int) -> None:
    """Serve until the server is gone."""
    syscalls.hide_arguments(_NAME)
    # Python's own answer to it would end the box; without one, the kernel keeps it from PID 1.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    control = socket.socket(fileno=control_fd)
    plan: Any = wire.receive(control)[0]
    if plan is None:
        return
    # Before this process hides itself, which makes it root's.
    score = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    for step, act in _steps(plan, control):
        try:
            act()
        except OSError as error:
            wire.send(control, {"event": "failed", "step": step, "errno": error.errno or 0})
            return
    wire.send(control, {"event": "ready"})
    init.serve(*_keep_only_lines(control, score), plan["limits"]["memory_bytes"])


def _steps(plan: BoxPlan, control: socket.socket) -> Iterator[_Step]:
    yield "loopback", loopback.bring_up
    yield "addresses", lambda: loopback.add_addresses(plan["addresses"])
    yield "listeners", lambda: _pass_out_sockets(plan, control)
    yield "scratch", lambda: _tell_python(plan)
    yield "resource limits", lambda: hardening.set_resource_limits(plan["limits"])
    yield "capabilities", hardening.drop_privileges
    yield "landlock", lambda: hardening.restrict_files(plan["mounts"])
    yield "seccomp", lambda: hardening.filter_system_calls(counted=False)


def _pass_out_sockets(plan: BoxPlan, control: socket.socket) -> None:
    opened = [open_place(Place(*place)) for place in plan["places"]]
    if opened:
        wire.send(control, {"event": "listening"}, [each.fileno() for each in opened])


def _tell_python(plan: BoxPlan) -> None:
    site = plan["site"]
    if site is None:
        return
    packages = f"{HOME}/.local/lib/python{site['version']}/site-packages"
    os.makedirs(packages)
    with open(f"{packages}/patchkiln.pth", "w", encoding="utf-8") as file:
        file.write(f"{site['path']}\n")


def _keep_only_lines(control: socket.socket, score: int) -> tuple[socket.socket, int]:
    """Close all but the line to the server, the out-of-memory score and the standard three."""
    lines = [os.dup(control.detach()), os.dup(score)]
    for place, descriptor in enumerate(lines, start=_CONTROL):
        os.dup2(descriptor, place, inheritable=False)
    os.closerange(_FIRST_OTHER, _LAST_DESCRIPTOR)
    return socket.socket(fileno=_CONTROL), _OOM_SCORE
