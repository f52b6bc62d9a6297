"""What a diagnosis needs to know of this machine: read in one place, and never judged here."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from patchkiln.sandboxes.local.box import syscalls

MAX_USER_NAMESPACES = "user/max_user_namespaces"
UNPRIVILEGED_CLONE = "kernel/unprivileged_userns_clone"
APPARMOR_RESTRICTION = "kernel/apparmor_restrict_unprivileged_userns"
_SETTINGS = (MAX_USER_NAMESPACES, UNPRIVILEGED_CLONE, APPARMOR_RESTRICTION)
_SYS_ADMIN = 1 << 21
_SECCOMP_FILTER = "2"
# Left by the engines in every container of theirs.
_ENGINES = {".dockerenv": "docker", "run/.containerenv": "podman"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """What the kernel tells of itself and of this process.

    ``settings`` are sysctls by their path below ``/proc/sys``; those that the kernel lacks are
    missing. ``confinement`` is AppArmor's profile, ``container`` ``docker``, ``podman`` or empty.
    """

    release: str
    architecture: str
    as_root: bool = False
    sys_admin: bool = False
    filtered: bool = False
    user_namespaces: bool = True
    proc_mounted: bool = True
    chrooted: bool = False
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    confinement: str = ""
    container: str = ""

    @property
    def version(self) -> tuple[int, int]:
        """Return the kernel's version as numbers; (0, 0) where it has none."""
        parts = self.release.replace("-", ".").replace("+", ".").split(".")[:2]
        major, minor = (int(part) if part.isdigit() else 0 for part in [*parts, "", ""][:2])
        return major, minor


def read_facts(root: Path = Path("/")) -> MachineFacts:
    """Read the facts; what cannot be read is as if it were not there."""
    proc = root / "proc"
    status = dict(_fields(_read(proc / "self/status")))
    settings = {name: _read(proc / "sys" / name).strip() for name in _SETTINGS}
    mounts = _read(proc / "self/mountinfo")
    return MachineFacts(
        release=os.uname().release,
        architecture=syscalls.MACHINE,
        as_root=os.geteuid() == 0,
        sys_admin=bool(int(status.get("CapEff", "0"), 16) & _SYS_ADMIN),
        filtered=status.get("Seccomp") == _SECCOMP_FILTER,
        user_namespaces=not status or (proc / "self/ns/user").is_symlink(),
        proc_mounted=bool(status),
        chrooted=bool(mounts) and not _shows_root(mounts),
        settings={name: value for name, value in settings.items() if value},
        confinement=_read(proc / "self/attr/current").strip("\0\n"),
        container=next((name for mark, name in _ENGINES.items() if (root / mark).exists()), ""),
    )


def _fields(status: str) -> list[tuple[str, str]]:
    lines = (line.partition(":") for line in status.splitlines())
    return [(name, value.strip()) for name, _, value in lines]


def _shows_root(mountinfo: str) -> bool:
    """Tell whether the root is a mount; to a process in a chroot, most often, it is none."""
    return any(line.split(" ", 5)[4] == "/" for line in mountinfo.splitlines())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
