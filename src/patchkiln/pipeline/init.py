"""Step 1: choose the sandbox and tell how far it isolates."""

from collections.abc import AsyncGenerator

from patchkiln.domain.event import StatusUpdate
from patchkiln.domain.run import SANDBOX_CHOSEN
from patchkiln.errors import InvalidRequest, SandboxUnavailable
from patchkiln.pipeline.context import RunContext
from patchkiln.ports.sandbox import IsolationLevel


async def run(context: RunContext) -> AsyncGenerator[StatusUpdate]:
    """Yield ``sandbox.chosen``. Raises `SandboxUnavailable` where this machine cannot isolate."""
    name = context.run.request.sandbox
    provider = context.services.sandboxes.get(name)
    if provider is None:
        raise InvalidRequest(f"This server has no sandbox provider '{name}'.", field="sandbox")
    isolation = await provider.isolation()
    if isolation.level is IsolationLevel.NONE:
        raise SandboxUnavailable(isolation.reason, remedy=isolation.remedy)
    context.provider = provider
    yield StatusUpdate(
        event=SANDBOX_CHOSEN,
        message=f"Sandbox {context.sandbox_id}: {name}, isolation level {isolation.level.value}",
        progress=5,
        data={
            "sandbox_id": context.sandbox_id,
            "provider": name,
            "level": isolation.level.value,
            "reason": isolation.reason,
        },
    )
