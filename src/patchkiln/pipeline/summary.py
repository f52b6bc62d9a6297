"""How a run's troubles and its end are told."""

from patchkiln.domain.check import Verdict
from patchkiln.domain.event import EventType, JsonObject, JsonValue, StatusUpdate
from patchkiln.domain.run import RUN_FAILED, RUN_FINISHED, Outcome
from patchkiln.domain.verdict import Judgement
from patchkiln.errors import CommandError, PatchkilnError
from patchkiln.pipeline.context import RunContext

NOT_JUDGED = Judgement(verdict=Verdict.SKIPPED, reason="The run ended before its checks.")


def trouble(
    event: str,
    message: str,
    *,
    code: str,
    retryable: bool,
    remedy: str,
    type_: EventType = EventType.ERROR,
    details: JsonObject | None = None,
) -> StatusUpdate:
    """Return an update that says what went wrong and what a person can do."""
    return StatusUpdate(
        event=event,
        message=message,
        type=type_,
        data={"code": code, "retryable": retryable, "remedy": remedy, **(details or {})},
    )


def failure(error: PatchkilnError) -> StatusUpdate:
    """Return the ``error`` frame of a failed run."""
    details: dict[str, JsonValue] = {}
    if isinstance(error, CommandError) and error.exit_code is not None:
        details = {"exit_code": error.exit_code, "stderr": error.stderr_tail}
    return trouble(
        RUN_FAILED,
        error.message,
        code=error.code,
        retryable=error.retryable,
        remedy=error.remedy,
        details=details,
    )


def summary(context: RunContext, outcome: Outcome) -> StatusUpdate:
    """Return the last frame of a run."""
    request = context.run.request
    judgement = context.judgement or NOT_JUDGED
    return StatusUpdate(
        event=RUN_FINISHED,
        message="Processing completed",
        type=EventType.SUMMARY,
        step="complete",
        progress=100,
        key=RUN_FINISHED,
        summary={
            "repository": request.repository,
            "prompt": request.prompt,
            "files_modified": context.files_modified,
            "sandbox_id": context.sandbox_id,
            "duration_ms": context.duration_ms,
            "outcome": outcome.value,
            "verdict": judgement.verdict.value,
            "verdict_reason": judgement.reason,
            "commit": context.commit,
            "agent": request.agent,
            "agent_message": context.agent_message,
            "checks": {
                "base": [result.as_json() for result in context.baseline],
                "result": [result.as_json() for result in context.results],
            },
            "usage": context.usage.as_json(),
            "patch": f"/runs/{context.run.id}/patch" if context.patch_kept else None,
        },
    )
