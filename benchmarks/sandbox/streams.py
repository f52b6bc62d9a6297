"""How fast a command's output arrives, beside a plain pipe."""

import asyncio
import resource
import statistics
import subprocess
import time

from patchkiln.ports.execution import Execution
from patchkiln.ports.sandbox import SandboxSpec, new_sandbox_id
from patchkiln.sandboxes.local.provider import LocalSandboxes

BYTES = 2 << 30
ROUNDS = 5
COMMAND = ("head", "--bytes", str(BYTES), "/dev/zero")
_BLOCK_BYTES = 1 << 16


async def streams(provider: LocalSandboxes) -> None:
    """Print gigabytes a second, and how much the server's memory grew."""
    box = await provider.create(SandboxSpec(id=new_sandbox_id()))
    ours: list[float] = []
    plain: list[float] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(ROUNDS):
        execution = await box.exec(COMMAND, max_output_bytes=BYTES * 2)
        ours.append(await _rate(execution))
        plain.append(await asyncio.to_thread(_plain_rate))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{'output of a command, GB/s':46} {statistics.median(ours):9.2f}")
    print(f"{'the same through a plain pipe, GB/s':46} {statistics.median(plain):9.2f}")
    print(f"{'memory that the reader grew by, MiB':46} {grown / 1024:9.2f}")
    await box.destroy()


async def _rate(execution: Execution) -> float:
    begin, received = time.perf_counter(), 0
    async for chunk in execution:
        received += len(chunk.data)
    if received != BYTES:
        raise RuntimeError("output is missing")
    return received / 1e9 / (time.perf_counter() - begin)


def _plain_rate() -> float:
    begin, received = time.perf_counter(), 0
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, bufsize=0) as process:
        while process.stdout is not None and (data := process.stdout.read(_BLOCK_BYTES)):
            received += len(data)
    return received / 1e9 / (time.perf_counter() - begin)
