"""Drives the steps of a run, and brings it to its end whatever happens."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TypeAlias

from patchkiln.domain.event import EventType, StatusUpdate
from patchkiln.domain.run import (
    NETWORK_REFUSED,
    RUN_BUDGET_EXHAUSTED,
    RUN_CANCELLED,
    RUN_REFUSED,
    Outcome,
)
from patchkiln.errors import BudgetExhausted, InvalidRequest, PatchkilnError, SandboxUnavailable
from patchkiln.pipeline.context import RunContext
from patchkiln.pipeline.implementation import take_patch
from patchkiln.pipeline.step import Step
from patchkiln.pipeline.steps import STEPS
from patchkiln.pipeline.summary import failure, summary, trouble

WRAP_UP_TIMEOUT_S = 4.0

Tell: TypeAlias = Callable[[StatusUpdate], Awaitable[None]]


class Cancelled(PatchkilnError):
    """The caller cancelled the run."""

    code = "cancelled"
    default_remedy = "Start the run again if it is still wanted."


async def run_steps(context: RunContext, tell: Tell) -> None:
    """Run every step in its order; stop early where an outcome is reached without a patch.

    What the sandboxes were not allowed to reach is told meanwhile.
    """
    telling = asyncio.create_task(_tell_refusals(context, tell))
    try:
        await _run_steps(context, tell)
    finally:
        context.refusals.put_nowait(None)
        await telling


async def _run_steps(context: RunContext, tell: Tell) -> None:
    for step in STEPS:
        await _run_step(step, context, tell)
        if context.outcome is not None and context.patch is None:
            return


async def conclude(context: RunContext, tell: Tell, error: PatchkilnError | None) -> None:
    """Tell what went wrong, keep what was done so far, and write the summary."""
    outcome = context.outcome or Outcome.NO_CHANGE
    if error is not None:
        outcome = _outcome(error)
        await tell(_told(error, outcome))
        await _wrap_up(context, tell)
    await tell(summary(context, outcome))


async def _run_step(step: Step, context: RunContext, tell: Tell) -> None:
    started_at_s = time.monotonic()
    await tell(StatusUpdate(event="step.started", message=f"Step {step.name}", step=step.name))
    async with aclosing(step.run(context)) as updates:
        async for update in updates:
            await tell(replace(update, step=step.name))
    duration_ms = int((time.monotonic() - started_at_s) * 1000)
    await tell(
        StatusUpdate(
            event="step.completed",
            message=f"Step {step.name} completed in {duration_ms} ms",
            type=EventType.SUCCESS,
            step=step.name,
            progress=step.progress,
            data={"duration_ms": duration_ms},
        )
    )


async def _tell_refusals(context: RunContext, tell: Tell) -> None:
    while refusal := await context.refusals.get():
        await tell(
            StatusUpdate(
                event=NETWORK_REFUSED,
                message=f"Not reached: {refusal.host}, port {refusal.port}: {refusal.rule}",
                type=EventType.WARNING,
                data={"host": refusal.host, "port": refusal.port, "rule": refusal.rule},
            )
        )


def _outcome(error: PatchkilnError) -> Outcome:
    if isinstance(error, Cancelled):
        return Outcome.CANCELLED
    if isinstance(error, BudgetExhausted):
        return Outcome.BUDGET_EXHAUSTED
    if isinstance(error, InvalidRequest | SandboxUnavailable):
        return Outcome.REFUSED
    return Outcome.FAILED


def _told(error: PatchkilnError, outcome: Outcome) -> StatusUpdate:
    events = {
        Outcome.CANCELLED: (RUN_CANCELLED, EventType.WARNING),
        Outcome.BUDGET_EXHAUSTED: (RUN_BUDGET_EXHAUSTED, EventType.WARNING),
        Outcome.REFUSED: (RUN_REFUSED, EventType.ERROR),
    }
    if outcome not in events:
        return failure(error)
    event, type_ = events[outcome]
    return trouble(
        event,
        error.message,
        code=error.code,
        retryable=error.retryable,
        remedy=error.remedy,
        type_=type_,
    )


async def _wrap_up(context: RunContext, tell: Tell) -> None:
    """Keep the agent's unfinished work as the patch; a sandbox that is gone has none."""
    if context.sandbox is None or context.plan is None or context.patch is not None:
        return
    try:
        async with asyncio.timeout(WRAP_UP_TIMEOUT_S), aclosing(take_patch(context)) as updates:
            async for update in updates:
                await tell(update)
    except (PatchkilnError, TimeoutError):
        await tell(
            StatusUpdate(
                event="patch.lost",
                message="What was done so far could not be kept as a patch",
                type=EventType.WARNING,
            )
        )
