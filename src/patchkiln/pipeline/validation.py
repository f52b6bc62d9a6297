"""Step 2: hold the request against the server's policy once more, and find its agent."""

from collections.abc import AsyncGenerator

from patchkiln.domain.event import StatusUpdate
from patchkiln.domain.repository import check_ref, parse_repository_url
from patchkiln.pipeline.context import RunContext


async def run(context: RunContext) -> AsyncGenerator[StatusUpdate]:
    """Yield ``request.validated``. Raises `InvalidRequest` and `ForbiddenUrl`."""
    request = context.run.request
    parse_repository_url(request.repo_url, allow=context.services.git_allow)
    if request.ref is not None:
        check_ref(request.ref)
    agent = await context.choose_agent()
    yield StatusUpdate(
        event="request.validated",
        message=f"Request accepted: {request.repository} with the agent {agent.name}",
        progress=15,
        data={
            "repository": request.repository,
            "ref": request.ref,
            "agent": agent.name,
            "model": request.model,
            "limits": request.limits.as_json(),
        },
    )
