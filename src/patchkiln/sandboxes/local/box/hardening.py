"""What the first process of a box gives up before anyone's code runs in it."""

import os
import resource

from patchkiln.sandboxes.local.box import landlock, syscalls
from patchkiln.sandboxes.local.box.layout import HOME, HOSTNAME, WORKSPACE
from patchkiln.sandboxes.local.box.plan import LimitsPlan, MountPlan
from patchkiln.sandboxes.local.box.seccomp import build_filter

_LOCKED_MEMORY_BYTES = 64 << 10
# Unlike 0, also keeps the kernel from piping a dump to a program of the host (core(5)).
_NO_CORE_BYTES = 1
_WRITABLE = (WORKSPACE, "/tmp", HOME, "/dev/shm", "/dev/pts")  # noqa: S108 - inside the box
_FILTERS = {
    counted: build_filter(syscalls.MACHINE, counted=counted)
    for counted in (True, False)
    if syscalls.MACHINE in syscalls.SUPPORTED_MACHINES
}


def name_machine() -> None:
    """Give the box a name of its own; under Podman's default filter it keeps the container's."""
    try:
        syscalls.set_hostname(HOSTNAME)
    except PermissionError:
        return


def set_resource_limits(limits: LimitsPlan, *, lenient: bool = False) -> None:
    """Set the limits of each process; that on processes counts all of the box's user together.

    ``lenient``: a kernel may lack some of them, as gVisor's does.
    """
    wanted = {
        resource.RLIMIT_CORE: _NO_CORE_BYTES,
        resource.RLIMIT_FSIZE: limits["file_bytes"],
        resource.RLIMIT_MEMLOCK: _LOCKED_MEMORY_BYTES,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NOFILE: limits["open_files"],
        resource.RLIMIT_NPROC: limits["processes"],
    }
    for limit, value in wanted.items():
        _, hard = resource.getrlimit(limit)
        bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(limit, (bounded, bounded))
        except ValueError:
            if not lenient:
                raise


def drop_privileges(*, lenient: bool = False) -> None:
    """Give up all capabilities and the way back to them; hide this process from its children.

    ``lenient``: a kernel may lack the ambient set, as gVisor's does.
    """
    syscalls.clear_capabilities(ambient=not lenient)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)


def restrict_files(mounts: list[MountPlan]) -> None:
    """Fence files in with Landlock."""
    writable = [mount["target"] for mount in mounts if mount["writable"]]
    readable = [mount["target"] for mount in mounts if not mount["writable"]]
    own = [place for place in _WRITABLE if os.path.isdir(place)]
    landlock.restrict([*own, *writable], readable)


def filter_system_calls(*, counted: bool) -> None:
    """Install the seccomp filter; nothing undoes it. ``counted``: by a control group."""
    syscalls.install_seccomp_filter(_FILTERS[counted])
