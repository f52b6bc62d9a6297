"""Control groups: hard limits on a box's memory and processes, its freezing, killing and counting.

Sources: cgroups(7), the kernel's admin-guide/cgroup-v2 and cgroup-v1.
"""

import errno
import os
from collections.abc import Sequence
from typing import NamedTuple

from patchkiln.sandboxes.local.box.plan import LimitsPlan

_MICROSECONDS = 1000
# By version: the memory's and the processes'.
_COUNTERS = {
    1: ("memory.usage_in_bytes", "pids.current"),
    2: ("memory.current", "pids.current"),
}


class Usage(NamedTuple):
    """What a box uses; -1 where the groups do not tell."""

    cpu_ms: int = -1
    memory_bytes: int = -1
    processes: int = -1


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

    def descriptors(self) -> list[int]:
        """Return their descriptors."""
        return [*self.tasks, *([] if self.directory is None else [self.directory])]

    def close(self) -> None:
        """Close them."""
        for descriptor in self.descriptors():
            os.close(descriptor)


class Cgroups:
    """A group of our own in each hierarchy that is needed, and a group a box below it."""

    def __init__(
        self,
        version: int,
        groups: list[str],
        *,
        unified: str | None = None,
        freezer: str | None = None,
    ) -> None:
        """Take the version that limits, and our own groups; `find_cgroups` makes them.

        ``unified`` is the one of version 2, ``freezer`` of version 1 where there is no such.
        """
        self.version = version
        self._groups = groups
        self._unified = unified
        self._freezer = freezer
        # Each hierarchy of version 1 has its own settings; swap is not everywhere.
        self._offered: dict[str, frozenset[str]] = {}

    def create(self, name: str) -> None:
        """Make a box's groups."""
        for group in self._groups:
            place = f"{group}/{name}"
            os.mkdir(place)
            if group not in self._offered:
                self._offered[group] = frozenset(os.listdir(place))

    def limit(self, name: str, limits: LimitsPlan) -> None:
        """Set a box's limits."""
        settings = _settings(self.version, limits)
        for group in self._groups:
            for setting, value in settings.items():
                if setting in self._offered[group]:
                    write(f"{group}/{name}/{setting}", str(value))

    def open(self, name: str) -> "Doors":
        """Open the ways into a box's groups."""
        flags = os.O_WRONLY | os.O_CLOEXEC
        old = [group for group in self._groups if group != self._unified]
        tasks = [os.open(f"{group}/{name}/tasks", flags) for group in old]
        if self._unified is None:
            return Doors(tasks=tasks)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        return Doors(tasks=tasks, directory=os.open(f"{self._unified}/{name}", flags))

    def remove(self, name: str) -> None:
        """Remove the groups of a box whose processes are gone."""
        for group in self._groups:
            remove_group(f"{group}/{name}")

    def freeze(self, name: str, *, frozen: bool) -> bool:
        """Begin to stop every process of a box, or let them go on; tell whether all stand still.

        Raises `OSError`, ``ENOTSUP`` where no group can.
        """
        if self._unified is not None:
            write(f"{self._unified}/{name}/cgroup.freeze", "1" if frozen else "0")
            return "frozen 1" in read(f"{self._unified}/{name}/cgroup.events")
        if self._freezer is not None:
            state = f"{self._freezer}/{name}/freezer.state"
            write(state, "FROZEN" if frozen else "THAWED")
            return read(state).strip() == "FROZEN"
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def kill(self, name: str) -> None:
        """Kill every process of a box at once, or let those that are frozen die of their signal."""
        try:
            if self._unified is not None:
                write(f"{self._unified}/{name}/cgroup.kill", "1")
            elif self._freezer is not None:
                write(f"{self._freezer}/{name}/freezer.state", "THAWED")
        except OSError:  # older than Linux 5.14, or gone
            return

    def usage(self, name: str) -> Usage:
        """Return what a box uses."""
        names = _COUNTERS[self.version]
        memory, processes = (self._number(name, counter) for counter in names)
        return Usage(self._cpu_ms(name), memory, processes)

    def close(self) -> None:
        """Remove our own groups, which must be empty."""
        for group in self._groups:
            remove_group(group)

    def _number(self, name: str, counter: str) -> int:
        for group in self._groups:
            if counter in self._offered.get(group, ()):
                return int(read(f"{group}/{name}/{counter}"))
        return -1

    def _cpu_ms(self, name: str) -> int:
        if self._unified is None:
            return -1
        lines = read(f"{self._unified}/{name}/cpu.stat").splitlines()
        fields = dict(line.split() for line in lines)
        return int(fields["usage_usec"]) // _MICROSECONDS


def remove_group(group: str) -> None:
    """Remove a group, unless it is not empty yet: the next start looks again."""
    try:
        os.rmdir(group)
    except OSError:
        return


def _settings(version: int, limits: LimitsPlan) -> dict[str, int]:
    memory = limits["memory_bytes"]
    if version == 1:
        return {
            "memory.limit_in_bytes": memory,
            "memory.memsw.limit_in_bytes": memory,
            "pids.max": limits["processes"],
        }
    return {"memory.max": memory, "memory.swap.max": 0, "pids.max": limits["processes"]}


def read(path: str) -> str:
    """Return what a small file of the kernel's says."""
    with open(path, encoding="utf-8") as file:
        return file.read()


def write(path: str, text: str) -> None:
    """Write to a file of the kernel's at once."""
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)
