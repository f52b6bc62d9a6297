"""Bounds a box's memory where no control group does: kills the largest process above the limit.

What counts is what a control group would count: the processes' memory, each shared page once, and
the files in memory. Between two looks a box may grow past its limit for a moment.
"""

import os
import signal
from collections.abc import Iterator
from functools import cache

from patchkiln.sandboxes.local.box import syscalls
from patchkiln.sandboxes.local.box.census import Entry, entries
from patchkiln.sandboxes.local.box.layout import HOME, WORKSPACE

CALM_S = 0.2
ALERT_S = 0.02
_ALERT_SHARE = 0.5
# In a box all that can be written but shared memory lies on one disk, in a container on several.
_PLACES = ("/tmp", "/dev/shm", HOME, WORKSPACE)  # noqa: S108 - inside the box
_TMPFS = 0x01021994
_OVERLAY = 0x794C7630
_FILE_BYTES = 1024  # what the kernel keeps of a file in memory, however empty it is
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SHARED_SEGMENT_RSS = -2  # the column "rss" of /proc/sysvipc/shm, from its end


class Watchdog:
    """Looks at the box's memory from time to time, as long as processes run."""

    def __init__(self, limit_bytes: int) -> None:
        """Take the limit."""
        self._limit_bytes = limit_bytes

    def look(self) -> float | None:
        """Kill the largest process if need be; return when to look again, None: nothing runs."""
        resident = dict(_resident_bytes())
        if not resident:
            return None
        files = _file_bytes()
        if sum(resident.values()) + files <= self._limit_bytes:
            crowded = sum(resident.values()) + files > self._limit_bytes * _ALERT_SHARE
            return ALERT_S if crowded else CALM_S
        proportional = {entry: _proportional_bytes(entry, size) for entry, size in resident.items()}
        if sum(proportional.values()) + files > self._limit_bytes:
            _kill(max(proportional, key=proportional.__getitem__).pid)
        return ALERT_S


def used_bytes() -> int:
    """Return what the processes hold, each shared page once, and the files in memory."""
    held = (_proportional_bytes(entry, size) for entry, size in _resident_bytes())
    return sum(held) + _file_bytes()


def _file_bytes() -> int:
    return sum(map(_used_bytes, _disks())) + _shared_segment_bytes()


@cache
def _disks() -> tuple[str, ...]:
    """Return a place on each disk in memory; what is no such disk lies on one of them.

    An overlay has the figures of the box's own disk, on which all its overlays lie: above a
    snapshot /tmp is one as well, and then nothing else shows that disk.
    """
    disks: dict[int, str] = {}
    for place in _PLACES:
        descriptor = os.open(place, os.O_PATH | os.O_CLOEXEC)
        try:
            kind = syscalls.file_system_type(descriptor)
            if kind == _TMPFS or (kind == _OVERLAY and place == _PLACES[0]):
                disks.setdefault(os.fstat(descriptor).st_dev, place)
        finally:
            os.close(descriptor)
    return tuple(disks.values())


def _resident_bytes() -> Iterator[tuple[Entry, int]]:
    """Yield each process but PID 1 with what it holds, shared pages counted in full."""
    for entry in entries():
        try:
            with open(f"{entry.place}/statm", "rb") as file:
                yield entry, int(file.read().split()[1]) * _PAGE_BYTES
        except OSError:  # it ended meanwhile
            continue


def _proportional_bytes(entry: Entry, otherwise: int) -> int:
    """Return what a process holds, its part of shared pages; what it hides counts in full."""
    try:
        with open(f"{entry.place}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) << 10
    except OSError:
        return otherwise
    return otherwise


def _used_bytes(place: str) -> int:
    status = os.statvfs(place)
    files = status.f_files - status.f_ffree
    return (status.f_blocks - status.f_bfree) * status.f_frsize + files * _FILE_BYTES


def _shared_segment_bytes() -> int:
    try:
        with open("/proc/sysvipc/shm", "rb") as file:
            return sum(int(line.split()[_SHARED_SEGMENT_RSS]) for line in file.readlines()[1:])
    except OSError:
        return 0


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
