"""Machines that isolate less, made of this one: what a process does to itself before it serves.

`prepare` runs as root, in a mount namespace of its own that it makes; `narrow` as whoever serves.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from patchkiln.sandboxes.local.box import syscalls
from patchkiln.sandboxes.local.zygote import hostmounts

# What Docker and Podman hide of a container's /proc (runtime-spec, maskedPaths), and close.
_MASKED_FILES = ("kcore", "keys", "timer_list", "sched_debug")
_MASKED_DIRECTORIES = ("acpi", "scsi")
_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")

_LOAD, _JUMP_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_NEW_NAMESPACE = 0x7E020000
_SYS_ADMIN = 21
_CAPABILITY_VERSION = 0x20080522
# On x86_64 and on aarch64.
_NUMBERS = {
    "mount": (165, 40),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "setns": (308, 268),
    "pivot_root": (155, 41),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "mount_setattr": (442, 442),
    "keyctl": (250, 219),
    "bpf": (321, 280),
}
_CLONE, _CLONE3 = (56, 220), (435, 435)
# Refused by both engines' default profiles without CAP_SYS_ADMIN, and by Docker's alone.
_BOTH_REFUSE = frozenset({"setns", "sethostname", "setdomainname", "bpf"})
_DOCKER_REFUSES = frozenset(_NUMBERS)


def mask_proc() -> None:
    """Hide and close parts of /proc as container engines do."""
    for name in _MASKED_FILES:
        if Path("/proc", name).exists():
            syscalls.bind("/dev/null", f"/proc/{name}")
    for name in _MASKED_DIRECTORIES:
        if Path("/proc", name).exists():
            syscalls.mount("masked", f"/proc/{name}", "tmpfs", syscalls.MS_RDONLY)
    for name in _READ_ONLY:
        if Path("/proc", name).exists():
            syscalls.bind(f"/proc/{name}", f"/proc/{name}")
            syscalls.set_mount_attributes(f"/proc/{name}", syscalls.ATTR_RDONLY)


def enter_chroot(data_dir: str) -> None:
    """Make a root that is no mount, of everything that there is, and enter it by chroot."""
    place = Path(f"{data_dir}-root")
    place.mkdir(exist_ok=True)
    syscalls.mount("root", str(place), "tmpfs", 0, "mode=755")
    root = place / "root"
    root.mkdir(mode=0o755)
    for entry in sorted(Path("/").iterdir()):
        if entry.is_symlink():
            (root / entry.name).symlink_to(entry.readlink())
        elif entry.is_dir():
            (root / entry.name).mkdir()
            syscalls.bind(str(entry), str(root / entry.name))
    cwd = Path.cwd()
    os.chroot(root)
    os.chdir(cwd)


def fill_disk(data_dir: str) -> None:
    """Put a disk without room in the place of the data directory."""
    syscalls.mount("full", data_dir, "tmpfs", 0, "mode=777,nr_inodes=1")


def close_disk(data_dir: str) -> None:
    """Put a disk that takes no writes in the place of the data directory."""
    syscalls.mount("closed", data_dir, "tmpfs", syscalls.MS_RDONLY, "mode=777")


def forbid_programs(data_dir: str) -> None:
    """Put a disk from which no program runs in the place of the data directory."""
    syscalls.mount("noexec", data_dir, "tmpfs", syscalls.MS_NOEXEC, "mode=777")


def drop_sys_admin(_: str) -> None:
    """Be root as in a container: without the capability to mount."""
    syscalls.prctl(syscalls.PR_CAPBSET_DROP, _SYS_ADMIN)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("CapPrm:"))
    kept = int(line.split()[1], 16) & ~(1 << _SYS_ADMIN)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    header = struct.pack("<Ii", _CAPABILITY_VERSION, 0)
    assert ctypes.CDLL(None).capset(header, struct.pack("<6I", low, low, 0, high, high, 0)) == 0


def own_counts() -> None:
    """Enter a user namespace, whose counts of other namespaces `allow` may change."""
    uid, gid = os.getuid(), os.getgid()
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    hostmounts.write_id_maps(os.getpid(), (uid, uid), (gid, gid))


def allow(kind: str, count: int) -> None:
    """Allow so many namespaces of a kind."""
    Path(f"/proc/sys/user/max_{kind}_namespaces").write_text(str(count), encoding="utf-8")


def forbid_namespaces() -> None:
    """Enter a user namespace in which no other may be made."""
    own_counts()
    allow("user", 0)


def filter_as_docker() -> None:
    """Install what Docker's default profile refuses to a container without CAP_SYS_ADMIN."""
    _filter(_DOCKER_REFUSES, clone=True, clone3=True)


def filter_as_podman() -> None:
    """Install what Podman's default profile refuses."""
    _filter(_BOTH_REFUSE, clone=False, clone3=False)


def filter_as_advised() -> None:
    """Install Docker's default profile with the changes that the remedy names."""
    from patchkiln.sandboxes.local.selftest.diagnosis import DOCKER_CALLS  # noqa: PLC0415 - read late, as it is only here

    allowed = frozenset(DOCKER_CALLS)
    refused = _DOCKER_REFUSES - allowed
    _filter(refused, clone="clone" not in allowed, clone3="clone3" not in allowed)


def filter_as_old_kernel() -> None:
    """Do without mount_setattr, as before Linux 5.12; bubblewrap knows how to."""
    column = 0 if syscalls.MACHINE == "x86_64" else 1
    missing = _on(_NUMBERS["mount_setattr"][column], [(_RETURN, 0, 0, _FAIL | errno.ENOSYS)])
    _install([(_LOAD, 0, 0, 0), *missing, (_RETURN, 0, 0, _ALLOW)])


PREPARATIONS: dict[str, Callable[[str], None]] = {
    "masked": lambda _: mask_proc(),
    "chroot": enter_chroot,
    "full disk": fill_disk,
    "closed disk": close_disk,
    "noexec": forbid_programs,
    "contained root": drop_sys_admin,
}
_NARROWINGS: dict[str, Callable[[], None]] = {
    "no namespaces": forbid_namespaces,
    "own counts": own_counts,
    "docker": filter_as_docker,
    "podman": filter_as_podman,
    "advised": filter_as_advised,
    "old kernel": filter_as_old_kernel,
}


def prepare(data_dir: str, names: Sequence[str]) -> None:
    """Change the machine, in a mount namespace of this process's own."""
    chosen = [PREPARATIONS[name] for name in names if name in PREPARATIONS]
    if chosen:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    for change in chosen:
        change(data_dir)


def narrow(names: Sequence[str]) -> None:
    """Give up what this process may do."""
    for name in names:
        if name in _NARROWINGS:
            _NARROWINGS[name]()


def _filter(refused: frozenset[str], *, clone: bool, clone3: bool) -> None:
    column = 0 if syscalls.MACHINE == "x86_64" else 1
    program = [(_LOAD, 0, 0, 0)]
    for name in sorted(refused):
        program += _on(_NUMBERS[name][column], [(_RETURN, 0, 0, _FAIL | errno.EPERM)])
    if clone3:
        program += _on(_CLONE3[column], [(_RETURN, 0, 0, _FAIL | errno.ENOSYS)])
    if clone:
        judged = [
            (_LOAD, 0, 0, 16),
            (_JUMP_ANY_BIT, 0, 1, _NEW_NAMESPACE),
            (_RETURN, 0, 0, _FAIL | errno.EPERM),
            (_RETURN, 0, 0, _ALLOW),
        ]
        program += _on(_CLONE[column], judged)
    _install([*program, (_RETURN, 0, 0, _ALLOW)])


def _install(program: list[tuple[int, int, int, int]]) -> None:
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.install_seccomp_filter(b"".join(struct.pack("<HBBI", *line) for line in program))


def _on(number: int, block: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    return [(_JUMP_EQUAL, 0, len(block), number), *block]
