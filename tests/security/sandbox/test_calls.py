"""What hostile programs do to the product's own calls: to reading files, to output, to time."""

import ctypes
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.security.machine import Box, Machine, Refused, first_in, processes_in
from tests.security.sandbox.bait import Bait
from tests.security.sandbox.test_end import wait_for

MIB = 1 << 20
PIDFD_OPEN, PIDFD_GETFD = 434, 438
CONTROL_FD = 3


def resident_bytes(machine: Machine) -> int:
    """Return the memory of the process that serves the sandboxes."""
    pages = Path(f"/proc/{machine.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def alive(box: Box) -> bool:
    """Tell whether the sandbox still serves."""
    return box.sh("echo alive") == "alive"


PATHS = {
    "climbing": "../../../../../../../{bait}",
    "absolute": "{bait}",
    "through proc": "/proc/1/root{bait}",
    "through a descriptor": "/proc/self/fd/3",
    "ending early": "{bait}\0.txt",
    "too long": "x" * 5000,
    "too deep": "d/" * 2500 + "f",
    "no text": "\udcff\udcfe",
    "pipe": "pipe",
    "socket": "sock",
    "device": "/dev/zero",
    "terminal": "/dev/ptmx",
    "directory": "/",
    "memory": "/proc/self/mem",
    "own loop": "loop",
}


@pytest.mark.probe(9)
@pytest.mark.parametrize("name", PATHS)
def test_odd_paths_end_at_once_with_nothing(boxes: dict[bool, Box], bait: Bait, name: str) -> None:
    """Reading what climbs, ends early, is too long or no file is refused, and hangs nothing."""
    box = boxes[False]
    box.sh("rm -f pipe sock loop; mkfifo pipe; ln -s loop loop")
    box.python("socket.socket(socket.AF_UNIX).bind('sock')")
    path = PATHS[name].format(bait=bait.told()["files"][0])
    with pytest.raises(Refused, match="SandboxFileError"):
        box.read(path)
    assert bait.effects({}) == ()
    assert alive(box)


@pytest.mark.probe(15)
def test_attributes_of_overlays_move_nothing(machine: Machine, bait: Bait) -> None:
    """Marks that an overlay believes, set by hand, neither uncover files nor reach outside."""
    base = machine.data_dir / "attributes"
    (base / "directory").mkdir(parents=True, exist_ok=True)
    (base / "directory" / "file").write_text("base")
    for place in (base, base / "directory", base / "directory" / "file"):
        os.chown(place, machine.host_uid, machine.host_uid)
    box = machine.box(base=base)
    code = f"""
os.makedirs('mine', exist_ok=True)
open('plain', 'w').close()
for name in ('mine', 'plain', 'directory', 'directory/file'):
    for value in (b'y', b'/../../../../..{bait.directory}', b'../../../..{bait.directory}'):
        for kind in ('opaque', 'redirect', 'metacopy', 'origin', 'upper', 'impure', 'whiteout'):
            attempt(lambda: os.setxattr(name, 'user.overlay.' + kind, value))
            if attempt(lambda: os.setxattr(name, 'trusted.overlay.' + kind, value)) == 'OK':
                print('trusted')
print(sorted(os.listdir('mine')), open('plain').read(), open('directory/file').read())
"""
    assert box.python(code) == "[]  base"
    assert bait.effects({"seen": box.sh("find . -type f -exec cat {} +")}) == ()
    box.destroy()
    assert (base / "directory" / "file").read_text() == "base"


@pytest.mark.probe(42)
def test_one_box_does_not_reach_another(machine: Machine) -> None:
    """Neither by the loopback, nor by an abstract name, nor by a path, though both are one user."""
    one, two = machine.box(), machine.box()
    code = """
import threading, time
servers = [socket.create_server(('0.0.0.0', 8123))]
for address in ('\\0meeting', '/tmp/meeting'):
    servers.append(socket.socket(socket.AF_UNIX))
    servers[-1].bind(address)
    servers[-1].listen()
print('ready', flush=True)
if os.fork() == 0:
    os.close(1), os.close(2), time.sleep(60)
"""
    assert one.python(code) == "ready"
    talk = """
print(*(attempt(lambda: socket.socket(family).connect(address)) for family, address in (
    (socket.AF_INET, ('127.0.0.1', 8123)), (socket.AF_UNIX, '\\0meeting'),
    (socket.AF_UNIX, '/tmp/meeting'))))
"""
    assert one.python(talk) == "OK OK OK"
    assert two.python(talk) == "ECONNREFUSED ECONNREFUSED ENOENT"
    one.destroy()
    two.destroy()


FLOODS = {
    "lines": "yes",
    "no newline": "cat /dev/zero",
    "no text": "cat /dev/urandom",
    "escapes": "while :; do printf '\\033[2J\\033]0;x\\007%s' aaaaaaaaaaaaaaaaaa; done",
    "both streams": "yes & yes >&2",
}


@pytest.mark.probe(51)
@pytest.mark.parametrize("name", FLOODS)
def test_floods_of_output_cost_little_memory(boxes: dict[bool, Box], name: str) -> None:
    """Whatever is printed, and however much, the server keeps the ends of it."""
    box = boxes[False]
    before = resident_bytes(box.machine)
    result = box.run("sh", "-c", FLOODS[name], timeout_s=1)
    assert result.reason in {"output_limit", "timed_out"}
    assert len(result.stdout) + len(result.stderr) > 1000
    assert resident_bytes(box.machine) - before < 48 * MIB
    assert alive(box)


@pytest.mark.probe(52)
def test_a_reader_that_stalls_costs_nothing(machine: Machine) -> None:
    """A writer whose output nobody takes waits; the server holds none of it, and others go on."""
    box = machine.box()
    before = resident_bytes(machine)
    machine.ask("stall", box=box.name, argv=["sh", "-c", "head -c 90000000 /dev/zero; echo >done"])
    assert alive(box)
    assert box.sh("[ -e done ] || echo waiting") == "waiting"
    assert resident_bytes(machine) - before < 16 * MIB
    box.destroy()


@pytest.mark.probe(53)
def test_input_that_nobody_reads_holds_nothing_up(boxes: dict[bool, Box]) -> None:
    """A command that leaves its input alone ends as any other."""
    result = boxes[False].run("echo", "done", stdin_bytes=20 * MIB)
    assert (result.stdout, result.exit_code) == ("done\n", 0)


STUBBORN = {
    "spinning": "while :; do :; done & while :; do :; done",
    "ignoring": "trap '' TERM INT HUP QUIT; sleep 1111 & setsid sleep 2222 & sleep 3333",
    "stopped": "kill -STOP $$",
    "waiting": "mkfifo /tmp/never; cat </tmp/never",
}


@pytest.mark.probe(54, 55)
@pytest.mark.parametrize("name", STUBBORN)
def test_a_time_limit_ends_what_does_not_want_to(machine: Machine, name: str) -> None:
    """What spins, ignores signals, stopped itself or waits is gone from the host's table."""
    box = machine.box()
    namespace = box.namespace()
    assert box.run("sh", "-c", STUBBORN[name], timeout_s=0.5).reason == "timed_out"
    wait_for(lambda: len(processes_in(namespace)) == 1)
    box.destroy()


@pytest.mark.probe(57)
@pytest.mark.parametrize("how", ["setsid sleep 1111 &", "(setsid sleep 1111 &) &", "sleep 1111 &"])
def test_a_daemon_that_holds_the_output_delays_nobody(machine: Machine, how: str) -> None:
    """The command is over with its main process, and the daemon with the box."""
    box = machine.box()
    result = box.run("sh", "-c", f"{how} echo over")
    assert (result.stdout, result.reason) == ("over\n", "exited")
    namespace = box.namespace()
    wait_for(lambda: len(processes_in(namespace)) == 2)
    box.destroy()
    assert processes_in(namespace) == []


def line_of(box: Box) -> socket.socket:
    """Take the first process's end of the line to the server, as root of the host can."""
    first = first_in(box.namespace())
    libc = ctypes.CDLL(None, use_errno=True)
    keeper = libc.syscall(PIDFD_OPEN, first, 0)
    line = libc.syscall(PIDFD_GETFD, keeper, CONTROL_FD, 0)
    os.close(keeper)
    assert line >= 0
    return socket.socket(fileno=line)


FORGED: dict[str, Callable[[socket.socket], object]] = {
    "nothing": lambda line: line.send(b"{}"),
    "no text": lambda line: line.send(b"\xff\xfe\0"),
    "a deep list": lambda line: line.send(b"[" * 60_000),
    "a large packet": lambda line: line.send(b'{"event": "done"' + b" " * 100_000 + b"}"),
    "a large number": lambda line: line.send(b'{"event": "done", "id": %s}' % (b"9" * 4000)),
    "an unknown event": lambda line: line.send(b'{"event": "eval", "id": 1}'),
    "another type": lambda line: line.send(b'{"event": "ended", "id": "1"}'),
    "more fields": lambda line: line.send(b'{"event": "done", "id": 1, "path": "/"}'),
    "descriptors": lambda line: socket.send_fds(line, [b"{}"], [0] * 60),
}


@pytest.mark.probe(62)
@pytest.mark.skipif(os.getuid() != 0, reason="only root can speak for the first process")
@pytest.mark.parametrize("name", FORGED)
def test_a_forged_answer_ends_the_box_alone(machine: Machine, name: str) -> None:
    """What the first process could never say loses its box; the server serves the next."""
    box = machine.box()
    namespace = box.namespace()
    before = len(list(Path(f"/proc/{machine.process.pid}/fd").iterdir()))
    with line_of(box) as line:
        FORGED[name](line)
    with pytest.raises(Refused, match="SandboxLost"):
        box.sh("true")
    wait_for(lambda: not processes_in(namespace))
    assert len(list(Path(f"/proc/{machine.process.pid}/fd").iterdir())) <= before
    other = machine.box()
    assert alive(other)
    other.destroy()


@pytest.mark.probe(63)
def test_arguments_without_end_are_told(boxes: dict[bool, Box]) -> None:
    """Too many, too long, or both: the command does not run, says so, and the box serves on."""
    box = boxes[False]
    for argv in (
        ["true", "x" * (3 * MIB)],
        ["true", *["y" * 1000] * 4000],
        ["true", *["z"] * 300_000],
    ):
        assert box.run(*argv).exit_code in {0, 126}
        assert alive(box)
    assert "Argument list too long" in box.run("true", "x" * (3 * MIB)).stderr
