"""Stopping every process of a box and letting them go on, where no control group can.

PID 1 does it, which nobody in the box can signal: what it has stopped stays so.
"""

import errno
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

from patchkiln.sandboxes.local.box.census import entries

_ROUNDS = 2000
_ROUND_PAUSE_S = 0.002
_STILL = b"TtZX"


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
        states = dict(_states())
        self._stopped_before = frozenset(pid for pid, state in states.items() if state == b"T")
        self.holds = True
        for _ in range(_ROUNDS):
            with suppress(ProcessLookupError):
                os.kill(-1, signal.SIGSTOP)
            if all(state in _STILL for _, state in _states()):
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
        for pid, _ in _states():
            if pid not in self._stopped_before:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _states() -> Iterator[tuple[int, bytes]]:
    for entry in entries():
        try:
            with open(f"{entry.place}/stat", "rb") as file:
                yield entry.pid, file.read().rpartition(b")")[2].split()[0]
        except OSError:  # it ended meanwhile
            continue
