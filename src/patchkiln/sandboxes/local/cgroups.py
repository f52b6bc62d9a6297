"""Control groups: hard limits on a box's memory and processes, where this machine lets us set them.

Version 2 where the server's own group or its parent is delegated (systemd's ``Delegate=yes``, a
user's own manager, root); else version 1's memory and pids hierarchies, which only root may write.
Sources: cgroups(7), the kernel's admin-guide/cgroup-v2.
"""

import os
import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from patchkiln.sandboxes.local.plan import LimitsPlan

CONTROLLERS: Final = ("memory", "pids")
_PREFIX: Final = "patchkiln"
_NAME: Final = re.compile(rf"{_PREFIX}-(\d+)-(\d+)")
_START_TIME_FIELD: Final = 19  # of /proc/PID/stat, counted after the name
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


class CgroupMount(NamedTuple):
    """A mounted hierarchy: its place, the group that is its root there, and its controllers."""

    place: str
    root: str
    version: int
    options: frozenset[str]


class Doors(NamedTuple):
    """The ways into a box's groups that need no lock over the whole machine.

    To move another process waits for every processor: milliseconds. To be born in a group of
    version 2 does not, nor does a thread that moves itself in version 1.
    """

    tasks: Sequence[int] = ()
    directory: int | None = None

    def enter(self) -> None:
        """Move this process through the doors that were not entered by birth."""
        for task in self.tasks:
            os.write(task, b"0")

    def close(self) -> None:
        """Close them."""
        for descriptor in (*self.tasks, *([] if self.directory is None else [self.directory])):
            os.close(descriptor)


class Cgroups:
    """A group of our own in each hierarchy that is needed, and a group a box below it."""

    def __init__(self, version: int, groups: list[str]) -> None:
        """Take the version and our own groups; `find_cgroups` makes them."""
        self.version = version
        self._groups = groups

    def create(self, name: str, limits: LimitsPlan) -> None:
        """Make a box's groups with their limits."""
        settings = _settings(self.version, limits)
        for group in self._groups:
            os.mkdir(f"{group}/{name}")
            for setting, value in settings.items():
                # Each hierarchy of version 1 has its own settings; swap is not everywhere.
                if os.path.exists(f"{group}/{name}/{setting}"):
                    _write(f"{group}/{name}/{setting}", str(value))

    def open(self, name: str) -> "Doors":
        """Open the ways into a box's groups."""
        places = [f"{group}/{name}" for group in self._groups]
        if self.version == 1:
            flags = os.O_WRONLY | os.O_CLOEXEC
            return Doors(tasks=[os.open(f"{place}/tasks", flags) for place in places])
        return Doors(directory=os.open(places[0], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def remove(self, name: str) -> None:
        """Remove the groups of a box whose processes are gone."""
        for group in self._groups:
            _remove_group(f"{group}/{name}")

    def close(self) -> None:
        """Remove our own groups, which must be empty."""
        for group in self._groups:
            _remove_group(group)


def find_cgroups(*, as_root: bool) -> Cgroups | None:
    """Make our own groups where this machine lets us; None where it does not."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = list(parse_mounts(file.read()))
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        own = dict(parse_membership(file.read()))
    name = f"{_PREFIX}-{os.getpid()}-{_start_time(os.getpid())}"
    groups = _make_version_2(mounts, own, name)
    if groups:
        return Cgroups(2, groups)
    groups = _make_version_1(mounts, own, name) if as_root else []
    return Cgroups(1, groups) if groups else None


def parse_mounts(mountinfo: str) -> Iterator[CgroupMount]:
    """Yield the cgroup mounts of a mountinfo file (proc_pid_mountinfo(5))."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ")[:3]
        root, place = (_OCTAL.sub(_unescape, field) for field in before.split(" ")[3:5])
        if kind in {"cgroup", "cgroup2"}:
            version = 2 if kind == "cgroup2" else 1
            yield CgroupMount(place, root, version, frozenset(options.split(",")))


def parse_membership(text: str) -> Iterator[tuple[str, str]]:
    """Yield controller and group from /proc/PID/cgroup; version 2's controller is empty."""
    for line in text.splitlines():
        _, controllers, group = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, group


def _unescape(match: re.Match[str]) -> str:
    return chr(int(match[1], 8))


def find_place(mount: CgroupMount, group: str) -> str:
    """Return the directory of a group; a mount in a container may begin below the real root."""
    below = os.path.relpath(group, mount.root)
    return mount.place if below.startswith("..") else os.path.normpath(f"{mount.place}/{below}")


def _make_version_2(mounts: list[CgroupMount], own: dict[str, str], name: str) -> list[str]:
    for mount in mounts:
        if mount.version == 2 and "" in own:  # noqa: PLR2004 - the version's number
            place = find_place(mount, own[""])
            parent = os.path.dirname(place)
            above = [parent] if parent.startswith(mount.place) else []
            for directory in (place, *above):
                if _offers_controllers(directory):
                    return _make_own(directory, name, delegate=True)
    return []


def _make_version_1(mounts: list[CgroupMount], own: dict[str, str], name: str) -> list[str]:
    groups: list[str] = []
    for controller in CONTROLLERS:
        for mount in mounts:
            if mount.version == 1 and controller in mount.options and controller in own:
                groups += _make_own(find_place(mount, own[controller]), name, delegate=False)
                break
    return groups if len(groups) == len(CONTROLLERS) else []


def _offers_controllers(directory: str) -> bool:
    """Tell whether groups below a directory may be limited; turns that on where it may be."""
    try:
        if not set(CONTROLLERS) <= set(_read(f"{directory}/cgroup.controllers").split()):
            return False
        if not set(CONTROLLERS) <= set(_read(f"{directory}/cgroup.subtree_control").split()):
            _delegate(directory)
    except OSError:
        return False
    return os.access(f"{directory}/cgroup.procs", os.W_OK)


def _delegate(directory: str) -> None:
    controllers = " ".join(f"+{controller}" for controller in CONTROLLERS)
    _write(f"{directory}/cgroup.subtree_control", controllers)


def _make_own(directory: str, name: str, *, delegate: bool) -> list[str]:
    _remove_left_behind(directory)
    group = f"{directory}/{name}"
    try:
        os.mkdir(group)
        if delegate:
            _delegate(group)
    except OSError:
        _remove_group(group)
        return []
    return [group]


def _remove_left_behind(directory: str) -> None:
    """Remove the groups of zygotes that were killed; their boxes died with them."""
    for entry in os.listdir(directory):
        match = _NAME.fullmatch(entry)
        if match is not None and _start_time(int(match[1])) != match[2]:
            group = f"{directory}/{entry}"
            for name in os.listdir(group):
                if os.path.isdir(f"{group}/{name}"):
                    _remove_group(f"{group}/{name}")
            _remove_group(group)


def _remove_group(group: str) -> None:
    try:
        os.rmdir(group)
    except OSError:  # not empty yet, or gone: the next start looks again
        return


def _start_time(pid: int) -> str:
    """Return when a process began, in clock ticks; empty where there is none."""
    try:
        stat = _read(f"/proc/{pid}/stat")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[_START_TIME_FIELD]


def _settings(version: int, limits: LimitsPlan) -> dict[str, int]:
    memory = limits["memory_bytes"]
    if version == 1:
        return {
            "memory.limit_in_bytes": memory,
            "memory.memsw.limit_in_bytes": memory,
            "pids.max": limits["processes"],
        }
    return {"memory.max": memory, "memory.swap.max": 0, "pids.max": limits["processes"]}


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)
