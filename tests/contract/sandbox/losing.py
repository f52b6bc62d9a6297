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
    first = min(pid for pid in pids if _namespace(pid) == namespace)
    os.kill(first, signal.SIGKILL)
    while _namespace(first):
        time.sleep(0.01)


def _namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return ""
