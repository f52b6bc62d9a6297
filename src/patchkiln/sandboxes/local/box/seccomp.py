"""The system calls that a box may make, as a seccomp filter in classic BPF.

A list of what is denied, because builds and test suites use nearly everything else. Denied is what
reaches the kernel beyond the box's namespaces, or has a history of holes: mounts, new namespaces,
keyrings, io_uring, BPF, performance counters, handles of files, clocks, modules. A call that is
newer than this list does not exist for the box. Where no control group counts its memory, neither
does what would hold memory that belongs to no process and no disk.

Sources: seccomp(2), linux/audit.h, the default profile of moby/profiles.
"""

import errno
import struct
from typing import Final, NamedTuple

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
_JUMP_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_NOT_LESS: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_JUMP_ANY_BIT: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K

# Offsets in struct seccomp_data; of an argument the low half, which both machines store first.
_NUMBER: Final = 0
_ARCHITECTURE: Final = 4
_ARGUMENTS: Final = (16, 24, 32)

ALLOW: Final = 0x7FFF0000
KILL_PROCESS: Final = 0x80000000
_FAIL: Final = 0x00050000

_FIRST_UNKNOWN: Final = 470
_AUDIT: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}; of unshare(2) also CLONE_NEWTIME.
_NEW_NAMESPACE: Final = 0x7E020000
_NEW_TIME: Final = 0x80
_TIOCSTI: Final = 0x5412
_TIOCLINUX: Final = 0x541C
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_NETLINK_ROUTE: Final = 0
_SOCK_TYPE_MASK: Final = 0xF
_SOCK_STREAM, _SOCK_DGRAM, _SOCK_RAW = 1, 2, 3
_ANY, _ICMP, _TCP, _UDP, _ICMPV6 = 0, 1, 6, 17, 58

# name: (number on x86_64, number on aarch64); None where the machine has no such call.
DENIED: Final[dict[str, tuple[int | None, int | None]]] = {
    "_sysctl": (156, None),
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "create_module": (174, None),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "get_kernel_syms": (177, None),
    "get_mempolicy": (239, 236),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mbind": (237, 235),
    "migrate_pages": (256, 238),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "name_to_handle_at": (303, 264),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "query_module": (178, None),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "set_mempolicy": (238, 237),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "sysfs": (139, None),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "uselib": (134, None),
    "userfaultfd": (323, 282),
    "ustat": (136, None),
    "vhangup": (153, 58),
}
# Programs know what to do on a kernel that lacks these. The arguments of clone3 lie in memory, out
# of a filter's reach; the requests of io_setup are few, and the whole machine's; what memfd_secret
# holds is locked, past the limit of what may be.
ABSENT: Final[dict[str, tuple[int, int]]] = {
    "clone3": (435, 435),
    "io_setup": (206, 0),
    "memfd_secret": (447, 447),
}
# What only a control group can count. Shared memory of System V is left: /proc tells its size.
UNCOUNTED: Final[dict[str, tuple[int, int]]] = {
    "memfd_create": (319, 279),
    "msgget": (68, 186),
    "semget": (64, 190),
}
JUDGED: Final = {
    "x86_64": {"clone": 56, "unshare": 272, "ioctl": 16, "socket": 41},
    "aarch64": {"clone": 220, "unshare": 97, "ioctl": 29, "socket": 198},
}
_MACHINES: Final = ("x86_64", "aarch64")


class _Instruction(NamedTuple):
    code: int
    value: int
    if_true: int = 0
    if_false: int = 0


def build_filter(machine: str, *, counted: bool) -> bytes:
    """Return the filter for a machine, ``x86_64`` or ``aarch64``, as the kernel takes it.

    ``counted`` tells whether a control group counts all memory of the box.
    """
    calls = JUDGED[machine]
    column = _MACHINES.index(machine)
    program = [*_only_architecture(_AUDIT[machine]), *_only_known()]
    for numbers in DENIED.values():
        number = numbers[column]
        if number is not None:
            program += _on_word(number, [_fail(errno.EPERM)])
    for pair in (ABSENT if counted else ABSENT | UNCOUNTED).values():
        program += _on_word(pair[column], [_fail(errno.ENOSYS)])
    program += _on_word(calls["clone"], _without_bits(_NEW_NAMESPACE))
    program += _on_word(calls["unshare"], _without_bits(_NEW_NAMESPACE | _NEW_TIME))
    program += _on_word(calls["ioctl"], _judge_ioctl())
    program += _on_word(calls["socket"], _judge_socket())
    program.append(_Instruction(_RETURN, ALLOW))
    return b"".join(
        struct.pack("<HBBI", line.code, line.if_true, line.if_false, line.value) for line in program
    )


def _only_architecture(architecture: int) -> list[_Instruction]:
    """Kill what calls the kernel by another convention, such as 32-bit x86's."""
    return [
        _Instruction(_LOAD, _ARCHITECTURE),
        _Instruction(_JUMP_EQUAL, architecture, 1, 0),
        _Instruction(_RETURN, KILL_PROCESS),
        _Instruction(_LOAD, _NUMBER),
    ]


def _only_known() -> list[_Instruction]:
    """Unknown numbers do not exist; x32's, which have a bit of their own, are among them."""
    return [_Instruction(_JUMP_NOT_LESS, _FIRST_UNKNOWN, 0, 1), _fail(errno.ENOSYS)]


def _on_word(number: int, block: list[_Instruction]) -> list[_Instruction]:
    """Run a block, which must return, where the loaded word is a number."""
    return [_Instruction(_JUMP_EQUAL, number, 0, len(block)), *block]


def _without_bits(mask: int) -> list[_Instruction]:
    return [
        _Instruction(_LOAD, _ARGUMENTS[0]),
        _Instruction(_JUMP_ANY_BIT, mask, 0, 1),
        _fail(errno.EPERM),
        _Instruction(_RETURN, ALLOW),
    ]


def _judge_ioctl() -> list[_Instruction]:
    """Deny typing into a terminal for someone else."""
    return [
        _Instruction(_LOAD, _ARGUMENTS[1]),
        _Instruction(_JUMP_EQUAL, _TIOCSTI, 1, 0),
        _Instruction(_JUMP_EQUAL, _TIOCLINUX, 0, 1),
        _fail(errno.EPERM),
        _Instruction(_RETURN, ALLOW),
    ]


def _judge_socket() -> list[_Instruction]:
    """Allow Unix sockets, TCP, UDP and the routing part of netlink.

    Families such as AF_VSOCK know no network namespace and would reach the machine's host. Of the
    internet's protocols the rarer ones, such as SCTP, have had their holes.
    """
    allow = _Instruction(_RETURN, ALLOW)
    judge_netlink = [
        _Instruction(_LOAD, _ARGUMENTS[2]),
        _Instruction(_JUMP_EQUAL, _NETLINK_ROUTE, 0, 1),
        allow,
        _fail(errno.EAFNOSUPPORT),
    ]
    judge_internet = [
        _Instruction(_LOAD, _ARGUMENTS[1]),
        _Instruction(_AND, _SOCK_TYPE_MASK),
        *_on_word(_SOCK_RAW, [_fail(errno.EPERM)]),
        *_on_word(_SOCK_STREAM, _only_protocols(_ANY, _TCP)),
        *_on_word(_SOCK_DGRAM, _only_protocols(_ANY, _UDP, _ICMP, _ICMPV6)),
        _fail(errno.EPROTONOSUPPORT),
    ]
    return [
        _Instruction(_LOAD, _ARGUMENTS[0]),
        *_on_word(_AF_UNIX, [allow]),
        *_on_word(_AF_NETLINK, judge_netlink),
        *_on_word(_AF_INET, judge_internet),
        *_on_word(_AF_INET6, judge_internet),
        _fail(errno.EAFNOSUPPORT),
    ]


def _only_protocols(*protocols: int) -> list[_Instruction]:
    allow = _Instruction(_RETURN, ALLOW)
    judged = [line for protocol in protocols for line in _on_word(protocol, [allow])]
    return [_Instruction(_LOAD, _ARGUMENTS[2]), *judged, _fail(errno.EPROTONOSUPPORT)]


def _fail(number: int) -> _Instruction:
    return _Instruction(_RETURN, _FAIL | number)
