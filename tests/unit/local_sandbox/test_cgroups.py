"""Control groups: where they are found, what is written there, how they are entered."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from patchkiln.sandboxes.local.box import syscalls
from patchkiln.sandboxes.local.box.plan import LimitsPlan
from patchkiln.sandboxes.local.zygote.cgroups import Cgroups
from patchkiln.sandboxes.local.zygote.hierarchies import (
    CgroupMount,
    find_place,
    parse_membership,
    parse_mounts,
)

LIMITS: LimitsPlan = {
    "memory_bytes": 1 << 28,
    "disk_bytes": 0,
    "file_bytes": 0,
    "shm_bytes": 0,
    "processes": 77,
    "open_files": 0,
}


def test_mounts_of_both_versions_are_found() -> None:
    """Only cgroup file systems count; escaped blanks in places are undone."""
    text = (
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\\n"
        "35 31 0:32 /docker/x /sys/fs/cgroup/me\\040mory rw shared:5 - cgroup cgroup rw,memory\\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\\n"
    ).replace("\\n", "\n")
    one, two = parse_mounts(text)
    assert one == CgroupMount("/sys/fs/cgroup/me mory", "/docker/x", 1, frozenset({"rw", "memory"}))
    assert (two.place, two.version) == ("/sys/fs/cgroup/unified", 2)


def test_memberships_are_told_by_controller() -> None:
    """Joined controllers are told apart, and a group's name may hold colons."""
    text = "4:cpu,cpuacct:/a\n3:memory:/b:c\n0::/d\n"
    assert dict(parse_membership(text)) == {
        "cpu": "/a",
        "cpuacct": "/a",
        "memory": "/b:c",
        "": "/d",
    }


def test_a_group_is_found_below_a_mount_that_begins_deeper() -> None:
    """In a container the mount's root is the container's group."""
    mount = CgroupMount("/sys/fs/cgroup", "/docker/x", 2, frozenset())
    assert find_place(mount, "/docker/x") == "/sys/fs/cgroup"
    assert find_place(mount, "/docker/x/y") == "/sys/fs/cgroup/y"
    assert find_place(mount, "/elsewhere") == "/sys/fs/cgroup"


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (1, {"memory.limit_in_bytes": "268435456", "pids.max": "77"}),
        (2, {"memory.max": "268435456", "memory.swap.max": "0", "pids.max": "77"}),
    ],
)
def test_limits_are_written_where_there_is_such_a_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int, expected: dict[str, str]
) -> None:
    """A setting that the kernel does not offer is left out."""
    make = os.mkdir

    def make_group(path: str) -> None:
        make(path)
        for name in expected:
            Path(path, name).touch()

    monkeypatch.setattr(os, "mkdir", make_group)
    groups = Cgroups(version, [str(tmp_path)])
    groups.create("box")
    groups.limit("box", LIMITS)
    written = {path.name: path.read_text() for path in (tmp_path / "box").iterdir()}
    assert written == expected


@pytest.fixture
def group() -> Path:
    """Return a directory of the second version's hierarchy, where this machine has one."""
    with Path("/proc/self/mountinfo").open() as file:
        mounts = [mount for mount in parse_mounts(file.read()) if mount.version == 2]
    place = next((mount.place for mount in mounts if os.access(mount.place, os.W_OK)), None)
    if place is None:
        pytest.skip("this machine lets us write no hierarchy of the second version")
    return Path(place)


def test_a_process_is_born_in_the_group_of_a_door(group: Path) -> None:
    """Version 2's door is a directory that clone3 takes; the child is there before it runs."""
    own = group / f"patchkiln-test-{os.getpid()}"
    (own / "box").mkdir(parents=True)
    try:
        doors = Cgroups(2, [str(own)], unified=str(own)).open("box")
        gate, opener = os.pipe()
        pid = syscalls.clone_process(0, doors.directory)
        if not pid:
            os.read(gate, 1)
            os._exit(0)
        members = (own / "box" / "cgroup.procs").read_text().split()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        doors.close()
        os.close(gate)
        os.close(opener)
        assert members == [str(pid)]
    finally:
        (own / "box").rmdir()
        own.rmdir()


def freezers() -> dict[str, str]:
    """Return where processes can be frozen on this machine, by the kind of the hierarchy."""
    found: dict[str, str] = {}
    for mount in parse_mounts(Path("/proc/self/mountinfo").read_text()):
        if os.access(mount.place, os.W_OK) and (mount.version == 2 or "freezer" in mount.options):
            found["unified" if mount.version == 2 else "freezer"] = mount.place
    return found


@pytest.mark.parametrize("kind", freezers())
def test_what_is_frozen_stands_still_and_can_be_killed(kind: str) -> None:
    """Either hierarchy freezes a process, thaws it, and lets a frozen one die when it is killed."""
    own = Path(freezers()[kind]) / f"patchkiln-test-{os.getpid()}"
    (own / "box").mkdir(parents=True)
    process = subprocess.Popen(["sleep", "1111"])
    groups = Cgroups(1, [str(own)], **{kind: str(own)})
    try:
        (own / "box" / "cgroup.procs").write_text(str(process.pid))
        for _ in range(2):
            while not groups.freeze("box", frozen=True):
                pass
            groups.freeze("box", frozen=False)
        while not groups.freeze("box", frozen=True):
            pass
        process.kill()
        groups.kill("box")
        assert process.wait(timeout=10) == -signal.SIGKILL
    finally:
        process.kill()
        groups.kill("box")
        process.wait()
        (own / "box").rmdir()
        own.rmdir()
