"""Pausing a box, and measuring it, from the server's side.

The zygote does it by control groups; where there is none that can, the box's own PID 1.
"""

import asyncio
import errno
import time

from patchkiln.errors import SandboxError, SandboxLost, SandboxUnavailable
from patchkiln.ports.sandbox import SandboxLimits, SandboxMetrics
from patchkiln.sandboxes.local.generation import Generation
from patchkiln.sandboxes.local.zygote_process import StepFailed

FREEZE_S = 10.0
_LOOK_S = 0.001


async def pause(generation: Generation) -> None:
    """Stop every process of a box. Raises `SandboxError` where one withstands."""
    try:
        await _freeze(generation)
    except StepFailed as failure:
        _raise_unless_unsupported(failure)
        reply = await generation.channel.request({"op": "stop"})
        if reply.event != "done":
            raise _withstood() from None


async def resume(generation: Generation) -> None:
    """Let the processes of a box go on."""
    try:
        await generation.zygote.freeze(generation.name, frozen=False)
    except StepFailed as failure:
        _raise_unless_unsupported(failure)
        await generation.channel.request({"op": "continue"})


async def measure(generation: Generation, limits: SandboxLimits, *, paused: bool) -> SandboxMetrics:
    """Return what a box uses; what its control groups do not tell, its PID 1 does."""
    try:
        counted = told = await generation.zygote.measure(generation.name)
    except (StepFailed, SandboxUnavailable) as failure:
        raise SandboxLost("The sandbox is gone.") from failure
    frozen = paused and counted.processes >= 0
    if min(counted.cpu_ms, counted.memory_bytes, counted.processes) < 0 and not frozen:
        told = await generation.channel.request({"op": "measure"})
    return SandboxMetrics(
        cpu_ms=_first_known(counted.cpu_ms, told.cpu_ms),
        memory_bytes=_first_known(counted.memory_bytes, told.memory_bytes),
        memory_limit_bytes=limits.memory_bytes,
        processes=_first_known(counted.processes, told.processes),
        disk_bytes=_first_known(counted.disk_bytes),
        disk_limit_bytes=limits.disk_bytes,
    )


async def _freeze(generation: Generation) -> None:
    until = time.monotonic() + FREEZE_S
    while not await generation.zygote.freeze(generation.name, frozen=True):
        if time.monotonic() > until:
            await generation.zygote.freeze(generation.name, frozen=False)
            raise _withstood()
        await asyncio.sleep(_LOOK_S)


def _raise_unless_unsupported(failure: StepFailed) -> None:
    if failure.number != errno.ENOTSUP:
        raise SandboxLost("The sandbox is gone.") from failure


def _withstood() -> SandboxError:
    return SandboxError(
        "A process of the sandbox could not be stopped.", remedy="Try again, or destroy it."
    )


def _first_known(*values: int) -> int | None:
    return next((value for value in values if value >= 0), None)
