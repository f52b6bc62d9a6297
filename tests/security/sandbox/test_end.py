"""What the local sandbox promises about its end: nothing survives."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.security.machine import Box, Machine, Refused, first_in, processes_in

DAEMON = "setsid sh -c 'setsid sleep 1111 & exit' >/dev/null 2>&1 </dev/null"
DEADLINE_S = 30.0


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so, within a bound that only a failure reaches."""
    until = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.01)


@pytest.fixture
def own(machine: Machine) -> Machine:
    """Start a second machine for the same user, which the test may kill."""
    return Machine(machine.identity, Path(tempfile.mkdtemp(prefix="patchkiln-test-")))


def mounts() -> set[str]:
    """Return the mounts of the host."""
    return set(Path("/proc/self/mountinfo").read_text().splitlines())


def groups_of(pids: list[int]) -> set[str]:
    """Return the control groups of our making that processes are in, relative to their mount."""
    groups: set[str] = set()
    for pid in pids:
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            group = line.split(":", 2)[2]
            groups |= {group} if "/patchkiln-" in group else set()
    return groups


def directories(groups: set[str]) -> list[Path]:
    """Return where control groups are in the file system."""
    below = [group.lstrip("/") for group in groups]
    roots = [path for path in Path("/sys/fs/cgroup").iterdir() if path.is_dir()]
    candidates = [root / name for root in (Path("/sys/fs/cgroup"), *roots) for name in below]
    return [path for path in candidates if path.is_dir()]


def zygote_of(namespace: str) -> int:
    """Return the process that a sandbox was cloned from."""
    parent = first_in(namespace)
    fields = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1])


def test_nothing_survives_destroy(machine: Machine) -> None:
    """Daemons that left session and parent end with the box, and so do its control groups."""
    box = machine.box()
    box.sh(DAEMON)
    namespace = box.namespace()
    alive = processes_in(namespace)
    assert len(alive) >= 2
    groups = groups_of(alive)
    assert (machine.identity == "user") or directories(groups)
    box.destroy()
    assert processes_in(namespace) == []
    assert directories(groups) == []


def test_boxes_mount_nothing_on_the_host(machine: Machine) -> None:
    """The host's table of mounts has nothing more with a box; what others mount goes again."""
    before = mounts()
    base = machine.data_dir / "mounted"
    base.mkdir(exist_ok=True)
    box = machine.box(base=base)
    wait_for(lambda: mounts() <= before)
    box.destroy()


@pytest.mark.probe(58)
def test_a_killed_server_leaves_nothing(own: Machine) -> None:
    """No process and no mount after kill -9; its control groups go with the next start."""
    before = mounts()
    box = own.box()
    box.sh(DAEMON)
    namespace = box.namespace()
    groups = groups_of(processes_in(namespace))
    own.kill()
    wait_for(lambda: not processes_in(namespace))
    wait_for(lambda: mounts() <= before)
    successor = Machine(own.identity, own.data_dir)
    successor.box().destroy()
    wait_for(lambda: not directories(groups))
    successor.close()
    shutil.rmtree(own.data_dir)


@pytest.mark.probe(58)
def test_a_killed_zygote_ends_its_boxes_and_is_replaced(own: Machine) -> None:
    """Every box is lost at once, which is told; a new zygote clears up and makes the next."""
    box = own.box()
    box.sh(DAEMON)
    namespace = box.namespace()
    groups = groups_of(processes_in(namespace))
    os.kill(zygote_of(namespace), signal.SIGKILL)
    wait_for(lambda: not processes_in(namespace))
    with pytest.raises(Refused, match="SandboxLost"):
        box.sh("true")
    assert (own.identity == "user") or directories(groups)
    assert own.box().sh("echo alive") == "alive"
    assert not directories(groups)
    own.close()
    shutil.rmtree(own.data_dir)


@pytest.mark.probe(61)
def test_a_zygote_that_outlived_its_server_is_ended(own: Machine) -> None:
    """Stopped when its server was killed, it is found at the next start, with all that it held.

    A server that lives, on another data directory or on the same, keeps its own.
    """
    neighbour = Machine(own.identity, Path(tempfile.mkdtemp(prefix="patchkiln-test-")))
    beside, other = Machine(own.identity, own.data_dir), neighbour.box()
    sibling = beside.box()
    box = own.box()
    box.sh(DAEMON)
    namespace = box.namespace()
    groups = groups_of(processes_in(namespace))
    zygote = zygote_of(namespace)
    os.kill(zygote, signal.SIGSTOP)
    own.kill()
    assert Path(f"/proc/{zygote}").exists()
    successor = Machine(own.identity, own.data_dir)
    assert successor.box().sh("echo alive") == "alive"
    wait_for(lambda: not Path(f"/proc/{zygote}").exists())
    wait_for(lambda: not processes_in(namespace))
    assert directories(groups) == []
    for survivor in (sibling, other):
        assert survivor.sh("echo alive") == "alive"
    for server in (successor, beside, neighbour):
        server.close()
    assert list((own.data_dir / "sandboxes" / "zygotes").iterdir()) == []
    for server in (own, neighbour):
        shutil.rmtree(server.data_dir)


def test_a_note_of_another_process_kills_nobody(own: Machine) -> None:
    """A number that has come back, in another process, is not taken for the zygote."""
    own.box().destroy()
    bystander = subprocess.Popen(["sleep", "1111"])
    records = own.data_dir / "sandboxes" / "zygotes"
    (record,) = records.iterdir()
    note = json.loads(record.read_text())
    note |= {"zygote": [bystander.pid, "1"], "server": [1 << 22, "1"]}
    (records / str(bystander.pid)).write_text(json.dumps(note))
    (records / "torn").write_text('{"world": "')
    successor = Machine(own.identity, own.data_dir)
    successor.box().destroy()
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
    successor.close()
    own.close()
    assert list(records.iterdir()) == []
    shutil.rmtree(own.data_dir)


def test_a_killed_server_leaves_no_paused_box(own: Machine) -> None:
    """Frozen or stopped processes end with their server as well."""
    box = own.box()
    namespace = box.namespace()
    box.start("sh", "-c", "while :; do :; done")
    (child,) = box.fork()
    namespaces = [box.namespace(), child.namespace()]
    box.pause()
    own.kill()
    wait_for(lambda: not any(map(processes_in, [namespace, *namespaces])))
    successor = Machine(own.identity, own.data_dir)
    successor.box().destroy()
    successor.close()
    shutil.rmtree(own.data_dir)


def test_the_first_process_withstands_its_box(box: Box) -> None:
    """It can be neither killed nor stopped from inside."""
    box.sh("n=1; while [ $n -le 64 ]; do kill -$n 1; n=$((n + 1)); done; kill -9 -1")
    assert box.sh("echo alive") == "alive"


@pytest.mark.probe(59)
def test_a_tree_that_is_hard_to_delete_delays_nothing(machine: Machine) -> None:
    """Deep, locked and oddly named directories go with the box as if they were nothing."""
    box = machine.box()
    code = """
for _ in range(2000):
    os.mkdir('d'); os.chdir('d')
os.chdir('/workspace')
os.mkdir(b'\\xff\\n'); os.chmod(b'\\xff\\n', 0)
"""
    assert box.python(code) == ""
    namespace = box.namespace()
    box.destroy()
    assert processes_in(namespace) == []
