"""Why this machine cannot isolate, and the exact fix."""

import errno
import os
from pathlib import Path
from typing import NamedTuple

from patchkiln.sandboxes.local import syscalls

_CONTAINER_OPTIONS = (
    "Docker: --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
    "--security-opt systempaths=unconfined; Podman: --security-opt seccomp=unconfined "
    "--security-opt unmask=ALL"
)
_NAMESPACE_STEPS = frozenset(
    {"user namespace", "id maps", "mount namespace", "staging", "clone", "start", "identity"}
)
_MOUNT_STEPS = frozenset({"template", "mounts", "system", "root"})


class Diagnosis(NamedTuple):
    """A cause and its fix, each a sentence."""

    reason: str
    remedy: str


class _Setting(NamedTuple):
    """A sysctl, below /proc/sys, with the value that forbids boxes."""

    name: str
    forbidding: str
    spares_root: bool
    diagnosis: Diagnosis


SETTINGS = (
    _Setting(
        name="user/max_user_namespaces",
        forbidding="0",
        spares_root=False,
        diagnosis=Diagnosis(
            "This machine allows no user namespaces (user.max_user_namespaces is 0).",
            "Run: sudo sysctl -w user.max_user_namespaces=15000",
        ),
    ),
    _Setting(
        name="kernel/unprivileged_userns_clone",
        forbidding="0",
        spares_root=True,
        diagnosis=Diagnosis(
            "This machine allows user namespaces to root alone "
            "(kernel.unprivileged_userns_clone is 0).",
            "Run: sudo sysctl -w kernel.unprivileged_userns_clone=1",
        ),
    ),
    _Setting(
        name="kernel/apparmor_restrict_unprivileged_userns",
        forbidding="1",
        spares_root=True,
        diagnosis=Diagnosis(
            "AppArmor restricts user namespaces on this machine, as on Ubuntu 23.10 and newer "
            "(kernel.apparmor_restrict_unprivileged_userns is 1).",
            "Run: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or start the "
            "server as root.",
        ),
    ),
)


def explain(step: str, number: int, *, as_root: bool) -> Diagnosis:
    """Explain why a step of making a box failed. ``number`` is its errno, 0 where unknown."""
    if syscalls.MACHINE not in syscalls.SUPPORTED_MACHINES:
        return Diagnosis(
            f"The local sandbox does not know this machine's system calls ({syscalls.MACHINE}).",
            "Use a machine with x86_64 or aarch64.",
        )
    if step in _NAMESPACE_STEPS:
        return _explain_namespaces(step, number, as_root=as_root)
    if step == "proc":
        return Diagnosis(
            "This container hides parts of /proc, and so no box in it can have a /proc of its own.",
            "Start the container with Docker's --security-opt systempaths=unconfined, or Podman's "
            "--security-opt unmask=ALL.",
        )
    if step == "workspace" and number != errno.ENOSPC:
        return Diagnosis(
            f"This kernel ({os.uname().release}) cannot mount an overlay over a tmpfs in a user "
            "namespace.",
            "Use Linux 6.6 or newer.",
        )
    if step in _MOUNT_STEPS:
        return _explain_mounts(step, number)
    return _unknown(step, number)


def _explain_mounts(step: str, number: int) -> Diagnosis:
    if number == errno.ENOSYS:
        return Diagnosis(
            f"This kernel ({os.uname().release}) lacks mount_setattr.", "Use Linux 5.12 or newer."
        )
    if number == errno.ELOOP:
        return Diagnosis(
            "A directory that the sandbox was to see is a symbolic link, or lies behind one.",
            "Put a directory in its place; a checkout whose place it takes is made anew when the "
            "clone cache (repositories/ in the data directory) is deleted.",
        )
    return _unknown(step, number)


def explain_machine(error: OSError) -> Diagnosis:
    """Explain why the server could not even prepare a box."""
    return Diagnosis(
        f"The server cannot prepare a sandbox ({os.strerror(error.errno or 0)}).",
        "Let the server write its data directory (PATCHKILN_DATA_DIR), and look at free disk "
        "space and at the limit of open files.",
    )


def _explain_namespaces(step: str, number: int, *, as_root: bool) -> Diagnosis:
    for setting in SETTINGS:
        if _read_setting(setting.name) == setting.forbidding and not (
            as_root and setting.spares_root
        ):
            return setting.diagnosis
    if as_root and step in {"mount namespace", "staging"}:
        return Diagnosis(
            "The server runs as root without CAP_SYS_ADMIN, as in a container.",
            "Run it there as an ordinary user (--user 1000:1000), or on the machine itself. "
            f"The container needs {_CONTAINER_OPTIONS}.",
        )
    if number in {errno.EPERM, errno.EACCES} and _filtered():
        return Diagnosis(
            "The container's seccomp filter forbids namespaces or mounts.",
            f"Start the container with: {_CONTAINER_OPTIONS}.",
        )
    return _unknown(step, number)


def _read_setting(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text(encoding="utf-8").strip()
    except OSError:  # this kernel has no such setting
        return ""


def _filtered() -> bool:
    """Tell whether a seccomp filter holds this process, as one does in most containers."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return False
    return "Seccomp:\t2" in status


def _unknown(step: str, number: int) -> Diagnosis:
    cause = os.strerror(number) if number else "no answer"
    return Diagnosis(
        f"The kernel refused a step of making a sandbox: {step} ({cause}).",
        "Run the server as root or on another machine, and report the step and the kernel "
        f"({os.uname().release}).",
    )
