"""Forks and pauses in the face of hostile programs."""

import os
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.security.machine import Box, Machine, Refused, processes_in
from tests.security.sandbox.bait import Bait
from tests.security.sandbox.test_end import wait_for


@pytest.fixture
def base(machine: Machine) -> Path:
    """Return a checkout with a directory that a layer may hide or uncover."""
    base = machine.data_dir / "hostile-base"
    (base / "directory").mkdir(parents=True, exist_ok=True)
    for name in ("directory/file", "kept", "gone"):
        (base / name).write_text("base")
    for place in (base, *base.rglob("*")):
        os.chown(place, machine.host_uid, machine.host_uid)
    return base


@pytest.fixture
def parent(machine: Machine, base: Path) -> Generator[Box]:
    """Lend a box on the checkout."""
    box = machine.box(base=base)
    yield box
    box.destroy()


@pytest.mark.probe(99)
def test_forks_do_not_see_each_other(parent: Box, base: Path) -> None:
    """Neither files nor processes nor deletions of one are the other's; the base stays."""
    parent.sh("rm gone; rm -r directory; mkdir directory; echo mine >directory/new; echo p >kept")
    one, two = parent.fork(2)
    one.sh(
        "echo one >kept; rm directory/new; echo 1 >/tmp/one; sleep 1111 >/dev/null 2>&1 & exit 0"
    )
    look = "ls; ls directory /tmp; cat kept"
    assert two.sh(look) == parent.sh(look)
    assert two.sh("ls; ls -A directory; cat kept").split() == ["directory", "kept", "new", "p"]
    assert "sleep" not in two.sh("cat /proc/[0-9]*/comm")
    assert len({box.namespace() for box in (parent, one, two)}) == 3
    for box in (one, two):
        box.destroy()
    assert sorted(path.name for path in base.iterdir()) == ["directory", "gone", "kept"]
    assert (base / "directory" / "file").read_text() == "base"


@pytest.mark.probe(15, 99)
def test_marks_made_by_hand_open_nothing_in_a_fork(
    machine: Machine, parent: Box, bait: Bait
) -> None:
    """What an overlay believes of a sealed layer, no program can write into one.

    Neither in the workspace, nor in the home or /tmp, whose layers are sealed as well.
    """
    code = f"""
import stat
for place in ('/workspace', '/tmp', os.path.expanduser('~')):
    os.chdir(place)
    os.makedirs('mine', exist_ok=True)
    open('plain', 'w').close()
    for name in ('mine', 'plain', '.'):
        for value in (b'y', b'/../../../..{bait.directory}', b'{bait.directory}', b'/'):
            for kind in ('opaque', 'redirect', 'metacopy', 'origin', 'whiteout', 'upper',
                         'overlay.opaque', 'overlay.redirect', 'overlay.metacopy'):
                attempt(lambda: os.setxattr(name, 'user.overlay.' + kind, value))
    attempt(lambda: os.mknod('white', stat.S_IFCHR | 0o600, os.makedev(0, 0)))
    os.makedirs('.wh.kept', exist_ok=True)
"""
    parent.python(code)
    (child,) = parent.fork()
    (grandchild,) = child.fork()
    for box in (parent, child, grandchild):
        seen = box.sh("find / -xdev -type f -size -2 -exec cat {} + 2>/dev/null; ls -AR . ~ /tmp")
        assert bait.effects({"seen": seen}) == ()
        assert box.sh("cat kept gone directory/file").replace("base", "b") == "bbb"
    for box in (child, grandchild):
        box.destroy()


@pytest.mark.probe(99)
def test_a_fork_while_everything_writes_is_whole(parent: Box) -> None:
    """Writers, links that swap and files that nobody closes leave no half-written fork behind."""
    parent.sh(
        "for n in 1 2 3; do (while :; do echo a >a$n; mv a$n b$n; ln -sf /etc/shadow s$n; "
        "mkdir -p d$n/x; rm -r d$n; done) >/dev/null 2>&1 & done; exit 0"
    )
    (child,) = parent.fork()
    assert child.sh("cat kept") == "base"
    assert child.sh("cat s1 2>&1 | grep -c root:") == "0"
    assert len(processes_in(parent.namespace())) == len(processes_in(child.namespace()))
    child.destroy()


@pytest.mark.probe(99)
def test_forks_of_a_fork_bomb_are_bounded_like_it(machine: Machine) -> None:
    """A fork has its parent's limits, and its parent's changes count against its disk."""
    box = machine.box(limits={"processes": 50, "disk_bytes": 8 << 20})
    box.sh("head -c 5M /dev/zero >large")
    (child,) = box.fork()
    assert "No space left" in child.sh("head -c 6M /dev/zero >larger")
    assert child.sh("ulimit -u") == box.sh("ulimit -u")
    for each in (child, box):
        each.destroy()


def processor_ticks(pids: list[int]) -> int:
    """Return the processor time that processes have taken."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(entry[11]) + int(entry[12]) for entry in fields)


STUBBORN = """
import os, signal, time
for number in range(1, 65):
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        try:
            signal.signal(number, lambda *_: None)
        except (OSError, ValueError):
            pass
if os.fork() == 0:
    os.setsid()
    while True:
        for name in os.listdir('/proc'):
            if name.isdigit() and int(name) != os.getpid():
                try:
                    os.kill(int(name), signal.SIGCONT)
                except OSError:
                    pass
while True:
    pass
"""


@pytest.mark.probe(100)
def test_a_paused_box_takes_nothing_and_does_not_wake_itself(machine: Machine) -> None:
    """Processes that ignore every signal, and wake each other, stand still until let go."""
    box = machine.box()
    namespace = box.namespace()
    box.run("sh", "-c", 'setsid python3 -c "$1" >/dev/null 2>&1 &', "sh", STUBBORN)
    wait_for(lambda: len(processes_in(namespace)) == 3)
    pids = processes_in(namespace)
    box.pause()
    before = processor_ticks(pids)
    time.sleep(0.5)
    assert processor_ticks(pids) == before
    with pytest.raises(Refused, match="SandboxPaused"):
        box.sh("true")
    box.resume()
    assert box.sh("echo alive") == "alive"
    box.destroy()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.probe(100)
def test_a_paused_box_can_be_ended(machine: Machine) -> None:
    """Destroying it wakes nothing and leaves nothing."""
    box = machine.box()
    box.run("sh", "-c", "setsid sleep 1111 >/dev/null 2>&1 &")
    namespace = box.namespace()
    box.pause()
    box.destroy()
    assert processes_in(namespace) == []


@pytest.mark.probe(100)
def test_the_rules_of_the_network_stay(machine: Machine, bait: Bait) -> None:
    """Neither a pause nor a fork opens what was shut, or shuts what was open."""
    told = bait.told()
    shut = machine.box()
    code = f"print(attempt(lambda: socket.create_connection(('127.0.0.1', {told['port']}))))"
    shut.pause()
    shut.resume()
    (child,) = shut.fork()
    for box in (shut, child):
        assert box.python(code) == "ECONNREFUSED"
        box.destroy()
    assert bait.effects({}) == ()
    rule = {"host": "localhost", "port": told["port"], "trusted": True}
    listed = machine.box(network=(rule,))
    listed.pause()
    listed.resume()
    (child,) = listed.fork()
    talk = f"s = socket.create_connection(('localhost', {told['port']})); s.send(b'x'); print('OK')"
    for box in (listed, child):
        assert box.python(talk) == "OK"
        assert box.python(code.replace(str(told["port"]), "9")) == "ECONNREFUSED"
        box.destroy()
    bait.effects({})
