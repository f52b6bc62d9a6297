"""What live boxes take of the machine's memory."""

import asyncio
import os
from pathlib import Path

from patchkiln.ports.sandbox import SandboxSpec, new_sandbox_id
from patchkiln.sandboxes.local.provider import LocalSandboxes

BOXES = 100


async def memory(provider: LocalSandboxes) -> None:
    """Print the proportional memory of the processes that 100 boxes add, a box."""
    before = _descendants_bytes()
    boxes = await asyncio.gather(
        *(provider.create(SandboxSpec(id=new_sandbox_id())) for _ in range(BOXES))
    )
    await asyncio.sleep(0.5)
    added = (_descendants_bytes() - before) / BOXES / (1 << 20)
    print(f"{f'{BOXES} live boxes, MiB of memory (PSS) each':46} {added:9.2f}")
    await asyncio.gather(*(box.destroy() for box in boxes))


def _descendants_bytes() -> int:
    """Return the proportional set size of all that this process has started."""
    parents = {
        int(path.name): int((path / "stat").read_text().rpartition(")")[2].split()[1])
        for path in Path("/proc").iterdir()
        if path.name.isdecimal() and (path / "stat").exists()
    }
    chosen = {os.getpid()}
    while found := {pid for pid, parent in parents.items() if parent in chosen} - chosen:
        chosen |= found
    return sum(_pss_bytes(pid) for pid in chosen - {os.getpid()})


def _pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:")), 0)
