"""The other processes of a box, as its first one finds them in /proc.

In a /proc of the box's own they are all there is. One that it shares with its container counts
otherwise and shows the container's processes too: there, the box's are those that descend from its
first, and their own numbers are the innermost that their status tells (``NSpid``, proc(5)).
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

_INIT = "1"
_SELF = "/proc/self"


class Entry(NamedTuple):
    """A process: its number in the box, and its directory in /proc."""

    pid: int
    place: str


class Process(NamedTuple):
    """A process that has not ended, its parent and its session, by the box's numbers."""

    pid: int
    parent: int
    session: int


class _Told(NamedTuple):
    """What a process's status tells; ``number`` and ``parent`` as /proc counts."""

    number: str
    parent: str
    pid: int
    session: int
    ended: bool


def entries() -> Iterator[Entry]:
    """Yield every process of the box but its first."""
    if _has_own_proc():
        for name in _numbers():
            if name != _INIT:
                yield Entry(int(name), f"/proc/{name}")
    else:
        for told, _ in _descendants():
            yield Entry(told.pid, f"/proc/{told.number}")


def living() -> Iterator[Process]:
    """Yield the processes of the box that have not ended, but its first."""
    if not _has_own_proc():
        for told, parent in _descendants():
            if not told.ended:
                yield Process(told.pid, parent, told.session)
        return
    for pid, place in entries():
        try:
            with open(f"{place}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if fields[0] not in {b"Z", b"X"}:
            yield Process(pid, int(fields[1]), int(fields[3]))


def _has_own_proc() -> bool:
    return os.readlink(_SELF) == _INIT


def _numbers() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdigit()]


def _descendants() -> Iterator[tuple[_Told, int]]:
    """Yield what descends from this process, each with its parent's number in the box."""
    children: dict[str, list[_Told]] = {}
    for number in _numbers():
        told = _read_status(number)
        if told is not None:
            children.setdefault(told.parent, []).append(told)
    parents = [(os.readlink(_SELF), os.getpid())]
    while parents:
        number, pid = parents.pop()
        for told in children.pop(number, ()):
            yield told, pid
            parents.append((told.number, told.pid))


def _read_status(number: str) -> _Told | None:
    try:
        with open(f"/proc/{number}/status", encoding="utf-8", errors="replace") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
    except OSError:  # it ended meanwhile
        return None
    return _Told(
        number=number,
        parent=fields["PPid"].strip(),
        pid=int(fields["NSpid"].split()[-1]),
        session=int(fields["NSsid"].split()[-1]),
        ended=fields["State"].split()[0] in {"Z", "X"},
    )
