"""Containers of servers that are gone, found by their labels."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, cast

from patchkiln.sandboxes.container.engine import Engine

_DATA = "patchkiln.data"
_SERVER = "patchkiln.server"
_SANDBOX = "patchkiln.sandbox"
_START_TIME = 19  # the field of /proc/PID/stat after the name, counted from 0
_KEY_CHARS = 16


def labels(data_dir: Path, sandbox_id: str) -> dict[str, str]:
    """Return what tells whose a container is: the data directory's, and this process's."""
    server = f"{os.getpid()}:{_start_time(os.getpid())}"
    return {_DATA: _key(data_dir), _SERVER: server, _SANDBOX: sandbox_id}


async def remove_orphans(engine: Engine, data_dir: Path) -> None:
    """Remove the containers of this data directory's servers that no longer run.

    Raises `EngineError`.
    """
    filters = json.dumps({"label": [f"{_DATA}={_key(data_dir)}"]})
    for entry in await engine.get("/containers/json", all="1", filters=filters):
        container = cast("dict[str, Any]", entry)
        if not _lives(str(container.get("Labels", {}).get(_SERVER, ""))):
            await engine.delete(f"/containers/{container['Id']}", force="1", v="1")


def _key(data_dir: Path) -> str:
    return hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:_KEY_CHARS]


def _lives(server: str) -> bool:
    pid, _, started = server.partition(":")
    return pid.isdecimal() and _start_time(int(pid)) == started


def _start_time(pid: int) -> str:
    """Return when a process began, in the kernel's count; empty for none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    return fields[_START_TIME].decode()
