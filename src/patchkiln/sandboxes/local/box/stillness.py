"""Stopping every process of a box and letting them go on, where no control group can.

PID 1 does it, which nobody in the box can signal: what it has stopped stays so.
"""

import errno
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from patchkiln.sandboxes.local.box.census import entries

_ROUNDS = 2000
_ROUND_PAUSE_S = 0.002
_STOPPED = b"Tt"
_STILL = b"TtZX"
_UNINTERRUPTIBLE = b"D"


class _Look(NamedTuple):
    """A process by its number in the box, and by what /proc tells: numbers of its own, a state."""

    pid: int
    number: bytes
    parent: bytes
    state: bytes


class Stillness:
    """Remembers who stood still already, and is to stay so."""

    def __init__(self) -> None:
        """Begin with all that runs running."""
        self.holds = False
        self._stopped_before: frozenset[int] = frozenset()

    def begin(self) -> None:
        """Stop every process; what multiplies meanwhile is stopped too. Raises `OSError`."""
        if self.holds:
            return
        states = {look.pid: look.state for look in _looks()}
        self._stopped_before = frozenset(pid for pid, state in states.items() if state == b"T")
        self.holds = True
        for _ in range(_ROUNDS):
            with suppress(ProcessLookupError):
                os.kill(-1, signal.SIGSTOP)
            if not _moves(list(_looks())):
                return
            time.sleep(_ROUND_PAUSE_S)
        self.end()
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    def let_go_on_later(self, group: int) -> None:
        """Let the processes of a group go on at the end, those too that stood still before."""
        self._stopped_before = frozenset(
            pid for pid in self._stopped_before if _group(pid) != group
        )

    def end(self) -> None:
        """Let those go on that were stopped here. Idempotent."""
        if not self.holds:
            return
        self.holds = False
        for pid in [look.pid for look in _looks()]:
            if pid not in self._stopped_before:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _moves(looks: list[_Look]) -> bool:
    """Tell whether a process may still run.

    One that has called vfork(2) cannot be stopped before its child has left its memory: it stands
    as still as the child.
    """
    held_up = {look.parent for look in looks if look.state in _STOPPED}
    return any(
        look.state not in _STILL and (look.state != _UNINTERRUPTIBLE or look.number not in held_up)
        for look in looks
    )


def _looks() -> Iterator[_Look]:
    for entry in entries():
        try:
            with open(f"{entry.place}/stat", "rb") as file:
                number, _, rest = file.read().partition(b" ")
        except OSError:  # it ended meanwhile
            continue
        state, parent = rest.rpartition(b")")[2].split()[:2]
        yield _Look(entry.pid, number, parent, state)
