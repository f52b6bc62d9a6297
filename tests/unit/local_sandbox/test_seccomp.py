"""The seccomp filter of each machine, run by a small interpreter of its instructions."""

import errno
import struct
from itertools import product

import pytest

from patchkiln.sandboxes.local.box.seccomp import (
    ABSENT,
    ALLOW,
    DENIED,
    JUDGED,
    KILL_PROCESS,
    UNCOUNTED,
    build_filter,
)

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ORDINARY = {
    "x86_64": {"read": 0, "openat": 257, "execve": 59, "futex": 202, "ptrace": 101},
    "aarch64": {"read": 63, "openat": 56, "execve": 221, "futex": 98, "ptrace": 117},
}


def judge(
    machine: str,
    number: int,
    *arguments: int,
    architecture: int | None = None,
    counted: bool = True,
) -> int:
    """Return what the filter says to a call."""
    code = architecture or MACHINES[machine]
    padded = [*arguments, *([0] * (6 - len(arguments)))]
    data = struct.pack("<IIQ6Q", number, code, 0, *padded)
    program = list(struct.iter_unpack("<HBBI", build_filter(machine, counted=counted)))
    accumulator, place = 0, 0
    while True:
        operation, if_true, if_false, value = program[place]
        place += 1
        match operation:
            case 0x20:
                accumulator = struct.unpack_from("<I", data, value)[0]
            case 0x54:
                accumulator &= value
            case 0x15:
                place += if_true if accumulator == value else if_false
            case 0x35:
                place += if_true if accumulator >= value else if_false
            case 0x45:
                place += if_true if accumulator & value else if_false
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(f"unknown instruction {operation:#x}")


def fails(number: int) -> int:
    """Return the verdict that makes a call fail."""
    return 0x00050000 | number


@pytest.mark.parametrize("machine", MACHINES)
def test_ordinary_calls_pass(machine: str) -> None:
    """Reading, opening, starting programs, locks and debugging one's own are let through."""
    verdicts = {judge(machine, number) for number in ORDINARY[machine].values()}
    assert verdicts == {ALLOW}


@pytest.mark.parametrize(("column", "machine"), list(enumerate(MACHINES)))
def test_every_denied_call_fails(column: int, machine: str) -> None:
    """Each name of the table that the machine has answers that it is not permitted."""
    numbers = [pair[column] for pair in DENIED.values()]
    verdicts = {judge(machine, number) for number in numbers if number is not None}
    assert verdicts == {fails(errno.EPERM)}


@pytest.mark.parametrize("column", [0, 1])
def test_no_number_is_named_twice(column: int) -> None:
    """A slip of a digit would deny another call than the one named."""
    numbers = [pair[column] for pair in DENIED.values() if pair[column] is not None]
    numbers += [pair[column] for pair in (ABSENT | UNCOUNTED).values()]
    judged = list(JUDGED[list(MACHINES)[column]].values())
    assert len({*numbers, *judged}) == len(numbers) + len(judged)


@pytest.mark.parametrize("machine", MACHINES)
def test_foreign_conventions_kill(machine: str) -> None:
    """A call by 32-bit rules, or another machine's, ends the process."""
    assert judge(machine, 0, architecture=0x40000003) == KILL_PROCESS


@pytest.mark.parametrize(
    ("machine", "number"), list(product(MACHINES, [435, 470, 1000, 0x40000000, 0xFFFFFFFF]))
)
def test_unknown_calls_do_not_exist(machine: str, number: int) -> None:
    """Newer numbers, x32's and clone3 answer that there is no such call."""
    assert judge(machine, number) == fails(errno.ENOSYS)


@pytest.mark.parametrize(("column", "machine"), list(enumerate(MACHINES)))
def test_calls_that_programs_can_do_without_do_not_exist(column: int, machine: str) -> None:
    """They answer as on a kernel that lacks them, so that programs take another way."""
    numbers = [pair[column] for pair in ABSENT.values()]
    assert {judge(machine, number) for number in numbers} == {fails(errno.ENOSYS)}


@pytest.mark.parametrize(("column", "machine"), list(enumerate(MACHINES)))
def test_memory_of_nobody_needs_a_control_group(column: int, machine: str) -> None:
    """Where none counts it, files in memory, queues and semaphores do not exist; else they do."""
    numbers = [pair[column] for pair in UNCOUNTED.values()]
    assert {judge(machine, number) for number in numbers} == {ALLOW}
    assert {judge(machine, number, counted=False) for number in numbers} == {fails(errno.ENOSYS)}


@pytest.mark.parametrize("machine", MACHINES)
def test_clone_makes_threads_but_no_namespaces(machine: str) -> None:
    """Any one of the namespace flags is refused, beside whatever else."""
    clone, unshare = JUDGED[machine]["clone"], JUDGED[machine]["unshare"]
    assert judge(machine, clone, 0x3D0F00) == ALLOW
    assert judge(machine, unshare, 0x400) == ALLOW
    for shift in (17, 25, 26, 27, 28, 29, 30):
        assert judge(machine, clone, 1 << shift | 17) == fails(errno.EPERM)
        assert judge(machine, unshare, 1 << shift) == fails(errno.EPERM)
    assert judge(machine, unshare, 0x80) == fails(errno.EPERM)


@pytest.mark.parametrize("machine", MACHINES)
def test_only_some_sockets_can_be_opened(machine: str) -> None:
    """Unix, TCP, UDP and netlink's routing; the kind's flags do not hide a raw socket."""
    number = JUDGED[machine]["socket"]
    close_on_exec = 0o2000000
    for family, kind, protocol in ((1, 1, 0), (2, 1, 6), (10, 2 | close_on_exec, 17), (16, 3, 0)):
        assert judge(machine, number, family, kind, protocol) == ALLOW
    for family in (2, 10):
        assert judge(machine, number, family, 3 | close_on_exec, 1) == fails(errno.EPERM)
    for family in (0, 3, 15, 17, 31, 38, 40, 44):
        assert judge(machine, number, family, 1, 0) == fails(errno.EAFNOSUPPORT)
    assert judge(machine, number, 16, 3, 9) == fails(errno.EAFNOSUPPORT)


@pytest.mark.parametrize("machine", MACHINES)
def test_of_the_internet_there_are_the_common_protocols(machine: str) -> None:
    """TCP, UDP and ping, asked for by number or not; MPTCP, SCTP, DCCP and their kin are not."""
    number = JUDGED[machine]["socket"]
    for family in (2, 10):
        for kind, protocol in ((1, 0), (1, 6), (2, 0), (2, 17), (2, 1), (2, 58)):
            assert judge(machine, number, family, kind, protocol) == ALLOW
        others = (
            (1, 132),
            (1, 262),
            (1, 115),
            (2, 136),
            (2, 115),
            (5, 0),
            (5, 132),
            (6, 0),
            (6, 33),
        )
        for kind, protocol in others:
            assert judge(machine, number, family, kind, protocol) == fails(errno.EPROTONOSUPPORT)


@pytest.mark.parametrize("machine", MACHINES)
def test_terminals_cannot_be_typed_into(machine: str) -> None:
    """TIOCSTI and TIOCLINUX fail, also with high bits that the kernel drops; others pass."""
    number = JUDGED[machine]["ioctl"]
    for command in (0x5412, 0x541C, 1 << 32 | 0x5412):
        assert judge(machine, number, 0, command) == fails(errno.EPERM)
    assert judge(machine, number, 0, 0x5413) == ALLOW
