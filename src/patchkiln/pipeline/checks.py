"""Runs one check in a sandbox, in bounded time and memory, and says how it ended."""

import asyncio
from collections.abc import AsyncIterator

from patchkiln.domain.check import UNTOLD, Check, CheckResult, CheckStatus
from patchkiln.domain.outputs.reading import Reading, read_result
from patchkiln.domain.terminal import plain_text, readable_text
from patchkiln.ports.execution import (
    CapturedOutput,
    Chunk,
    Execution,
    ExitReason,
    ExitStatus,
    capture,
)
from patchkiln.ports.sandbox import Sandbox

TAIL_BYTES = 16 << 10
# PYTHONPATH of a check goes before the sandbox's own, by which it lends its pytest.
_WITH_PYTHONPATH = (
    'PYTHONPATH="$1${PYTHONPATH:+:$PYTHONPATH}"; export PYTHONPATH; exec /bin/sh -c "$0"'
)


async def run_check(
    sandbox: Sandbox, check: Check, *, timeout_s: float, max_output_bytes: int
) -> CheckResult:
    """Run a check in the workspace's root and return how it ended.

    It is stopped at ``timeout_s``, and past ``max_output_bytes``. Memory is bounded however much it
    prints: the ends of both streams are read for names of failed tests, and the last `TAIL_BYTES`
    are kept for people. Raises `SandboxLost` (retryable).
    """
    if check.kind == UNTOLD:
        return _untold(check)
    execution = await sandbox.exec(
        _argv(check),
        env={name: value for name, value in check.env.items() if name != "PYTHONPATH"},
        timeout_s=timeout_s,
        max_output_bytes=max_output_bytes,
    )
    watched = _Watched(execution)
    try:
        output = await capture(watched)
    finally:
        await execution.kill()
    reading = _stopped(output.status, timeout_s, max_output_bytes)
    if reading is None:
        # Megabytes of hostile lines take a moment, and the streams of other runs must not wait.
        reading = await asyncio.to_thread(_read, check, output)
    return _result(check, reading, output.status, readable_text(watched.tail))


class _Watched:
    """Passes an execution's output on and remembers its end, both streams as they came."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._tail = bytearray()

    @property
    def tail(self) -> bytes:
        return bytes(self._tail)

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        async for chunk in self._execution:
            self._tail += chunk.data
            del self._tail[:-TAIL_BYTES]
            yield chunk

    async def wait(self) -> ExitStatus:
        return await self._execution.wait()


def _argv(check: Check) -> list[str]:
    path = check.env.get("PYTHONPATH")
    if path is None:
        return ["/bin/sh", "-c", check.command]
    return ["/bin/sh", "-c", _WITH_PYTHONPATH, check.command, path]


def _read(check: Check, output: CapturedOutput) -> Reading:
    return read_result(
        check.command,
        exit_code=output.status.exit_code,
        text=f"{plain_text(output.stdout)}\n{plain_text(output.stderr)}",
        truncated=output.dropped_bytes > 0,
    )


def _stopped(status: ExitStatus, timeout_s: float, max_output_bytes: int) -> Reading | None:
    """Return the reading of a check that did not end by itself, None for one that did."""
    match status.reason:
        case ExitReason.EXITED:
            return None
        case ExitReason.TIMED_OUT:
            reason = f"It was stopped after {timeout_s:g} seconds."
            return Reading(status=CheckStatus.TIMED_OUT, reason=reason)
        case ExitReason.OUTPUT_LIMIT:
            reason = f"It was stopped because it printed more than {max_output_bytes} bytes."
            return Reading(status=CheckStatus.TIMED_OUT, reason=reason)
        case ExitReason.KILLED:
            reason = f"It was killed (exit code {status.exit_code}), perhaps for want of memory."
            return Reading(status=CheckStatus.FAILED, reason=reason)


def _untold(check: Check) -> CheckResult:
    return CheckResult(
        check=check,
        status=CheckStatus.UNRUNNABLE,
        exit_code=None,
        duration_ms=0,
        tail="",
        reason=f"{check.command} sets up its environments over the network, which the sandbox does "
        f"not have, and {check.source} names no test command that runs without it.",
    )


def _result(check: Check, reading: Reading, status: ExitStatus, tail: str) -> CheckResult:
    return CheckResult(
        check=check,
        status=reading.status,
        exit_code=status.exit_code,
        duration_ms=status.duration_ms,
        tail=tail,
        failures=reading.failures,
        complete=reading.complete,
        tests_run=reading.tests_run,
        reason=reading.reason,
    )
