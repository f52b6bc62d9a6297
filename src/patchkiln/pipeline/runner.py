"""Carries out one step of a run, and brings a run to its end whatever happens."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import TypeAlias

from patchkiln.domain.event import EventType, StatusUpdate
from patchkiln.domain.run import (
    RUN_BUDGET_EXHAUSTED,
    RUN_CANCELLED,
    RUN_REFUSED,
    STEP_COMPLETED,
    Outcome,
)
from patchkiln.errors import BudgetExhausted, InvalidRequest, PatchkilnError, SandboxUnavailable
from patchkiln.pipeline.context import RunContext
from patchkiln.pipeline.implementation import take_patch
from patchkiln.pipeline.memory import kept_of
from patchkiln.pipeline.record import Ending, StepRecord
from patchkiln.pipeline.step import Step
from patchkiln.pipeline.steps import STEPS
from patchkiln.pipeline.summary import failure, summary, trouble

WRAP_UP_TIMEOUT_S = 4.0

Tell: TypeAlias = Callable[[StatusUpdate], Awaitable[None]]


class Cancelled(PatchkilnError):
    """The caller cancelled the run."""

    code = "cancelled"
    default_remedy = "Start the run again if it is still wanted."


def steps() -> tuple[Step, ...]:
    """Return the steps of every run, in their order."""
    return STEPS


async def perform(step: Step, context: RunContext, tell: Tell) -> StepRecord:
    """Run a step, tell what it yields but its milestones, and return its record.

    Raises the `PatchkilnError` with which the step ends the run.
    """
    started_at_s = time.monotonic()
    milestones: list[StatusUpdate] = []
    with context.waiting(f"the step {step.name}"):
        async with aclosing(step.run(context)) as updates:
            async for update in updates:
                placed = replace(update, step=step.name)
                if placed.key is None:
                    await tell(placed)
                else:
                    milestones.append(placed)
    return StepRecord(
        duration_ms=int((time.monotonic() - started_at_s) * 1000),
        found=step.found(context),
        milestones=tuple(milestones),
        outcome=context.outcome,
        agent_message=context.agent_message,
        usage=context.usage,
    )


async def restore(step: Step, context: RunContext, record: StepRecord) -> None:
    """Put back into the context what a step left there in a process that is gone."""
    context.outcome = record.outcome
    context.agent_message = record.agent_message
    context.usage = record.usage
    if record.ending is None:
        await step.restore(context, record.found)


async def complete(step: Step, record: StepRecord, tell: Tell) -> None:
    """Tell the milestones of a step whose record is kept, and its end. May be repeated."""
    for update in record.milestones:
        await tell(update)
    await tell(
        StatusUpdate(
            event=STEP_COMPLETED,
            message=f"Step {step.name} completed in {record.duration_ms} ms",
            type=EventType.SUCCESS,
            step=step.name,
            progress=step.progress,
            data={"duration_ms": record.duration_ms},
            key=f"{STEP_COMPLETED}:{step.name}",
        )
    )


@asynccontextmanager
async def asides_told(context: RunContext, tell: Tell) -> AsyncGenerator[None]:
    """Tell meanwhile what no step yields, such as what the sandboxes may not reach."""
    telling = asyncio.create_task(_tell_asides(context, tell))
    try:
        yield
    finally:
        context.asides.put_nowait(None)
        await telling


async def conclude(context: RunContext, tell: Tell, ending: Ending | None) -> None:
    """Tell what went wrong, keep what was done so far, and write the summary. May be repeated."""
    outcome = context.outcome or Outcome.NO_CHANGE
    if ending is not None:
        outcome = ending.outcome
        await tell(replace(ending.told, key=ending.told.event))
        await _wrap_up(context, tell)
    if not context.patch_kept:
        context.patch_kept = await context.services.store.get_patch(context.run.id) is not None
    await tell(summary(context, outcome))


def ending_of(error: PatchkilnError) -> Ending:
    """Return how an error ends a run."""
    outcome = _outcome(error)
    return Ending(outcome=outcome, told=_told(error, outcome))


async def _tell_asides(context: RunContext, tell: Tell) -> None:
    while (update := await context.asides.get()) is not None:
        await tell(update)


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
    """Keep the agent's unfinished work as the patch; where nothing is left of it, there is none."""
    if context.plan is None or context.patch is not None:
        return
    try:
        async with asyncio.timeout(WRAP_UP_TIMEOUT_S):
            if context.sandbox is None and not await _work_is_kept(context):
                return
            async with aclosing(take_patch(context)) as updates:
                async for update in updates:
                    await tell(update)
    except (PatchkilnError, TimeoutError):
        await tell(
            StatusUpdate(
                event="patch.lost",
                message="What was done so far could not be kept as a patch",
                type=EventType.WARNING,
                key="patch.lost",
            )
        )


async def _work_is_kept(context: RunContext) -> bool:
    store, run_id = context.services.store, context.run.id
    already = await store.get_patch(run_id) is not None
    return not already and await kept_of(context.run, store) is not None
