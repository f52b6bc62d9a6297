"""Step 3: bring the repository in and put a sandbox on it."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from patchkiln.domain.event import EventType, JsonObject, StatusUpdate
from patchkiln.domain.repository import Checkout
from patchkiln.domain.run import REPOSITORY_CLONED
from patchkiln.pipeline.context import RunContext, require
from patchkiln.pipeline.record import Found

MIB = 1 << 20


async def run(context: RunContext) -> AsyncGenerator[StatusUpdate]:
    """Yield git's progress and ``repository.cloned``. Raises `CloneError` and its kin."""
    request = context.run.request
    source = context.services.repositories
    fetch = source.fetch(context.url, ref=request.ref, depth=request.clone_depth)
    async with aclosing(fetch) as items:
        async for item in items:
            if isinstance(item, Checkout):
                context.checkout = item
            else:
                yield StatusUpdate(
                    event="repository.fetched", message=item.message, progress=30, data=item.data
                )
    checkout = require(context.checkout)
    yield _cloned(checkout)
    for note in checkout.notes:
        yield StatusUpdate(event="repository.noted", message=note, type=EventType.WARNING)
    await context.workspace()


def _cloned(checkout: Checkout) -> StatusUpdate:
    source = "from the cache" if checkout.cached else "newly checked out"
    return StatusUpdate(
        event=REPOSITORY_CLONED,
        message=f"Repository cloned: {checkout.repository}",
        type=EventType.SUCCESS,
        progress=48,
        data={
            "repository": checkout.repository,
            "commit": checkout.commit,
            "branch": checkout.branch,
            "file_count": checkout.file_count,
            "size_bytes": checkout.size_bytes,
            "cached": checkout.cached,
            "text": f"{checkout.commit[:12]} on {checkout.branch}, {checkout.file_count} files, "
            f"{checkout.size_bytes / MIB:.1f} MiB, {source}",
        },
    )


def found(context: RunContext) -> JsonObject:
    """Return the commit: whoever needs its checkout later asks for this very one."""
    return {"commit": require(context.commit)}


async def restore(context: RunContext, found: Found) -> None:
    """Put back what `found` returned."""
    context.base_commit = found["commit"]
