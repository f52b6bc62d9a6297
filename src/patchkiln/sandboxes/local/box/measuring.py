"""What a box uses, as its PID 1 finds it in /proc, where no control group counts."""

import os
from collections.abc import Iterator

from patchkiln.sandboxes.local.box import watchdog
from patchkiln.sandboxes.local.box.census import entries

# Of /proc/PID/stat, counted after the name: a process's own and its ended children's.
_CPU_TIMES = slice(11, 15)
_CHILDRENS_CPU_TIMES = slice(13, 15)
_THREADS = 17
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_MS = 1000


def measure() -> dict[str, int]:
    """Return the processor's time, the memory, and the processes with their threads.

    Of this process's own time nothing counts: to measure takes some, also while all others stand.
    """
    own, *others = _process_fields()
    fields = [own, *others]
    ticks = sum(map(int, own[_CHILDRENS_CPU_TIMES]))
    ticks += sum(sum(map(int, field[_CPU_TIMES])) for field in others)
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
