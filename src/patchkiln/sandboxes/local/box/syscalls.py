"""System calls that Python's standard library does not offer, through ctypes.

Every function raises `OSError` with the call's name as its ``filename``.
"""

import ctypes
import os
import struct
from functools import partial
from itertools import count
from typing import Final

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MNT_DETACH: Final = 2

ATTR_RDONLY: Final = 1
ATTR_NOSUID: Final = 2
ATTR_NODEV: Final = 4
ATTR_NOEXEC: Final = 8
ATTR_IDMAP: Final = 0x00100000

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_SECCOMP: Final = 22
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
SECCOMP_MODE_FILTER: Final = 2

_AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_AT_RECURSIVE: Final = 0x8000
_OPEN_TREE_CLONE: Final = 1
_RESOLVE_NO_SYMLINKS: Final = 4
_MOVE_MOUNT_F_EMPTY_PATH: Final = 4
_LINUX_CAPABILITY_VERSION_3: Final = 0x20080522
_CAPABILITY_BYTES: Final = 24
_SIGCHLD: Final = 17
_CLONE_INTO_CGROUP: Final = 1 << 33
_STATFS_WORDS: Final = 32  # more than its 120 bytes
_ARGUMENT_FIELDS: Final = slice(45, 47)  # of /proc/PID/stat, counted after the name

# Since Linux 5.1 new calls have the same number on every architecture.
_OPEN_TREE: Final = 428
_MOVE_MOUNT: Final = 429
_CLONE3: Final = 435
_OPENAT2: Final = 437
_MOUNT_SETATTR: Final = 442
_LANDLOCK_CREATE_RULESET: Final = 444
_LANDLOCK_ADD_RULE: Final = 445
_LANDLOCK_RESTRICT_SELF: Final = 446
_LANDLOCK_CREATE_RULESET_VERSION: Final = 1
_LANDLOCK_RULE_PATH_BENEATH: Final = 1
_OLD_NUMBERS: Final = {
    "x86_64": {"clone": 56, "capset": 126, "pivot_root": 155},
    "aarch64": {"clone": 220, "capset": 91, "pivot_root": 41},
}

MACHINE: Final = os.uname().machine
SUPPORTED_MACHINES: Final = frozenset(_OLD_NUMBERS)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _checked(result: int, call: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), call)
    return result


def _syscall(call: str, number: int, *args: object) -> int:
    return _checked(_libc.syscall(ctypes.c_long(number), *args), call)


def mount(
    source: str | None, target: str, kind: str | None, flags: int = 0, options: str | None = None
) -> None:
    """Mount a file system, or change how one is mounted."""
    result = _libc.mount(
        _encoded(source),
        os.fsencode(target),
        _encoded(kind),
        ctypes.c_ulong(flags),
        _encoded(options),
    )
    _checked(result, "mount")


def bind(source: str, target: str) -> None:
    """Show a file or a whole tree at another place; the flags of its mounts stay as they are."""
    mount(source, target, None, MS_BIND | MS_REC)


def unmount(target: str) -> None:
    """Take a mount out of sight; what still uses it keeps it alive."""
    _checked(_libc.umount2(os.fsencode(target), MNT_DETACH), "umount2")


def pivot_root_here() -> None:
    """Make the working directory the root, and drop the old root."""
    _syscall("pivot_root", _OLD_NUMBERS[MACHINE]["pivot_root"], b".", b".")
    unmount(".")
    os.chdir("/")


def set_mount_attributes(
    path: str,
    attributes: int,
    *,
    recursive: bool = True,
    directory: int = _AT_FDCWD,
    userns: int = 0,
) -> None:
    """Change a mount's attributes (mount_setattr(2), Linux 5.12).

    An empty path means the mount that the descriptor ``directory`` stands for.
    """
    flags = (_AT_RECURSIVE if recursive else 0) | (0 if path else _AT_EMPTY_PATH)
    request = struct.pack("QQQQ", attributes, 0, 0, userns)
    _syscall(
        "mount_setattr", _MOUNT_SETATTR, directory, os.fsencode(path), flags, request, len(request)
    )


def open_place(path: str) -> int:
    """Return a descriptor that stands for a directory (openat2(2), Linux 5.6).

    A symbolic link anywhere in the path is `ELOOP`.
    """
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    how = struct.pack("QQQ", flags, 0, _RESOLVE_NO_SYMLINKS)
    return _syscall("openat2", _OPENAT2, _AT_FDCWD, os.fsencode(path), how, len(how))


def clone_mount(path: str, *, directory: int = _AT_FDCWD) -> int:
    """Return a descriptor of a detached copy of a mount tree (open_tree(2), Linux 5.2).

    An empty path means the place that the descriptor ``directory`` stands for.
    """
    empty = 0 if path else _AT_EMPTY_PATH
    flags = ctypes.c_uint(_OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC | empty)
    return _syscall("open_tree", _OPEN_TREE, directory, os.fsencode(path), flags)


def attach_mount(descriptor: int, target: str) -> None:
    """Attach a detached mount (move_mount(2), Linux 5.2)."""
    _syscall(
        "move_mount",
        _MOVE_MOUNT,
        descriptor,
        b"",
        _AT_FDCWD,
        os.fsencode(target),
        _MOVE_MOUNT_F_EMPTY_PATH,
    )


def clone_process(flags: int, cgroup: int | None = None) -> int:
    """Fork into new namespaces, and into the control group of a descriptor; 0 in the child.

    A raw clone(2), because os.fork takes no flags. The caller must be single-threaded: the
    interpreter's own fork hooks do not run. Only clone3 (Linux 5.7) knows of control groups.
    """
    if cgroup is not None:
        words = (flags | _CLONE_INTO_CGROUP, 0, 0, 0, _SIGCHLD, 0, 0, 0, 0, 0, cgroup)
        request = struct.pack("11Q", *words)
        return _syscall("clone3", _CLONE3, request, len(request))
    zero = ctypes.c_ulong(0)
    call = _OLD_NUMBERS[MACHINE]["clone"]
    return _syscall("clone", call, ctypes.c_ulong(flags | _SIGCHLD), zero, zero, zero, zero)


def unshare(flags: int) -> None:
    """Move this process into new namespaces."""
    _checked(_libc.unshare(flags), "unshare")


def file_system_type(descriptor: int) -> int:
    """Return the number of the kind of file system that a descriptor lies in (fstatfs(2))."""
    status = (ctypes.c_long * _STATFS_WORDS)()
    _checked(_libc.fstatfs(descriptor, status), "fstatfs")
    return status[0]


def hide_arguments(name: str) -> None:
    """Let /proc/PID/cmdline, which everyone may read, show a name and nothing else.

    Writes over the arguments in this process's own memory (``arg_start``, proc_pid_stat(5)).
    """
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = (int(field) for field in fields[_ARGUMENT_FIELDS])
    ctypes.memmove(start, name.encode()[: end - start - 1].ljust(end - start, b"\0"), end - start)


def set_hostname(name: str) -> None:
    """Name the machine, in this namespace."""
    data = name.encode()
    _checked(_libc.sethostname(data, len(data)), "sethostname")


def prctl(option: int, *args: object) -> int:
    """Change a property of this process; missing arguments are 0, as newer options demand."""
    padded = [*args, *([0] * (4 - len(args)))]
    words = [ctypes.c_ulong(arg) if isinstance(arg, int) else arg for arg in padded]
    return _checked(_libc.prctl(option, *words), "prctl")


def drop_bounding_set() -> None:
    """Let no program bring a capability back; without CAP_SETPCAP nothing changes."""
    drop = partial(_libc.prctl, PR_CAPBSET_DROP)
    # The first number that this kernel does not know fails.
    next(capability for capability in count() if drop(capability, 0, 0, 0) < 0)


def clear_capabilities(*, ambient: bool = True) -> None:
    """Give up every capability, for good: the bounding and ambient sets, then the process's own."""
    drop_bounding_set()
    if ambient:
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = struct.pack("<Ii", _LINUX_CAPABILITY_VERSION_3, 0)
    _syscall("capset", _OLD_NUMBERS[MACHINE]["capset"], header, b"\0" * _CAPABILITY_BYTES)


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install_seccomp_filter(program: bytes) -> None:
    """Install a BPF program as this process's seccomp filter."""
    buffer = ctypes.create_string_buffer(program, len(program))
    address = ctypes.cast(buffer, ctypes.c_void_p)
    filter_program = _FilterProgram(len(program) // 8, address)
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filter_program))


def landlock_abi() -> int:
    """Return the version of Landlock's interface; 0 where the kernel has none."""
    try:
        return _syscall(
            "landlock", _LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_CREATE_RULESET_VERSION
        )
    except OSError:
        return 0


def landlock_ruleset(attributes: bytes) -> int:
    """Return a descriptor of a new ruleset."""
    return _syscall("landlock", _LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)


def landlock_allow(ruleset: int, path: str, access: int) -> None:
    """Allow some kinds of access beneath a path."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rule = struct.pack("<Qi", access, descriptor)
    try:
        _syscall("landlock", _LANDLOCK_ADD_RULE, ruleset, _LANDLOCK_RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(descriptor)


def landlock_restrict(ruleset: int) -> None:
    """Enforce a ruleset on this process and its children; needs no_new_privs."""
    _syscall("landlock", _LANDLOCK_RESTRICT_SELF, ruleset, 0)


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)
