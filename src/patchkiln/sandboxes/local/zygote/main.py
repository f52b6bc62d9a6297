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

from patchkiln.sandboxes.local.box import syscalls, wire
from patchkiln.sandboxes.local.box.layout import HOST_GID, HOST_UID
from patchkiln.sandboxes.local.box.plan import BoxPlan
from patchkiln.sandboxes.local.zygote import bringup, hostmounts
from patchkiln.sandboxes.local.zygote.blanks import Blank, Blanks
from patchkiln.sandboxes.local.zygote.cgroups import Cgroups, Usage
from patchkiln.sandboxes.local.zygote.hierarchies import find_cgroups
from patchkiln.sandboxes.local.zygote.layers import LAYERS, Layers
from patchkiln.sandboxes.local.zygote.rootfs import ROOT
from patchkiln.sandboxes.local.zygote.template import build_template

_Step: TypeAlias = tuple[str, Callable[[], object]]

_NAME = "patchkiln-zygote"
# Who asks for a box asks for the next one soon, and had better not wait for a blank.
_IDLE_MS = 10
_SIGNAL_BYTES = 4096
_FAREWELL_S = 5.0


class _Box:
    """A box under way or alive."""

    def __init__(self, plan: BoxPlan) -> None:
        self.plan = plan
        self.name = plan["name"]
        self.blank: Blank | None = None
        # Requests to destroy it, answered when its first process has been reaped.
        self.waiting: list[int] = []

    @property
    def pid(self) -> int:
        """Return its first process's number, 0 where there is none yet."""
        return 0 if self.blank is None else self.blank.pid


class _Zygote:
    def __init__(self, control: socket.socket, cgroups: Cgroups | None, *, as_root: bool) -> None:
        self._control = control
        self._cgroups = cgroups
        self._as_root = as_root
        self._layers = Layers((HOST_UID, HOST_GID) if as_root else None)
        self._lent = hostmounts.Lent(as_root=as_root)
        self._boxes: dict[str, _Box] = {}
        # Those too whose name has been given to another while they end.
        self._unended: set[_Box] = set()
        self.blanks = Blanks(cgroups, as_root=as_root)

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
        unended = {box.pid: box for box in self._unended}
        pid = -1
        while pid:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            self.blanks.forget(pid)
            if pid in unended:
                self._forget(unended[pid])

    def end(self) -> None:
        """Kill every box and remove what is left of it."""
        self.blanks.close()
        for box in self._unended:
            self._kill(box)
        until = time.monotonic() + _FAREWELL_S
        while self._unended and time.monotonic() < until:
            self.reap()
            time.sleep(0.001)
        if self._cgroups is not None:
            self._cgroups.close()

    def _create(self, request_id: int, plan: BoxPlan, control: int) -> None:
        box = _Box(plan)
        box.blank = self.blanks.take(shared_proc=plan["shared_proc"])
        mounts: list[int] = []
        step = ""
        self._boxes[box.name] = box
        self._unended.add(box)
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
        if box.blank is None:
            yield from self._steps_to_blank(box)
        yield "layer", lambda: self._make_layer(plan)
        yield "cgroup", lambda: self._limit(box)
        yield "layers", lambda: mounts.extend(self._layers.detach(box.name))
        yield "mounts", lambda: self._detach_mounts(plan, mounts)
        yield "birth", lambda: self._tell(box, control, mounts)

    def _steps_to_blank(self, box: _Box) -> Iterator[_Step]:
        groups: list[str] = []
        yield "cgroup", lambda: groups.append(self.blanks.make_group())

        def clone() -> None:
            shared_proc = box.plan["shared_proc"]
            box.blank = self.blanks.make(groups[0], shared_proc=shared_proc)

        yield "clone", clone

    def _make_layer(self, plan: BoxPlan) -> None:
        joins = plan["purpose"] == "flatten"
        disk_bytes = plan["limits"]["disk_bytes"]
        self._layers.make(plan["name"], plan["chain"], disk_bytes, joins=joins)

    def _limit(self, box: _Box) -> None:
        if self._cgroups is not None and box.blank is not None:
            self._cgroups.limit(box.blank.group, box.plan["limits"])

    def _detach_mounts(self, plan: BoxPlan, mounts: list[int]) -> None:
        if plan["base"] is not None:
            mounts.append(hostmounts.detach(plan["base"], writable=False, as_root=self._as_root))
        for mount in plan["mounts"]:
            source, writable = mount["source"], mount["writable"]
            if mount["nameless"]:
                mounts.append(self._lent.detach(source))
            else:
                mounts.append(hostmounts.detach(source, writable=writable, as_root=self._as_root))

    def _tell(self, box: _Box, control: int, mounts: list[int]) -> None:
        """Tell the process that waits which box it is."""
        if box.blank is not None:
            bringup.send_birth(box.blank.line, box.plan, control, mounts)
            box.blank.line.close()

    def _abandon(self, box: _Box) -> None:
        if box.blank is None:
            self._forget(box)
        else:
            box.blank.line.close()
            os.kill(box.pid, signal.SIGKILL)

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
        frozen = self._cgroups.freeze(self._group(request["name"]), frozen=request["frozen"])
        return {"event": "done", "frozen": frozen}

    def _measure(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["name"]
        usage = Usage() if self._cgroups is None else self._cgroups.usage(self._group(name))
        used_bytes = self._layers.used_bytes(name)
        known = {counter: value for counter, value in usage._asdict().items() if value >= 0}
        return {"event": "done", "disk_bytes": used_bytes, **known}

    def _group(self, name: str) -> str:
        """Return the name of a box's control groups."""
        box = self._boxes.get(name)
        if box is None or box.blank is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return box.blank.group

    def _kill(self, box: _Box) -> None:
        if box.blank is not None:
            os.kill(box.blank.pid, signal.SIGKILL)
            if self._cgroups is not None:
                self._cgroups.kill(box.blank.group)

    def _forget(self, box: _Box) -> None:
        self._unended.discard(box)
        if self._cgroups is not None and box.blank is not None:
            self._cgroups.remove(box.blank.group)
        if self._boxes.get(box.name) is box:
            self._layers.release(box.name, in_use=False)
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
    for place in (ROOT, LAYERS, hostmounts.LENT):
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
        ready = poll.poll(_IDLE_MS if zygote.blanks.wanted else None)
        if not ready:
            zygote.blanks.refill()
        for descriptor, _ in ready:
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
