"""What the local sandbox promises of snapshots, forks and pauses, seen from the host."""

import os
import time
from pathlib import Path

from tests.security.machine import Box, Machine, processes_in

BUSY = "trap '' TSTP; (while :; do :; done) & while :; do sh -c : & wait $!; done"
LOOK_S = 0.4
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_ticks(pids: list[int]) -> int:
    """Return the processor time that processes have taken, in clock ticks."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks


def test_a_paused_box_takes_no_processor_time(machine: Machine, box: Box) -> None:
    """Every process that the host sees of it stands still, and goes on when it is resumed."""
    namespace = box.namespace()
    box.start("sh", "-c", BUSY)
    box.start("sh", "-c", "while :; do kill -CONT -1; done")
    box.sh("sleep 0.1")
    box.pause()
    paused = sorted(processes_in(namespace))
    assert len(paused) >= 4
    before = cpu_ticks(paused)
    time.sleep(LOOK_S)
    assert sorted(processes_in(namespace)) == paused
    assert cpu_ticks(paused) == before
    metrics = box.metrics()
    assert metrics["processes"] >= 4
    assert metrics["memory_bytes"] > 0
    assert metrics["disk_bytes"] is not None
    box.resume()
    assert box.sh("echo alive") == "alive"
    time.sleep(LOOK_S)
    assert cpu_ticks([pid for pid in paused if Path(f"/proc/{pid}").exists()]) > before


def test_a_paused_box_leaves_nothing(machine: Machine) -> None:
    """It can be destroyed as it stands: every process ends."""
    box = machine.box()
    namespace = box.namespace()
    box.start("sh", "-c", BUSY)
    box.pause()
    assert processes_in(namespace)
    box.destroy()
    assert processes_in(namespace) == []


def test_forks_share_nothing_that_can_be_changed(machine: Machine) -> None:
    """Neither files nor processes nor the base: what one does, no other sees."""
    base = machine.data_dir / "forked"
    base.mkdir(exist_ok=True)
    (base / "of-the-base").write_text("base")
    for path in (base, base / "of-the-base"):
        os.chown(path, machine.host_uid, machine.host_uid)
    parent = machine.box(base=base)
    parent.sh("rm of-the-base; mkdir d; echo 1 >d/f; echo 1 >~/f; echo 1 >/tmp/f")
    one, two = parent.fork(2)
    assert len({box.namespace() for box in (parent, one, two)}) == 3
    change = "echo {0} >d/f; echo {0} >~/f; echo {0} >/tmp/f; rm -f /dev/shm/x; touch only-{0}"
    for number, box in enumerate((parent, one, two)):
        box.sh(change.format(number))
    for number, box in enumerate((parent, one, two)):
        assert box.sh("cat d/f ~/f /tmp/f; ls") == f"{number}\n" * 3 + f"d\nonly-{number}"
    assert (base / "of-the-base").read_text() == "base"
    mounted = Path("/proc/self/mountinfo").read_text()
    assert not any(sign in mounted for sign in (str(machine.data_dir), " layer ", " workspace "))
    for box in (parent, one, two):
        box.destroy()


def test_a_deep_chain_is_joined_for_either_user(machine: Machine) -> None:
    """Past the longest chain the layers become one, whoever started the server."""
    box = machine.box()
    for number in range(40):
        box.sh(f"echo {number} >f{number}; rm -f f{number - 1}")
        (child,) = box.fork()
        box.destroy()
        box = child
    assert box.sh("ls; cat f39") == "f39\n39"
    assert box.sh("grep -c ' /workspace ' /proc/self/mountinfo") == "1"
    assert int(box.sh("grep ' /workspace ' /proc/self/mountinfo | tr : '\\n' | wc -l")) < 40
    box.destroy()


def test_a_fork_s_files_count_as_its_memory(machine: Machine) -> None:
    """On either side of a fork, who fills the disk past the memory is killed."""
    parent = machine.box(limits={"memory_bytes": 48 << 20, "disk_bytes": 128 << 20})
    (child,) = parent.fork()
    for box, place in ((child, "/tmp/f"), (parent, "/workspace/f")):
        result = box.run("sh", "-c", f"head -c 96M /dev/zero >{place}; sleep 3; echo survived")
        assert "survived" not in result.stdout
        box.destroy()
