"""Why this machine cannot isolate, and the exact fix: a pure function of what failed, and where.

Which error means what: clone(2), unshare(2), user_namespaces(7), mount_setattr(2), the kernel's
``mount_too_revealing`` and ``current_chrooted``, Docker's and Podman's default seccomp profiles.
"""

import errno
import os
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from patchkiln.sandboxes.local.box import syscalls
from patchkiln.sandboxes.local.box.layout import HOST_GID, HOST_UID
from patchkiln.sandboxes.local.selftest import facts
from patchkiln.sandboxes.local.selftest.facts import MachineFacts

# What Docker's default profile refuses and a box needs; Podman's allows all of it.
DOCKER_CALLS: Final = (
    "clone",
    "clone3",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "pivot_root",
    "umount2",
    "unshare",
)
BUBBLEWRAP_STEP: Final = "bubblewrap"
UNMASK = (
    "Start the container with Docker's --security-opt systempaths=unconfined, or Podman's "
    "--security-opt unmask=ALL."
)
_DOCKER = (
    "--security-opt seccomp=unconfined (or =FILE, a copy of Docker's default profile that also "
    f"allows {', '.join(DOCKER_CALLS)}), --security-opt apparmor=unconfined where the machine has "
    "AppArmor, and --security-opt systempaths=unconfined"
)
_PODMAN = "--security-opt unmask=ALL, with its default seccomp profile"
_NAMESPACE_STEPS = frozenset(
    {"user namespace", "id maps", "mount namespace", "staging", "clone", "start", "identity"}
)
_LIMIT_STEPS = frozenset({"user namespace", "clone"})
_REFUSED = frozenset({errno.EPERM, errno.EACCES})
_MISSING = frozenset({errno.EINVAL, errno.ENOSYS})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_SHORT = frozenset({errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE, *_FULL})
_OVERLAY_IN_USER_NAMESPACES = (5, 11)
_MOUNT_SETATTR = (5, 12)
TMPFS_ATTRIBUTES = (6, 6)


class Diagnosis(NamedTuple):
    """A cause and its fix, each a sentence."""

    reason: str
    remedy: str


class Failure(NamedTuple):
    """A step that failed, and its errno, 0 where unknown."""

    step: str
    number: int


_Rule: TypeAlias = Callable[[Failure, MachineFacts], Diagnosis | None]


def explain(step: str, number: int, machine: MachineFacts) -> Diagnosis:
    """Explain why a step of making a box failed. ``number`` is its errno, 0 where unknown."""
    failure = Failure(step, number)
    rules = (_NAMESPACE_RULES if step in _NAMESPACE_STEPS else ()) + _RULES
    found = (rule(failure, machine) for rule in rules)
    return next((diagnosis for diagnosis in found if diagnosis), None) or _unknown(failure, machine)


def lacks_proc(step: str, number: int) -> bool:
    """Tell whether a box failed for want of a /proc of its own alone: level L1 is still there."""
    return step == "proc" and number in _REFUSED


def is_shortage(step: str, number: int) -> bool:
    """Tell whether a step failed for want of memory, disk or descriptors, not by a refusal."""
    no_namespaces = number == errno.ENOSPC and step in _LIMIT_STEPS
    return number in _SHORT and not no_namespaces


def explain_machine(error: OSError) -> Diagnosis:
    """Explain why the server could not even prepare a box."""
    number = error.errno or 0
    if number in _FULL:
        return Diagnosis(
            f"The disk of the data directory is full ({os.strerror(number)}).",
            "Free some space there, raise the quota, or set PATCHKILN_DATA_DIR to a directory on "
            "another disk.",
        )
    if number in _REFUSED or number == errno.EROFS:
        return Diagnosis(
            f"The server cannot write its data directory ({os.strerror(number)}).",
            "Set PATCHKILN_DATA_DIR to a directory that the server's user may write, or give it "
            "this one (chown).",
        )
    if number == errno.EINVAL:
        return Diagnosis(
            "The server is root of a user namespace that lacks the ids of its boxes "
            f"({HOST_UID} and {HOST_GID}).",
            "Run it there as an ordinary user (--user 1000:1000), or map 65536 ids.",
        )
    if number in {errno.EMFILE, errno.ENFILE}:
        return Diagnosis(
            f"The server has no file descriptors left ({os.strerror(number)}).",
            "Raise its limit of open files (LimitNOFILE= in its unit, or ulimit -n).",
        )
    return Diagnosis(
        f"The server cannot prepare a sandbox ({os.strerror(number)}).",
        "Let the server write its data directory (PATCHKILN_DATA_DIR), and look at free disk "
        "space and at the limit of open files.",
    )


def explain_overlay(machine: MachineFacts) -> Diagnosis | None:
    """Explain an overlay that was mounted and does not work; None where the kernel should know."""
    if machine.version >= TMPFS_ATTRIBUTES:
        return None
    return Diagnosis(
        f"This kernel ({machine.release}) keeps no user attributes on a tmpfs, which an overlay "
        "needs to replace directories.",
        "Use Linux 6.6 or newer, or install bubblewrap (apt-get install bubblewrap): boxes then "
        "work on a copy.",
    )


def _foreign_architecture(_: Failure, machine: MachineFacts) -> Diagnosis | None:
    if machine.architecture in syscalls.SUPPORTED_MACHINES:
        return None
    return Diagnosis(
        f"The local sandbox does not know this machine's system calls ({machine.architecture}).",
        "Use a machine with x86_64 or aarch64.",
    )


def _no_proc(_: Failure, machine: MachineFacts) -> Diagnosis | None:
    if machine.proc_mounted:
        return None
    return Diagnosis(
        "There is no /proc here, as in a bare chroot.",
        "Mount it (mount -t proc proc /proc), and run the server outside of a chroot.",
    )


def _namespaces_off(failure: Failure, machine: MachineFacts) -> Diagnosis | None:
    if machine.settings.get(facts.MAX_USER_NAMESPACES) == "0":
        return Diagnosis(
            "This machine allows no user namespaces (user.max_user_namespaces is 0).",
            "Run: sudo sysctl -w user.max_user_namespaces=15000",
        )
    if failure.step in _LIMIT_STEPS and failure.number in {errno.ENOSPC, errno.EUSERS}:
        return Diagnosis(
            "No further user namespace may be made: the limit is used up, or set to 0 outside of "
            "this container.",
            "On the machine itself run: sudo sysctl -w user.max_user_namespaces=15000",
        )
    return None


def _namespaces_for_root(_: Failure, machine: MachineFacts) -> Diagnosis | None:
    if machine.as_root or machine.settings.get(facts.UNPRIVILEGED_CLONE) != "0":
        return None
    return Diagnosis(
        "This machine allows user namespaces to root alone "
        "(kernel.unprivileged_userns_clone is 0).",
        "Run: sudo sysctl -w kernel.unprivileged_userns_clone=1",
    )


def _apparmor_restriction(_: Failure, machine: MachineFacts) -> Diagnosis | None:
    if machine.as_root or machine.settings.get(facts.APPARMOR_RESTRICTION) != "1":
        return None
    return Diagnosis(
        "AppArmor restricts user namespaces on this machine, as on Ubuntu 23.10 and newer "
        "(kernel.apparmor_restrict_unprivileged_userns is 1).",
        "Run: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or allow them to this "
        "server's Python alone: write 'abi <abi/4.0>, profile patchkiln PYTHON flags=(unconfined) "
        "{ userns, }' to /etc/apparmor.d/patchkiln, with the interpreter's path for PYTHON "
        "(readlink -f), and run: sudo apparmor_parser -r /etc/apparmor.d/patchkiln; or start the "
        "server as root; or install bubblewrap with its AppArmor profile (bwrap-userns-restrict).",
    )


def _no_namespaces(failure: Failure, machine: MachineFacts) -> Diagnosis | None:
    refused = failure.step in _LIMIT_STEPS and failure.number in _MISSING and not machine.filtered
    if machine.user_namespaces and not refused:
        return None
    return Diagnosis(
        f"This kernel ({machine.release}) has no user namespaces.",
        "Use a kernel with CONFIG_USER_NS, CONFIG_PID_NS, CONFIG_NET_NS, CONFIG_IPC_NS and "
        "CONFIG_UTS_NS, as those of all distributions.",
    )


def _chroot(_: Failure, machine: MachineFacts) -> Diagnosis | None:
    if not machine.chrooted:
        return None
    return Diagnosis(
        "The server runs in a chroot, where Linux makes no user namespaces.",
        "Run it on the machine itself, or in a container (systemd-nspawn, Podman), whose root is "
        "entered by pivot_root.",
    )


def _weak_root(failure: Failure, machine: MachineFacts) -> Diagnosis | None:
    if not machine.as_root or machine.sys_admin or failure.number not in _REFUSED:
        return None
    return Diagnosis(
        "The server runs as root without CAP_SYS_ADMIN, as in a container.",
        "Run it there as an ordinary user (--user 1000:1000), or on the machine itself. The "
        f"container then needs {_options(machine)}.",
    )


def _container_filter(failure: Failure, machine: MachineFacts) -> Diagnosis | None:
    if not machine.filtered or failure.number not in _REFUSED | {errno.ENOSYS}:
        return None
    return Diagnosis(
        "The container's seccomp filter forbids namespaces or mounts, as Docker's default does.",
        f"Start the container with {_options(machine)}.",
    )


def _container_profile(failure: Failure, machine: MachineFacts) -> Diagnosis | None:
    confined = machine.confinement not in {"", "unconfined"}
    if not confined or failure.number not in _REFUSED:
        return None
    return Diagnosis(
        f"The AppArmor profile {machine.confinement.split()[0]} forbids mounts here.",
        "Start the container with --security-opt apparmor=unconfined, or the server outside of "
        "the profile.",
    )


def _refused_namespaces(failure: Failure, _: MachineFacts) -> Diagnosis | None:
    if failure.number not in _REFUSED:
        return None
    return Diagnosis(
        "This machine refuses user namespaces or mounts in them: a security module (SELinux, "
        "AppArmor, a module of the vendor's), or a chroot.",
        "Look at the kernel's log (sudo dmesg | tail) for the module that refused, allow user "
        "namespaces to the server's Python there, leave the chroot, or start the server as root.",
    )


def _masked_proc(failure: Failure, _: MachineFacts) -> Diagnosis | None:
    if failure.step != "proc":
        return None
    return Diagnosis(
        "This container hides parts of /proc, and so no box in it can have a /proc of its own.",
        UNMASK,
    )


def _no_overlay(failure: Failure, machine: MachineFacts) -> Diagnosis | None:
    if failure.step != "workspace" or failure.number in _FULL:
        return None
    if failure.number == errno.ENODEV:
        return Diagnosis("This kernel has no overlay file system.", "Run: sudo modprobe overlay")
    old = machine.version < _OVERLAY_IN_USER_NAMESPACES
    what = "mount an overlay" if old else "mount an overlay over a tmpfs"
    return Diagnosis(
        f"This kernel ({machine.release}) cannot {what} in a user namespace.",
        "Use Linux 6.6 or newer, or install bubblewrap (apt-get install bubblewrap): boxes then "
        "work on a copy.",
    )


def _old_mounts(failure: Failure, machine: MachineFacts) -> Diagnosis | None:
    if failure.number != errno.ENOSYS or machine.version >= _MOUNT_SETATTR:
        return None
    return Diagnosis(
        f"This kernel ({machine.release}) lacks system calls of a sandbox, mount_setattr among "
        "them.",
        "Use Linux 5.12 or newer; 6.6 or newer for all that a sandbox can do.",
    )


def _link(failure: Failure, _: MachineFacts) -> Diagnosis | None:
    if failure.number != errno.ELOOP:
        return None
    return Diagnosis(
        "A directory that the sandbox was to see is a symbolic link, or lies behind one.",
        "Put a directory in its place; a checkout whose place it takes is made anew when the "
        "clone cache (repositories/ in the data directory) is deleted.",
    )


def _no_bubblewrap(failure: Failure, _: MachineFacts) -> Diagnosis | None:
    if failure.step != BUBBLEWRAP_STEP:
        return None
    if failure.number == errno.ENOENT:
        return Diagnosis(
            "There is no bubblewrap (/usr/bin/bwrap), or one older than 0.7.",
            "Install it, on Debian and Ubuntu with 'apt-get install bubblewrap'.",
        )
    return Diagnosis(
        "Bubblewrap makes no sandbox on this machine.",
        "See what it says: bwrap --unshare-all --ro-bind / / --proc /proc true",
    )


def _no_filters(failure: Failure, machine: MachineFacts) -> Diagnosis | None:
    if failure.step != "seccomp" or failure.number not in _MISSING:
        return None
    return Diagnosis(
        f"This kernel ({machine.release}) takes no seccomp filter.",
        "Use a kernel with CONFIG_SECCOMP_FILTER, as those of all distributions.",
    )


def _shortage(failure: Failure, _: MachineFacts) -> Diagnosis | None:
    if failure.number not in _SHORT:
        return None
    return Diagnosis(
        f"The machine is short of what a sandbox takes: {failure.step} "
        f"({os.strerror(failure.number)}).",
        "Look at free memory, free disk space and the server's limits of processes and open files.",
    )


def _unknown(failure: Failure, machine: MachineFacts) -> Diagnosis:
    cause = os.strerror(failure.number) if failure.number else "no answer"
    return Diagnosis(
        f"The kernel refused a step of making a sandbox: {failure.step} ({cause}).",
        "Run the server as root or on another machine, and report the step and the kernel "
        f"({machine.release}).",
    )


def _options(machine: MachineFacts) -> str:
    if machine.container:
        return {"docker": _DOCKER, "podman": _PODMAN}[machine.container]
    return f"Docker's {_DOCKER}; or Podman's {_PODMAN}"


# The first that fits explains.
_NAMESPACE_RULES: tuple[_Rule, ...] = (
    _foreign_architecture,
    _no_proc,
    _namespaces_off,
    _namespaces_for_root,
    _apparmor_restriction,
    _chroot,
    _weak_root,
    _container_filter,
    _container_profile,
    _no_namespaces,
    _refused_namespaces,
)
_RULES: tuple[_Rule, ...] = (
    _foreign_architecture,
    _link,
    _old_mounts,
    _masked_proc,
    _container_filter,
    _container_profile,
    _no_overlay,
    _no_filters,
    _no_bubblewrap,
    _shortage,
)
