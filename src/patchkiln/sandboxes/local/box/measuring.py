"""What a box uses, as its PID 1 finds it in /proc, where no control group counts."""

import os
from collections.abc import Iterator

from patchkiln.sandboxes.local.box import watchdog
from patchkiln.sandboxes.local.box.census import entries

_CPU_TIMES = slice(11, 15)  # of /proc/PID/stat, counted after the name: its own and its children's
_THREADS = 17
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_MS = 1000


def measure() -> dict[str, int]:
    """Return the processor's time, the memory, and the processes with their threads."""
    fields = list(_process_fields())
    ticks = sum(sum(map(int, field[_CPU_TIMES])) for field in fields)
    return {
        "cpu_ms": ticks * _MS // _TICKS_PER_S,
        "memory_bytes": watchdog.used_bytes(),
        "processes": sum(int(field[_THREADS]) for field in fields),
    }


def _process_fields() -> Iterator[list[bytes]]:
    for place in ("/proc/self", *(entry.place for entry in entries())):
        try:
            with open(f"{place}/stat", "rb") as file:
                yield file.read().rpartition(b")")[2].split()
        except OSError:  # it ended meanwhile
            continue
