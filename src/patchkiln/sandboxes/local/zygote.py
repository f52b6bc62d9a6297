"""The process that boxes are cloned from: small, single-threaded, without secrets.

The server starts it with an empty environment and talks to it over one socket. It ends with the
server, and every box ends with it.
"""

import errno
import gc
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from patchkiln.sandboxes.local import bringup, hostmounts, syscalls, wire
from patchkiln.sandboxes.local.cgroups import Cgroups, Usage
from patchkiln.sandboxes.local.disk import LOWER
from patchkiln.sandboxes.local.hierarchies import find_cgroups
from patchkiln.sandboxes.local.layers import LAYERS, Layers
from patchkiln.sandboxes.local.layout import BOX_GID, BOX_UID, HOST_GID, HOST_UID
from patchkiln.sandboxes.local.plan import BoxPlan
from patchkiln.sandboxes.local.rootfs import ROOT
from patchkiln.sandboxes.local.template import build_template

_Step: TypeAlias = tuple[str, Callable[[], object]]

_NAMESPACES = (
    syscalls.CLONE_NEWUSER
    | syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUTS
)
_NAME = "patchkiln-zygote"
_SIGNAL_BYTES = 4096
_FAREWELL_S = 5.0


class _Box:
    """A box under way or alive."""

    def __init__(self, plan: BoxPlan) -> None:
        self.plan = plan
        self.name = plan["name"]
        self.pid = 0
        # Requests to destroy it, answered when its first process has been reaped.
        self.waiting: list[int] = []


class _Zygote:
    def __init__(self, control: socket.socket, cgroups: Cgroups | None, *, as_root: bool) -> None:
        self._control = control
        self._cgroups = cgroups
        self._as_root = as_root
        self._layers = Layers((HOST_UID, HOST_GID) if as_root else None)
        self._lent = hostmounts.Lent(as_root=as_root)
        self._boxes: dict[str, _Box] = {}

    def handle(self, request: dict[str, Any], descriptors: list[int]) -> None:
        try:
            if request["op"] == "create":
                self._create(request["id"], request["box"], descriptors[0])
            elif request["op"] == "destroy":
                self._destroy(request["id"], request["name"])
            elif request["op"] == "release":
                self._layers.release(request["holder"], in_use=False)
            else:
                self._answer(request)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _answer(self, request: dict[str, Any]) -> None:
        """Do what is done at once, and can fail."""
        answers = {"hold": self._hold, "freeze": self._freeze, "measure": self._measure}
        try:
            answer = answers[request["op"]](request)
        except OSError as error:
            answer = {"event": "failed", "step": request["op"], "errno": error.errno or 0}
        self._send(id=request["id"], **answer)

    def reap(self) -> None:
        """Forget the boxes whose first process, and with it every other, has ended."""
        living = {box.pid: box for box in self._boxes.values()}
        pid = -1
        while pid:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid in living:
                self._forget(living[pid])

    def end(self) -> None:
        """Kill every box and remove what is left of it."""
        for box in self._boxes.values():
            self._kill(box)
        until = time.monotonic() + _FAREWELL_S
        while self._boxes and time.monotonic() < until:
            self.reap()
            time.sleep(0.001)
        if self._cgroups is not None:
            self._cgroups.close()

    def _create(self, request_id: int, plan: BoxPlan, control: int) -> None:
        box = _Box(plan)
        mounts: list[int] = []
        step = ""
        self._boxes[box.name] = box
        try:
            for step, act in self._steps(box, mounts, control):  # noqa: B007 - told below
                act()
        except OSError as error:
            self._abandon(box)
            self._send(event="failed", id=request_id, step=step, errno=error.errno or 0)
            return
        finally:
            for mount in mounts:
                os.close(mount)
        self._send(event="created", id=request_id, pid=box.pid)

    def _steps(self, box: _Box, mounts: list[int], control: int) -> Iterator[_Step]:
        plan = box.plan
        disk_bytes = plan["limits"]["disk_bytes"]
        yield "layer", lambda: self._layers.make(box.name, plan["chain"], disk_bytes)
        yield "cgroup", lambda: self._make_cgroup(box)
        yield "mounts", lambda: self._detach_mounts(box.plan, mounts)
        yield "clone", lambda: self._clone(box, mounts, control)

    def _make_cgroup(self, box: _Box) -> None:
        if self._cgroups is not None:
            self._cgroups.create(box.name, box.plan["limits"])

    def _detach_mounts(self, plan: BoxPlan, mounts: list[int]) -> None:
        if plan["base"] is not None:
            mounts.append(hostmounts.detach(plan["base"], writable=False, as_root=self._as_root))
        for mount in plan["mounts"]:
            source, writable = mount["source"], mount["writable"]
            if mount["nameless"]:
                mounts.append(self._lent.detach(source))
            else:
                mounts.append(hostmounts.detach(source, writable=writable, as_root=self._as_root))

    def _clone(self, box: _Box, mounts: list[int], control: int) -> None:
        gate, opener = os.pipe2(os.O_CLOEXEC)
        doors = None if self._cgroups is None else self._cgroups.open(box.name)
        try:
            box.pid = syscalls.clone_process(
                _NAMESPACES, None if doors is None else doors.directory
            )
            if not box.pid:
                os.close(opener)
                base = None if box.plan["base"] is None else mounts.pop(0)
                line = socket.socket(fileno=control)
                bringup.become_box(bringup.Birth(box.plan, line, gate, base, mounts, doors))
            self._release(box, opener)
        finally:
            os.close(gate)
            os.close(opener)
            if doors is not None:
                doors.close()

    def _release(self, box: _Box, opener: int) -> None:
        """Say who the new process is, and let it go on."""
        uid, gid = (HOST_UID, HOST_GID) if self._as_root else (0, 0)
        hostmounts.write_id_maps(box.pid, (BOX_UID, uid), (BOX_GID, gid))
        os.write(opener, b"!")

    def _abandon(self, box: _Box) -> None:
        if box.pid:
            os.kill(box.pid, signal.SIGKILL)
        else:
            self._forget(box)

    def _destroy(self, request_id: int, name: str) -> None:
        box = self._boxes.get(name)
        if box is None:
            self._send(event="destroyed", id=request_id)
            return
        box.waiting.append(request_id)
        self._layers.release(name, in_use=True)
        self._kill(box)

    def _hold(self, request: dict[str, Any]) -> dict[str, Any]:
        self._layers.hold(request["holder"], request["layers"])
        return {"event": "done", "disk_bytes": self._layers.used_bytes(request["holder"])}

    def _freeze(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._cgroups is None:
            raise OSError(errno.ENOTSUP, "")
        frozen = self._cgroups.freeze(request["name"], frozen=request["frozen"])
        return {"event": "done", "frozen": frozen}

    def _measure(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["name"]
        usage = Usage() if self._cgroups is None else self._cgroups.usage(name)
        used_bytes = self._layers.used_bytes(name)
        known = {counter: value for counter, value in usage._asdict().items() if value >= 0}
        return {"event": "done", "disk_bytes": used_bytes, **known}

    def _kill(self, box: _Box) -> None:
        os.kill(box.pid, signal.SIGKILL)
        if self._cgroups is not None:
            self._cgroups.kill(box.name)

    def _forget(self, box: _Box) -> None:
        self._layers.release(box.name, in_use=False)
        if self._cgroups is not None:
            self._cgroups.remove(box.name)
        if self._boxes.get(box.name) is box:
            del self._boxes[box.name]
        for request_id in box.waiting:
            self._send(event="destroyed", id=request_id)

    def _send(self, **message: Any) -> None:
        try:
            wire.send(self._control, message)
        except OSError:  # the server is gone, which the loop is about to learn
            return


def main(control_fd: int, staging: str) -> None:
    """Serve until the server is gone."""
    # The first process of a box inherits them, and would show where the server lies.
    syscalls.hide_arguments(_NAME)
    control = socket.socket(fileno=control_fd)
    # Python's own handler would end this process, and the first of a box, from inside.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)
    os.umask(0o022)
    uid, gid = os.getuid(), os.getgid()
    step = "machine"
    try:
        for step, act in _preparations(staging, uid, gid):  # noqa: B007 - told below
            act()
        cgroups = find_cgroups(as_root=uid == 0)
    except OSError as error:
        wire.send(control, {"event": "failed", "step": step, "errno": error.errno or 0})
        return
    version = 0 if cgroups is None else cgroups.version
    wire.send(control, {"event": "serving", "as_root": uid == 0, "cgroup": version})
    zygote = _Zygote(control, cgroups, as_root=uid == 0)
    _serve(control, zygote)
    zygote.end()


def _preparations(staging: str, uid: int, gid: int) -> Iterator[_Step]:
    """Enter the zygote's own namespaces, and build what boxes share."""
    if uid == 0:
        yield "groups", lambda: os.setgroups([])
        yield "mount namespace", lambda: syscalls.unshare(syscalls.CLONE_NEWNS)
    else:
        both = syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS
        yield "user namespace", lambda: syscalls.unshare(both)
        yield "id maps", lambda: hostmounts.write_id_maps(os.getpid(), (0, uid), (0, gid))
    yield "staging", lambda: _enter_staging(staging)
    yield "template", build_template


def _enter_staging(staging: str) -> None:
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    syscalls.mount("staging", staging, "tmpfs", syscalls.MS_NOSUID, "mode=755,size=16m")
    os.chdir(staging)
    for place in (ROOT, LAYERS, hostmounts.LENT, LOWER):
        os.mkdir(place)


def _serve(control: socket.socket, zygote: _Zygote) -> None:
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _note)
    signal.signal(signal.SIGTERM, _note)
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(readable, select.POLLIN)
    # What boxes share with this process stays shared, as long as nobody counts its references.
    gc.freeze()
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == readable:
                if signal.SIGTERM in os.read(readable, _SIGNAL_BYTES):
                    return
                zygote.reap()
                continue
            request, descriptors = wire.receive(control)
            if request is None:
                return
            zygote.handle(request, descriptors)


def _note(_number: int, _frame: object) -> None:
    """Let the signal wake the loop; the default action would not."""
