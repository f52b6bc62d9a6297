"""Finding zygotes that outlived their server, and ending them; their boxes end with them.

A zygote ends with its server by itself, unless it was stopped just then. So each is written down
with its server, both by number and time of birth, and whoever starts a zygote in the same data
directory looks at what is written there. A server that lives keeps its zygote.
"""

import json
import os
import select
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias, cast

from patchkiln.sandboxes.local.zygote.pids import start_time

_END_MS = 5000
_BOOT = Path("/proc/sys/kernel/random/boot_id")

# A process, by number and time of birth.
_Identity: TypeAlias = tuple[int, str]


def write_down(records: Path, zygote: int) -> None:
    """Note a zygote of this process's. Raises `OSError`."""
    record = {
        "world": _world(),
        "zygote": [zygote, start_time(zygote)],
        "server": [os.getpid(), start_time(os.getpid())],
    }
    records.mkdir(parents=True, exist_ok=True)
    (records / str(zygote)).write_text(json.dumps(record), encoding="utf-8")


def strike_out(records: Path, zygote: int) -> None:
    """Forget a zygote that has ended. Idempotent."""
    (records / str(zygote)).unlink(missing_ok=True)


def end_orphans(records: Path) -> None:
    """End every zygote whose server is gone, and forget those that are gone themselves."""
    if not records.is_dir():
        return
    for record in list(records.iterdir()):
        world, zygote, server = _read(record)
        # Numbers of another container's mean other processes here.
        if world != _world() and world.partition(" ")[0] == _world().partition(" ")[0]:
            continue
        may_be_ours = world == _world() and _lives(zygote)
        if not may_be_ours or (not _lives(server) and _end(zygote)):
            record.unlink(missing_ok=True)


def _world() -> str:
    """Name the boot and the namespace in which a process's number means what it does."""
    return f"{_BOOT.read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"


def _read(record: Path) -> tuple[str, _Identity, _Identity]:
    """Return a record's fields; of one that was not written to its end, nobody's."""
    try:
        fields = cast("dict[str, Any]", json.loads(record.read_text(encoding="utf-8")))
        zygote, server = (
            (int(fields[name][0]), str(fields[name][1])) for name in ("zygote", "server")
        )
        return str(fields["world"]), zygote, server
    except (ValueError, KeyError, TypeError, IndexError, FileNotFoundError):
        return "", (0, ""), (0, "")


def _lives(process: _Identity) -> bool:
    number, birth = process
    return bool(birth) and start_time(number) == birth


def _end(process: _Identity) -> bool:
    """Kill a process, if it is still that one; tell whether it has ended."""
    try:
        handle = os.pidfd_open(process[0])
    except OSError:
        return not _lives(process)
    try:
        if _lives(process):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            poll.poll(_END_MS)
    except PermissionError:  # root's, or another user's: its own server may end it
        return False
    finally:
        os.close(handle)
    return not _lives(process)
