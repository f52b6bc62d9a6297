"""Step 5: have the agent say what it would do."""

from collections.abc import AsyncGenerator

from patchkiln.domain.event import JsonObject, StatusUpdate
from patchkiln.domain.plan import Plan, Refusal
from patchkiln.domain.run import RUN_REFUSED, Outcome
from patchkiln.domain.usage import Usage
from patchkiln.pipeline.context import RunContext, require
from patchkiln.pipeline.record import Found
from patchkiln.pipeline.summary import trouble


async def run(context: RunContext) -> AsyncGenerator[StatusUpdate]:
    """Yield ``plan.made``, and ``run.refused`` where the agent will not start."""
    agent = await context.choose_agent()
    sandbox = await context.workspace()
    with context.waiting("the agent's plan"):
        plan = await agent.plan(context.task, sandbox)
    context.plan = plan
    context.usage = plan.usage
    yield StatusUpdate(
        event="plan.made",
        message=plan.intent,
        progress=68,
        data={**plan.as_json(), "agent": agent.name, "usage": context.usage.as_json()},
    )
    if plan.refusal is not None:
        context.outcome = Outcome.REFUSED
        context.agent_message = plan.refusal.reason
        yield _refused(plan.refusal)


def _refused(refusal: Refusal) -> StatusUpdate:
    return trouble(
        RUN_REFUSED, refusal.reason, code=refusal.code, retryable=False, remedy=refusal.remedy
    )


def found(context: RunContext) -> JsonObject:
    """Return the plan."""
    plan = require(context.plan)
    refusal = plan.refusal
    return {
        "intent": plan.intent,
        "steps": plan.steps,
        "files": plan.files,
        "risks": plan.risks,
        "refusal": None
        if refusal is None
        else {"code": refusal.code, "reason": refusal.reason, "remedy": refusal.remedy},
        "usage": plan.usage.as_json(),
    }


async def restore(context: RunContext, found: Found) -> None:
    """Put back what `found` returned."""
    refusal = found["refusal"]
    context.plan = Plan(
        intent=found["intent"],
        steps=tuple(found["steps"]),
        files=tuple(found["files"]),
        risks=tuple(found["risks"]),
        refusal=None if refusal is None else Refusal(**refusal),
        usage=Usage.from_json(found["usage"]),
    )
