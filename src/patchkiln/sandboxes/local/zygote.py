"""The process that boxes are cloned from: small, single-threaded, without secrets.

The server starts it with an empty environment before anything else is loaded, and talks to it over
one socket. It ends with the server, and every box ends with it.
"""

import gc
import os
import select
import signal
import socket
import sys
from typing import Any, NoReturn

from patchkiln.sandboxes.local import bringup, hostmounts, syscalls, wire
from patchkiln.sandboxes.local.layout import BOX_GID, BOX_UID, HOST_GID, HOST_UID
from patchkiln.sandboxes.local.plan import BoxPlan
from patchkiln.sandboxes.local.rootfs import LAYERS, ROOT, layer_options
from patchkiln.sandboxes.local.template import build_template

_NAMESPACES = (
    syscalls.CLONE_NEWUSER
    | syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUTS
)
_SIGNAL_BYTES = 4096


class _Box:
    def __init__(self, plan: BoxPlan) -> None:
        self.plan = plan
        self.pid = 0
        self.layer = False
        # Requests to destroy it, answered when its first process has been reaped.
        self.waiting: list[int] = []


class _Zygote:
    def __init__(self, control: socket.socket, *, as_root: bool) -> None:
        self._control = control
        self._as_root = as_root
        self._boxes: dict[str, _Box] = {}

    def handle(self, request: dict[str, Any], descriptors: list[int]) -> None:
        try:
            if request["op"] == "create":
                self._create(request["id"], request["box"], descriptors[0])
            elif request["op"] == "destroy":
                self._destroy(request["id"], request["name"])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def reap(self) -> None:
        ended = {box.pid: box for box in self._boxes.values()}
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid in ended:
                self._forget(ended[pid])

    def _create(self, request_id: int, plan: BoxPlan, control: int) -> None:
        box = _Box(plan)
        self._boxes[plan["name"]] = box
        try:
            self._make_layer(box)
            self._clone(box, control)
        except OSError as error:
            self._forget(box)
            step = error.filename if isinstance(error.filename, str) else "create"
            step = step if "/" not in step else "create"
            self._send(event="failed", id=request_id, step=step, errno=error.errno or 0)
            return
        self._send(event="created", id=request_id, pid=box.pid)

    def _make_layer(self, box: _Box) -> None:
        if box.plan["base"] is None:
            return
        layer = f"{LAYERS}/{box.plan['name']}"
        os.mkdir(layer)
        flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
        syscalls.mount(
            "layer", layer, "tmpfs", flags, layer_options(box.plan["limits"]["disk_bytes"])
        )
        box.layer = True
        for name in ("upper", "work"):
            os.mkdir(f"{layer}/{name}")
            if self._as_root:
                os.chown(f"{layer}/{name}", HOST_UID, HOST_GID)

    def _clone(self, box: _Box, control: int) -> None:
        plan = box.plan
        mounts: list[int] = []
        gate, opener = os.pipe2(os.O_CLOEXEC)
        try:
            if plan["base"] is not None:
                mounts.append(self._detach(plan["base"], writable=False))
            for mount in plan["mounts"]:
                mounts.append(self._detach(mount["source"], writable=mount["writable"]))
            box.pid = syscalls.clone_process(_NAMESPACES)
            if not box.pid:
                os.close(opener)
                self._become(plan, control, gate, mounts)
            self._release(box.pid, opener)
        finally:
            for descriptor in (gate, opener, *mounts):
                os.close(descriptor)

    def _detach(self, source: str, *, writable: bool) -> int:
        return hostmounts.detach(source, writable=writable, as_root=self._as_root)

    def _become(self, plan: BoxPlan, control: int, gate: int, mounts: list[int]) -> NoReturn:
        self._control.detach()
        base = mounts.pop(0) if plan["base"] is not None else None
        line = socket.socket(fileno=control)
        bringup.become_box(bringup.Birth(plan, line, gate, base, mounts))

    def _release(self, pid: int, opener: int) -> None:
        uid, gid = (HOST_UID, HOST_GID) if self._as_root else (0, 0)
        hostmounts.write_id_maps(pid, (BOX_UID, uid), (BOX_GID, gid))
        os.write(opener, b"!")

    def _destroy(self, request_id: int, name: str) -> None:
        box = self._boxes.get(name)
        if box is None:
            self._send(event="destroyed", id=request_id)
            return
        box.waiting.append(request_id)
        # First the layer: the box's own end then frees it, and not this process.
        self._drop_layer(box)
        os.kill(box.pid, signal.SIGKILL)

    def _drop_layer(self, box: _Box) -> None:
        if box.layer:
            box.layer = False
            syscalls.unmount(f"{LAYERS}/{box.plan['name']}")
            os.rmdir(f"{LAYERS}/{box.plan['name']}")

    def _forget(self, box: _Box) -> None:
        self._drop_layer(box)
        self._boxes.pop(box.plan["name"], None)
        for request_id in box.waiting:
            self._send(event="destroyed", id=request_id)

    def _send(self, **message: Any) -> None:
        wire.send(self._control, message)


def main(control_fd: int, staging: str) -> None:
    """Serve until the server is gone."""
    control = socket.socket(fileno=control_fd)
    try:
        as_root = _prepare(staging)
    except OSError as error:
        wire.send(control, {"event": "failed", "step": str(error.filename), "errno": error.errno})
        return
    wire.send(control, {"event": "serving", "as_root": as_root})
    _serve(control, _Zygote(control, as_root=as_root))


def _prepare(staging: str) -> bool:
    """Enter the zygote's own namespaces; return whether it was started by root."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)
    os.umask(0o022)
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        os.setgroups([])
        syscalls.unshare(syscalls.CLONE_NEWNS)
    else:
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
        hostmounts.write_id_maps(os.getpid(), (0, uid), (0, gid))
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    syscalls.mount("staging", staging, "tmpfs", syscalls.MS_NOSUID, "mode=755,size=16m")
    os.chdir(staging)
    os.mkdir(ROOT)
    os.mkdir(LAYERS)
    build_template()
    return uid == 0


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


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
