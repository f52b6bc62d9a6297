"""The root of one box, made from nothing by the box's own first process.

The working directory is the zygote's staging directory, in the box's copy of the mount namespace.
"""

import os
from collections.abc import Sequence
from contextlib import suppress

from patchkiln.sandboxes.local.box import syscalls
from patchkiln.sandboxes.local.box.layout import BOX_GID, BOX_UID, SCAFFOLD
from patchkiln.sandboxes.local.box.plan import BoxPlan, LimitsPlan
from patchkiln.sandboxes.local.zygote.layers import inodes
from patchkiln.sandboxes.local.zygote.template import READ_ONLY, TEMPLATE

ROOT = "root"
_OWN_DIRECTORIES = ("proc", "tmp", "home", "home/user", "workspace", "var", "run", "opt", "mnt")
_OWN_LINKS = {"var/tmp": "/tmp", "var/run": "/run"}  # noqa: S108 - inside the box
# What /proc tells everyone of the machine rather than of the box. The kernel's memory and timers
# are for root alone, which nobody in a box is.
_MASKED = ("cmdline", "config.gz", "kallsyms", "key-users", "keys", "modules")
# Of /proc/sys: limits that hold in the box's user namespace, and ports in its network. What a box
# watches counts as the server's user's too, who has 128 instances on most machines: enough for the
# boxes of four runs.
_SETTINGS = {
    "user/max_user_namespaces": 0,
    "user/max_inotify_instances": 24,
    "user/max_inotify_watches": 65536,
    # The box's first process opens them, without any capability.
    "net/ipv4/ip_unprivileged_port_start": 0,
}
PRIVATE = syscalls.MS_NOSUID | syscalls.MS_NODEV


def make_root() -> None:
    """Mount an empty root and make the places of all that follows."""
    syscalls.mount("root", ROOT, "tmpfs", PRIVATE, "mode=755,size=1m")
    for name in (*_OWN_DIRECTORIES, SCAFFOLD.lstrip("/")):
        os.mkdir(f"{ROOT}/{name}")
    for name, target in _OWN_LINKS.items():
        os.symlink(target, f"{ROOT}/{name}")


def share_system() -> None:
    """Show the template's parts: /usr, /etc, /dev and the names beside them."""
    for entry in os.scandir(TEMPLATE):
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), f"{ROOT}/{entry.name}")
        else:
            os.mkdir(f"{ROOT}/{entry.name}")
            syscalls.bind(entry.path, f"{ROOT}/{entry.name}")


def mount_proc(*, shared: bool) -> None:
    """Mount a fresh /proc, hide the machine in it, and close /proc/sys to writers.

    ``shared``: show the machine's own instead, closed as a whole to writers. Each box is a user
    namespace of its own, and so cannot look into the processes that it is shown there.
    """
    proc = f"{ROOT}/proc"
    if shared:
        syscalls.bind("/proc", proc)
    else:
        syscalls.mount("proc", proc, "proc", PRIVATE | syscalls.MS_NOEXEC)
    for name in _MASKED:
        # Not every kernel has each; to look first would take as long as the rest.
        with suppress(FileNotFoundError):
            syscalls.bind(f"{ROOT}/dev/null", f"{proc}/{name}")
    syscalls.bind(f"{proc}/sys", f"{proc}/sys")
    for name, value in _SETTINGS.items():
        _set(f"{proc}/sys/{name}", value, required=not shared)
    closed = proc if shared else f"{proc}/sys"
    syscalls.set_mount_attributes(closed, READ_ONLY | syscalls.ATTR_NOEXEC)


def _set(path: str, value: int, *, required: bool) -> None:
    """Change a setting of the box's own namespaces; where it is closed, the filter holds alone."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError:
        if required:
            raise
        return
    try:
        os.write(file, b"%d" % value)
    except OSError:
        if required:
            raise
    finally:
        os.close(file)


def mount_terminals() -> None:
    """Mount private terminals, the box's own whoever opens them."""
    flags = syscalls.MS_NOSUID | syscalls.MS_NOEXEC
    options = f"newinstance,ptmxmode=0666,mode=620,uid={BOX_UID},gid={BOX_GID}"
    syscalls.mount("devpts", f"{ROOT}/dev/pts", "devpts", flags, options)


def enter_root() -> None:
    """Make it the root, and the only thing that is left of the host's tree."""
    syscalls.mount("scaffold", f"{ROOT}{SCAFFOLD}", "tmpfs", PRIVATE, "mode=700,size=64k")
    os.chdir(ROOT)
    syscalls.pivot_root_here()


def mount_shared_memory(limits: LimitsPlan) -> None:
    """Mount the memory that processes share by name."""
    size = limits["shm_bytes"]
    options = f"mode=1777,size={size},nr_inodes={inodes(size)}"
    syscalls.mount("tmpfs", "/dev/shm", "tmpfs", PRIVATE, options)  # noqa: S108 - inside the box


def attach_mounts(plan: BoxPlan, mounts: Sequence[int]) -> None:
    """Attach the host directories of the plan."""
    for mount, descriptor in zip(plan["mounts"], mounts, strict=True):
        os.makedirs(mount["target"], exist_ok=True)
        syscalls.attach_mount(descriptor, mount["target"])


def close_root() -> None:
    """Take the scaffold down, and seal the root.

    All at once: to unmount waits for every processor.
    """
    syscalls.unmount(SCAFFOLD)
    os.rmdir(SCAFFOLD)
    attributes = syscalls.ATTR_RDONLY | syscalls.ATTR_NOSUID
    syscalls.set_mount_attributes("/", attributes, recursive=False)
