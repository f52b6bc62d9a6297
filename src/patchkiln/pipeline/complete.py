"""Step 7: judge the patch on a pristine base by the repository's own checks."""

from collections.abc import AsyncGenerator

from patchkiln.domain.check import CheckResult, Verdict
from patchkiln.domain.event import EventType, StatusUpdate
from patchkiln.domain.judges import judges_in
from patchkiln.domain.patch import Patch, printable
from patchkiln.domain.run import Outcome
from patchkiln.domain.terminal import plain_text
from patchkiln.domain.verdict import Judgement, compare, skipped
from patchkiln.errors import PatchError
from patchkiln.pipeline.context import RunContext, require
from patchkiln.pipeline.judging import RESULT, judge
from patchkiln.ports.execution import capture
from patchkiln.ports.sandbox import Sandbox

PATCH_FILE = "/tmp/change.patch"  # noqa: S108 - inside a sandbox of its own
APPLY_TIMEOUT_S = 120.0
MAX_STDERR_BYTES = 2048


async def run(context: RunContext) -> AsyncGenerator[StatusUpdate]:
    """Yield the checks on the result and ``verdict.reached``."""
    patch = require(context.patch)
    if context.outcome is None:
        context.outcome = Outcome.NO_CHANGE if patch.empty else Outcome.CHANGED
    if patch.empty:
        context.judgement = Judgement(verdict=Verdict.SKIPPED, reason="Nothing was changed.")
    elif context.run.request.checks == ():
        context.judgement = skipped()
    else:
        async for update in _judge_result(context, patch):
            yield update
        changed = judges_in(printable(change.path) for change in patch.changes)
        context.judgement = compare(context.baseline, context.results).beside(changed)
    yield _reached(context.judgement)


async def _judge_result(context: RunContext, patch: Patch) -> AsyncGenerator[StatusUpdate]:
    if not context.checks:
        return
    results: list[CheckResult] = []
    sandbox = await context.fresh_sandbox()
    try:
        await _apply(sandbox, patch)
        async for item in judge(context, sandbox, RESULT):
            if isinstance(item, CheckResult):
                results.append(item)
            else:
                yield item
    finally:
        await sandbox.destroy()
    context.results = tuple(results)


async def _apply(sandbox: Sandbox, patch: Patch) -> None:
    await sandbox.write(PATCH_FILE, patch.diff)
    argv = ["git", "apply", "--binary", "--whitespace=nowarn", PATCH_FILE]
    output = await capture(await sandbox.exec(argv, timeout_s=APPLY_TIMEOUT_S))
    if output.status.exit_code != 0:
        raise PatchError(
            "The patch does not apply to its own base.",
            exit_code=output.status.exit_code,
            stderr_tail=plain_text(output.stderr[-MAX_STDERR_BYTES:]),
        )
    await sandbox.remove(PATCH_FILE)


def _reached(judgement: Judgement) -> StatusUpdate:
    tones = {Verdict.VERIFIED: EventType.SUCCESS, Verdict.SKIPPED: EventType.INFO}
    tone = tones.get(judgement.verdict, EventType.WARNING)
    return StatusUpdate(
        event="verdict.reached",
        message=f"Verdict {judgement.verdict.value}: {judgement.reason}",
        type=EventType.WARNING if judgement.changed_judges else tone,
        progress=98,
        data=judgement.as_json(),
    )
