"""Step 5: have the agent say what it would do."""

from collections.abc import AsyncGenerator

from patchkiln.domain.event import StatusUpdate
from patchkiln.domain.plan import Refusal
from patchkiln.domain.run import RUN_REFUSED, Outcome
from patchkiln.pipeline.context import RunContext, require
from patchkiln.pipeline.summary import trouble


async def run(context: RunContext) -> AsyncGenerator[StatusUpdate]:
    """Yield ``plan.made``, and ``run.refused`` where the agent will not start."""
    agent = require(context.agent)
    plan = await agent.plan(context.task, require(context.sandbox))
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
