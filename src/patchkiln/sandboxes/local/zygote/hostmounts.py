"""Host directories as detached mounts, which a box may attach though it could not reach them.

The zygote resolves the path with its own rights, and follows no link, because boxes write in some
of the directories on the way; the box gets a descriptor of the mount.
"""

import os
import signal
from functools import cache

from patchkiln.sandboxes.local.box import syscalls
from patchkiln.sandboxes.local.box.layout import HOST_GID, HOST_UID
from patchkiln.sandboxes.local.zygote.template import READ_ONLY

LENT = "lent"
_WRITABLE = syscalls.ATTR_NOSUID | syscalls.ATTR_NODEV


def detach(source: str, *, writable: bool, as_root: bool) -> int:
    """Return the descriptor of a detached mount of a directory. `ELOOP` for a link on the way.

    Started by root, the owner of a read-only directory becomes the box's user where the file system
    can map ids (Linux 5.12 and most file systems), so that a box reads what only root may read.
    """
    place = syscalls.open_place(source)
    try:
        descriptor = syscalls.clone_mount("", directory=place)
    finally:
        os.close(place)
    try:
        attributes = _WRITABLE if writable else READ_ONLY
        syscalls.set_mount_attributes("", attributes, directory=descriptor)
        if as_root and not writable:
            _map_owner(descriptor)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class Lent:
    """Directories that boxes see through an overlay, which does not tell where they lie.

    Each is mounted once, in the zygote's own namespace.
    """

    def __init__(self, *, as_root: bool) -> None:
        """Begin with none; ``as_root`` as for `detach`."""
        self._as_root = as_root
        self._places: dict[str, str] = {}

    def detach(self, source: str) -> int:
        """Return the descriptor of a detached read-only mount. Raises `OSError`."""
        if source not in self._places:
            self._places[source] = self._mount(source)
        return syscalls.clone_mount(self._places[source])

    def _mount(self, source: str) -> str:
        mount = detach(source, writable=False, as_root=self._as_root)
        place, below, empty = (f"{LENT}/{len(self._places)}-{part}" for part in ("", "of", "no"))
        for directory in (place, below, empty):
            os.makedirs(directory, exist_ok=True)
        try:
            syscalls.attach_mount(mount, below)
        finally:
            os.close(mount)
        flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_RDONLY
        try:
            syscalls.mount("lent", place, "overlay", flags, f"lowerdir={below}:{empty}")
        except OSError:  # not every file system may lie below one
            return below
        syscalls.unmount(below)
        return place


def _map_owner(mount: int) -> None:
    status = os.fstat(mount)
    if status.st_uid == HOST_UID:
        return
    namespace = _id_mapping(status.st_uid, status.st_gid)
    try:
        syscalls.set_mount_attributes(
            "", syscalls.ATTR_IDMAP, directory=mount, userns=namespace, recursive=False
        )
    except OSError:  # this file system keeps its ids; what others may read can still be read
        return


@cache
def _id_mapping(uid: int, gid: int) -> int:
    """Return a user namespace that maps one owner to the boxes' id, kept for the next mount."""
    gate, keeper = os.pipe2(os.O_CLOEXEC)
    pid = syscalls.clone_process(syscalls.CLONE_NEWUSER)
    if pid == 0:
        os.close(keeper)
        os.read(gate, 1)
        os._exit(0)
    try:
        write_id_maps(pid, (uid, HOST_UID), (gid, HOST_GID))
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(gate)
        os.close(keeper)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def write_id_maps(pid: int, uid: tuple[int, int], gid: tuple[int, int]) -> None:
    """Map one user and one group of a new user namespace to ids of this one."""
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid[0]} {uid[1]} 1"),
        ("gid_map", f"{gid[0]} {gid[1]} 1"),
    ):
        file = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)
