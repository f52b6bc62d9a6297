"""Runs the checks of a run in a sandbox and tells each; the same way on base and result."""

import time
from collections.abc import AsyncGenerator

from patchkiln.domain.check import Check, CheckResult, CheckStatus
from patchkiln.domain.event import EventType, StatusUpdate
from patchkiln.pipeline.checks import run_check
from patchkiln.pipeline.context import RunContext
from patchkiln.ports.execution import DEFAULT_MAX_OUTPUT_BYTES
from patchkiln.ports.sandbox import Sandbox

BASE = "base"
RESULT = "result"
MIN_CHECK_TIMEOUT_S = 1.0
TONES = {CheckStatus.PASSED: EventType.SUCCESS}


async def judge(
    context: RunContext, sandbox: Sandbox, phase: str
) -> AsyncGenerator[StatusUpdate | CheckResult]:
    """Yield ``check.started`` and ``check.finished`` for each check, and its result between."""
    for check in context.checks:
        yield _started(check, phase)
        with context.waiting(f"the check '{check.command}'"):
            result = await run_check(
                sandbox,
                check,
                timeout_s=_timeout_s(context),
                max_output_bytes=DEFAULT_MAX_OUTPUT_BYTES,
            )
        yield result
        yield _finished(result, phase)


def _timeout_s(context: RunContext) -> float:
    left_s = context.ends_at_s - time.monotonic()
    return max(MIN_CHECK_TIMEOUT_S, min(context.services.check_timeout_s, left_s))


def _started(check: Check, phase: str) -> StatusUpdate:
    return StatusUpdate(
        event="check.started",
        message=f"Checking the {phase}: {check.command}",
        data={"phase": phase, "command": check.command, "source": check.source},
    )


def _finished(result: CheckResult, phase: str) -> StatusUpdate:
    reason = f": {result.reason}" if result.reason else ""
    return StatusUpdate(
        event="check.finished",
        message=f"Check on the {phase} {result.status.value.replace('_', ' ')}{reason}",
        type=TONES.get(result.status, EventType.WARNING),
        data={"phase": phase, **result.as_json()},
    )
