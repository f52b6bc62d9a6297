"""Step 1: choose the sandbox and tell how far it isolates."""

from collections.abc import AsyncGenerator

from patchkiln.domain.event import JsonObject, StatusUpdate
from patchkiln.domain.run import SANDBOX_CHOSEN
from patchkiln.errors import SandboxUnavailable
from patchkiln.pipeline.context import RunContext
from patchkiln.pipeline.record import Found
from patchkiln.ports.sandbox import IsolationLevel


async def run(context: RunContext) -> AsyncGenerator[StatusUpdate]:
    """Yield ``sandbox.chosen``. Raises `SandboxUnavailable` where this machine cannot isolate."""
    provider = context.provider
    isolation = await provider.isolation()
    if isolation.level is IsolationLevel.NONE:
        raise SandboxUnavailable(isolation.reason, remedy=isolation.remedy)
    yield StatusUpdate(
        event=SANDBOX_CHOSEN,
        message=f"Sandbox {context.sandbox_id}: {provider.name}, "
        f"isolation level {isolation.level.value}",
        progress=5,
        data={
            "sandbox_id": context.sandbox_id,
            "provider": provider.name,
            "level": isolation.level.value,
            "reason": isolation.reason,
        },
    )


def found(context: RunContext) -> JsonObject:
    """Return the sandbox's id, which the summary names."""
    return {"sandbox_id": context.sandbox_id}


async def restore(context: RunContext, found: Found) -> None:
    """Put back what `found` returned."""
    context.sandbox_id = context.run.sandbox_id or found["sandbox_id"]
    context.sandbox_lost = True
