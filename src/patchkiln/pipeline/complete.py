"""Step 7: judge the patch on a pristine base by the repository's own checks."""

from collections.abc import AsyncGenerator

from patchkiln.domain.check import CheckResult, Verdict
from patchkiln.domain.event import EventType, JsonObject, StatusUpdate
from patchkiln.domain.judges import judges_in
from patchkiln.domain.patch import Patch, printable
from patchkiln.domain.run import Outcome
from patchkiln.domain.verdict import Judgement, compare, skipped
from patchkiln.pipeline.context import RunContext, require
from patchkiln.pipeline.judging import RESULT, judge
from patchkiln.pipeline.keeping import result_json, result_of
from patchkiln.pipeline.patching import apply_patch
from patchkiln.pipeline.record import Found


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
        await apply_patch(sandbox, patch.diff)
        async for item in judge(context, sandbox, RESULT):
            if isinstance(item, CheckResult):
                results.append(item)
            else:
                yield item
    finally:
        await sandbox.destroy()
    context.results = tuple(results)


def _reached(judgement: Judgement) -> StatusUpdate:
    tones = {Verdict.VERIFIED: EventType.SUCCESS, Verdict.SKIPPED: EventType.INFO}
    tone = tones.get(judgement.verdict, EventType.WARNING)
    return StatusUpdate(
        event="verdict.reached",
        message=f"Verdict {judgement.verdict.value}: {judgement.reason}",
        type=EventType.WARNING if judgement.changed_judges else tone,
        progress=98,
        data=judgement.as_json(),
        key="verdict.reached",
    )


def found(context: RunContext) -> JsonObject:
    """Return how the checks ended on the result, and the verdict."""
    return {
        "results": [result_json(result) for result in context.results],
        "judgement": require(context.judgement).as_json(),
    }


async def restore(context: RunContext, found: Found) -> None:
    """Put back what `found` returned."""
    context.results = tuple(result_of(result) for result in found["results"])
    said = found["judgement"]
    context.judgement = Judgement(
        verdict=Verdict(said["verdict"]),
        reason=said["reason"],
        new_failures=tuple(said["new_failures"]),
        fixed=tuple(said["fixed"]),
        changed_judges=tuple(said["changed_judges"]),
    )
