"""Killing a sandbox behind its provider's back."""

import asyncio
import os
import signal
import time
from pathlib import Path

from patchkiln.ports.sandbox import Sandbox
from tests.contract.sandbox.making import text


async def lose(box: Sandbox) -> None:
    """Kill the sandbox's first process from the host, as an accident would."""
    namespace = await text(box, "readlink /proc/self/ns/pid")
    await asyncio.to_thread(_kill_first_process, namespace)


def _kill_first_process(namespace: str) -> None:
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    # Not the lowest number: those of the machine begin anew.
    first = next(pid for pid in pids if _namespace(pid) == namespace and _is_first(pid))
    os.kill(first, signal.SIGKILL)
    while _namespace(first):
        time.sleep(0.01)


def _namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return ""


def _is_first(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return any(
        line.startswith("NSpid:") and line.split()[-1] == "1" for line in status.splitlines()
    )
