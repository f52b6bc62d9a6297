"""What the local sandbox promises about the kernel's surface."""

import os
import socket
from pathlib import Path

import pytest

from patchkiln.sandboxes.local.box import seccomp
from tests.security.machine import Box, processes_in

MACHINE = os.uname().machine
COLUMN = {"x86_64": 0, "aarch64": 1}[MACHINE]
SET_USER_NAMESPACE = 0x10000000


@pytest.mark.probe(29)
def test_a_command_has_no_privilege_and_gains_none(box: Box) -> None:
    """No capability in any set, no new privileges, and a filter that cannot be taken off."""
    status = dict(
        line.split(":\t", 1)
        for line in box.sh("cat /proc/self/status").splitlines()
        if ":\t" in line
    )
    assert {status[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    code = "print([libc.prctl(o, v, 0, 0, 0) for o, v in ((38, 0), (22, 0), (8, 1), (28, 0x3f))])"
    box.python(code)
    assert box.sh("grep -c 'NoNewPrivs:.1' /proc/self/status") == "1"


@pytest.fixture(scope="module")
def answers(boxes: dict[bool, Box]) -> dict[str, str]:
    """Make every call of the lists in one program, and return what each answered."""
    numbers = {name: pair[COLUMN] for name, pair in (seccomp.DENIED | seccomp.ABSENT).items()}
    known = {name: number for name, number in numbers.items() if number is not None}
    code = f"for name, number in {known}.items(): print(name, call(number, 0, 0, 0, 0, 0))"
    return dict(line.split() for line in boxes[False].python(code).splitlines())


@pytest.mark.parametrize("name", sorted(seccomp.DENIED))
def test_dangerous_calls_are_refused(answers: dict[str, str], name: str) -> None:
    """Mounts, keyrings, io_uring, BPF, modules and their kin all answer `EPERM`."""
    if seccomp.DENIED[name][COLUMN] is not None:
        assert answers[name] == "EPERM"


@pytest.mark.probe(27)
def test_calls_that_nobody_knows_do_not_exist(box: Box) -> None:
    """Numbers newer than the list, the other tables' numbers and clone3 answer `ENOSYS`."""
    numbers = [470, 500, 1000, 435, 0x40000000 + 1]
    code = f"print(*(call(n, 0, 0, 0) for n in {numbers}))"
    assert box.python(code).split() == ["ENOSYS"] * len(numbers)


@pytest.mark.skipif(MACHINE != "x86_64", reason="only there is an older convention")
@pytest.mark.probe(27)
def test_the_old_way_into_the_kernel_kills(box: Box) -> None:
    """A call through int 0x80, which has other numbers, ends the process."""
    code = """
import mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes.fromhex('b81400000 0cd80c3'.replace(' ', '')))
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
ctypes.CFUNCTYPE(ctypes.c_int)(address)()
"""
    result = box.run("python3", "-c", f"import ctypes\n{code}")
    assert result.exit_code == 128 + 31


@pytest.mark.probe(17)
def test_no_user_namespace_can_be_made(box: Box) -> None:
    """By no call; and the box's own limit of them is zero besides."""
    clone = seccomp.JUDGED[MACHINE]["clone"]
    unshare = seccomp.JUDGED[MACHINE]["unshare"]
    code = f"print(call({clone}, {SET_USER_NAMESPACE | 17}), call({unshare}, {SET_USER_NAMESPACE}))"
    assert box.python(code) == "EPERM EPERM"
    assert box.sh("unshare -Ur id").endswith("Operation not permitted")
    assert box.sh("cat /proc/sys/user/max_user_namespaces") == "0"


def test_threads_and_forks_still_work(box: Box) -> None:
    """What clone is for is left alone."""
    code = """
import threading, multiprocessing
thread = threading.Thread(target=print, args=('thread',)); thread.start(); thread.join()
process = multiprocessing.Process(target=print, args=('process',)); process.start(); process.join()
"""
    assert box.python(code) == "thread\nprocess"


@pytest.mark.probe(33)
def test_sockets_are_unix_internet_and_routing_only(box: Box) -> None:
    """Families that know no namespace, raw sockets and other netlinks cannot be opened."""
    code = """
for family, kind, protocol in (
    (40, 1, 0), (38, 5, 0), (17, 3, 0), (44, 3, 0), (15, 3, 2), (31, 1, 0),
    (16, 3, 9), (16, 3, 15), (2, 3, 1), (10, 3, 58),
):
    print(attempt(lambda: socket.socket(family, kind, protocol)))
"""
    assert set(box.python(code).splitlines()) == {"EAFNOSUPPORT", "EPERM"}
    allowed = """
kinds = ((1, 1), (2, 1), (2, 2), (10, 1), (16, 3, 0))
print(*(attempt(lambda: socket.socket(*kind)) for kind in kinds))
"""
    assert box.python(allowed) == "OK OK OK OK OK"


def test_protocols_of_the_internet_are_the_common_ones(box: Box) -> None:
    """MPTCP, SCTP, DCCP, UDP-Lite and L2TP cannot be opened, whatever kind they come as."""
    code = """
kinds = ((1, 262), (1, 132), (5, 0), (5, 132), (6, 0), (6, 33), (2, 136), (2, 115))
for family in (socket.AF_INET, socket.AF_INET6):
    print(*(attempt(lambda: socket.socket(family, *kind)) for kind in kinds))
"""
    assert set(box.python(code).split()) == {"EPROTONOSUPPORT"}


@pytest.mark.parametrize("name", sorted(seccomp.ABSENT))
def test_calls_that_programs_can_do_without_do_not_exist(
    answers: dict[str, str], name: str
) -> None:
    """Contexts of aio, which the whole machine shares, secret memory and clone3: `ENOSYS`."""
    assert answers[name] == "ENOSYS"


@pytest.mark.probe(28)
def test_nobody_types_into_a_terminal_for_others(box: Box) -> None:
    """TIOCSTI and TIOCLINUX are refused, also with high bits that the kernel drops."""
    code = """
import fcntl, pty
leader, follower = pty.openpty()
number = {'x86_64': 16, 'aarch64': 29}[os.uname().machine]
print(*(call(number, follower, c, b'x') for c in (0x5412, 0x541C, 0x5412 | 1 << 32)))
"""
    assert box.python(code) == "EPERM EPERM EPERM"


@pytest.mark.probe(26)
def test_the_first_process_cannot_be_traced(box: Box) -> None:
    """Neither ptrace nor reading another's memory works on it; on one's own child it does."""
    code = """
number = {'x86_64': 101, 'aarch64': 117}[os.uname().machine]
print(call(number, 16, 1, 0, 0))
child = os.fork()
if not child:
    import time; time.sleep(60)
print(call(number, 16, child, 0, 0))
os.kill(child, 9)
"""
    assert box.python(code).splitlines() == ["EPERM", "OK"]


@pytest.mark.probe(18)
def test_the_box_lives_in_namespaces_of_its_own(box: Box) -> None:
    """All seven differ from the host's."""
    names = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
    inside = box.sh(f"cd /proc/self/ns && readlink {' '.join(names)}").splitlines()
    outside = [str(Path("/proc/self/ns", name).readlink()) for name in names]
    assert len(inside) == len(names)
    assert not set(inside) & set(outside)


@pytest.mark.probe(26, 61)
def test_signals_reach_nobody_outside(box: Box) -> None:
    """There is no number by which a process of the host could be meant; kill -1 stays inside."""
    assert box.sh("ls /proc | grep -x -E '[0-9]+' | wc -l").isdigit()
    box.sh("kill -9 -1")
    os.kill(box.machine.process.pid, 0)
    assert box.sh("echo alive") == "alive"


@pytest.mark.probe(34)
def test_abstract_sockets_of_the_host_are_not_there(box: Box) -> None:
    """A socket in the host's abstract namespace cannot be connected to."""
    name = f"\0patchkiln-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        code = f"print(attempt(lambda: socket.socket(socket.AF_UNIX).connect({name!r})))"
        assert box.python(code) == "ECONNREFUSED"


@pytest.mark.probe(36)
def test_shared_memory_of_the_host_is_not_there(box: Box) -> None:
    """System V segments and queues are the box's own, of which there are none."""
    assert box.sh("cat /proc/sysvipc/shm /proc/sysvipc/msg /proc/sysvipc/sem | wc -l") == "3"
    assert processes_in(box.namespace())
