"""What the local sandbox promises about resources."""

import pytest

from tests.security.machine import Box, Machine, processes_in

MIB = 1 << 20


@pytest.mark.probe(44)
def test_a_fork_bomb_is_bounded(machine: Machine) -> None:
    """No more processes than allowed ever exist, seen from the host too, and the box survives."""
    box = machine.box(limits={"processes": 50})
    namespace = box.namespace()
    code = """
import time
n = 0
while attempt(lambda: os.fork() or time.sleep(60)) == 'OK':
    n += 1
print(n, flush=True)
"""
    printed = box.python(code)
    assert 30 < int(printed.split()[0]) < 50
    assert len(processes_in(namespace)) <= 50
    box.sh("kill -9 -1")
    assert box.sh("echo alive") == "alive"
    box.destroy()


@pytest.mark.probe(45)
def test_a_thread_bomb_is_bounded(machine: Machine) -> None:
    """Threads count as processes do."""
    box = machine.box(limits={"processes": 50})
    code = """
import threading, time
n = 0
try:
    while True:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        n += 1
except RuntimeError:
    print(n, flush=True)
os._exit(0)
"""
    assert 30 < int(box.python(code)) < 50
    box.destroy()


@pytest.mark.parametrize("kind", ["heap", "shared", "children"])
@pytest.mark.probe(46)
def test_a_memory_hog_is_bounded(machine: Machine, kind: str) -> None:
    """Whoever holds it, a box gets little more memory than it may; the hog dies, the box lives."""
    box = machine.box(limits={"memory_bytes": 128 * MIB})
    programs = {
        "heap": """
blocks = []
while True:
    blocks.append(b'x' * (1 << 20)); print(len(blocks), flush=True)
""",
        "shared": """
import mmap
blocks = []
while True:
    block = mmap.mmap(-1, 1 << 20); block.write(b'x' * (1 << 20))
    blocks.append(block); print(len(blocks), flush=True)
""",
        "children": """
import time
total = 0
while True:
    reader, writer = os.pipe()
    if not os.fork():
        block = b'x' * (16 << 20); os.write(writer, b'.'); time.sleep(60)
    os.read(reader, 1); total += 16; print(total, flush=True)
    if total > 1024: break
""",
    }
    result = box.run("python3", "-c", f"import os{programs[kind]}", timeout_s=20)
    held = [int(line) for line in result.stdout.split()]
    assert held
    if kind != "children":
        assert result.exit_code == 137
        assert held[-1] < 512
    assert box.sh("echo alive") == "alive"
    box.destroy()


MEMORY_OF_NOBODY = {
    "files": """
files = []
def grow():
    files.append(os.memfd_create('x'))
    os.write(files[-1], b'x' * (1 << 20))
""",
    "segments": """
libc.shmat.restype = ctypes.c_void_p
def grow():
    address = libc.shmat(libc.shmget(0, 1 << 20, 0o600), None, 0)
    ctypes.memset(address, 1, 1 << 20)
    libc.shmdt(ctypes.c_void_p(address))
""",
    "messages": """
import struct
def grow():
    for _ in range(64):
        queue = libc.msgget(0, 0o600)
        for _ in range(2):
            if libc.msgsnd(queue, struct.pack('q', 1) + b'x' * 8192, 8192, 0):
                raise OSError(ctypes.get_errno(), '')
""",
    "semaphores": """
def grow():
    if libc.semget(0, 16000, 0o600) < 0:
        raise OSError(ctypes.get_errno(), '')
""",
}


@pytest.mark.parametrize("kind", MEMORY_OF_NOBODY)
@pytest.mark.probe(46)
def test_memory_that_no_process_holds_is_bounded(machine: Machine, kind: str) -> None:
    """What the kernel keeps for a box counts as its own, or cannot be had."""
    box = machine.box(limits={"memory_bytes": 128 * MIB})
    program = f"""{MEMORY_OF_NOBODY[kind]}
import time
for held in range(512):
    print(held, flush=True)
    time.sleep(0.001)
    grow()
"""
    held = [int(line) for line in box.python(program).splitlines() if line.isdigit()]
    assert held
    assert held[-1] < 400
    box.destroy()


@pytest.mark.parametrize("place", ["/tmp", "/home/user", "/dev/shm", "/workspace"])
@pytest.mark.probe(47, 48)
def test_disks_are_bounded(machine: Machine, place: str) -> None:
    """Each place that can be written has a size of its own, in bytes and in files."""
    limits = {"disk_bytes": 8 * MIB}
    box = machine.box(limits=limits)
    assert "No space left" in box.sh(f"head -c 100M /dev/zero >{place}/big")
    assert int(box.sh(f"wc -c <{place}/big")) <= 8 * MIB
    box.sh(f"rm {place}/big")
    code = f"""
n = 0
while attempt(lambda: open('{place}/f%d' % n, 'w').close()) == 'OK': n += 1
print(n)
"""
    assert int(box.python(code)) < 20_000
    box.destroy()


def test_a_base_s_disk_is_bounded(machine: Machine) -> None:
    """Over a checkout, the layer of changes has the size that was asked for."""
    base = machine.data_dir / "small"
    base.mkdir(exist_ok=True)
    box = machine.box(base=base, limits={"disk_bytes": 8 * MIB})
    assert "No space left" in box.sh("head -c 100M /dev/zero >big")
    box.destroy()


@pytest.mark.probe(49)
def test_giant_files_are_refused(box: Box) -> None:
    """A file may not even seem to be larger than the disk."""
    assert "File too large" in box.sh("trap '' XFSZ; truncate -s 10T giant")


@pytest.mark.probe(64)
def test_there_are_no_core_dumps(box: Box) -> None:
    """A crash leaves nothing behind."""
    box.sh("sh -c 'kill -SEGV $$'")
    assert box.sh("ulimit -c; ulimit -Hc; ls -A") == "0\n0"


@pytest.mark.probe(64)
def test_no_crash_starts_a_program_of_the_host(box: Box) -> None:
    """Where the kernel pipes core dumps to a program, only the limit of one byte keeps it back."""
    assert (
        box.python("import resource; print(resource.getrlimit(resource.RLIMIT_CORE))") == "(1, 1)"
    )


@pytest.mark.probe(60)
def test_watches_of_files_are_bounded(machine: Machine) -> None:
    """A box can use up its own share of inotify, and leaves some to others."""
    hog, other = machine.box(), machine.box()
    code = """
count = 0
while libc.inotify_init1(0) >= 0:
    count += 1
print(count, flush=True)
if os.fork() == 0:
    import time
    os.close(1), os.close(2), time.sleep(60)
"""
    assert hog.python(code) == "24"
    assert hog.sh("cat /proc/sys/user/max_inotify_watches") == "65536"
    assert other.python("print(libc.inotify_init1(0) >= 0)") == "True"
    hog.destroy()
    other.destroy()


@pytest.mark.probe(56)
def test_a_flood_of_zombies_is_reaped(machine: Machine) -> None:
    """Orphans by the thousand leave no trace in the table of processes."""
    box = machine.box(limits={"processes": 100})
    box.sh("i=0; while [ $i -lt 2000 ]; do (true &); i=$((i + 1)); done")
    assert int(box.sh("ls -d /proc/[0-9]* | wc -l")) < 10
    box.destroy()


@pytest.mark.probe(31)
def test_nice_and_oom_scores_cannot_be_bettered(box: Box) -> None:
    """No command gets before others, nor out of the way of the kernel's memory killer."""
    assert box.python("print(attempt(lambda: os.nice(-5)))") in {"EPERM", "EACCES"}
    score = "echo $1 >/proc/self/oom_score_adj 2>/dev/null; cat /proc/self/oom_score_adj"
    assert int(box.run("sh", "-c", score, "sh", "-1000").stdout) > 0


# Sends copies of a descriptor through sockets that nobody reads, as far as it may, and holds them.
IN_FLIGHT = """
import time
kept, sent = [], 0
def fill():
    global sent
    while True:
        pair = socket.socketpair()
        kept.extend(pair)
        socket.send_fds(pair[0], [b'x'], [0] * 200)
        sent += 200
print(attempt(fill), sent, flush=True)
if os.fork() == 0:
    os.close(1), os.close(2), time.sleep(60)
"""


@pytest.mark.probe(50)
def test_descriptors_on_their_way_hinder_no_other_box(machine: Machine) -> None:
    """Linux counts them by user: a box that holds as many as it may upsets neither server nor box.

    Neither one that lives, nor a new one, nor one whose listeners have to reach the server.
    """
    old, hog = machine.box(), machine.box()
    refusal, sent = hog.python(IN_FLIGHT).split()
    assert refusal == "ETOOMANYREFS"
    assert int(sent) < 2048
    fresh = machine.box(network=({"host": "localhost", "port": 1, "trusted": True},))
    for box in (old, hog, fresh):
        assert box.sh("echo alive") == "alive"
        box.destroy()
