"""Step 6: have the agent make the change, and take the patch in a clean room."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace

from patchkiln.domain.event import EventType, JsonObject, StatusUpdate
from patchkiln.domain.patch import ChangeKind, FileChange, Patch, printable
from patchkiln.domain.run import PATCH_MADE, RUN_BUDGET_EXHAUSTED, RUN_REFUSED, Outcome
from patchkiln.domain.usage import Usage
from patchkiln.domain.wording import counted
from patchkiln.pipeline.context import RunContext, require
from patchkiln.pipeline.memory import RunMemory
from patchkiln.pipeline.record import Found
from patchkiln.pipeline.summary import trouble
from patchkiln.ports.agent import AgentResult, AgentUpdate
from patchkiln.ports.sandbox import Sandbox

MAX_LISTED_FILES = 200


async def run(context: RunContext) -> AsyncGenerator[StatusUpdate]:
    """Yield what the agent does, and ``patch.made``."""
    agent, sandbox = await context.choose_agent(), await context.workspace()
    task = replace(context.task, memory=_memory(context, sandbox))
    work = agent.implement(task, require(context.plan), sandbox)
    with context.waiting("the agent"):
        async with aclosing(work) as items:
            async for item in items:
                if isinstance(item, AgentUpdate):
                    yield _told(context, item)
                else:
                    yield _ended(context, item)
    with context.waiting("the patch"):
        async for update in take_patch(context):
            yield update


async def take_patch(context: RunContext) -> AsyncGenerator[StatusUpdate]:
    """Keep what the sandbox holds as the run's patch, and yield ``patch.made``.

    Also the wrap-up of a run that was cancelled, failed or ran out of its budget.
    """
    patch = await (await context.workspace()).diff()
    run, store = context.run, context.services.store
    await store.save_patch(run.id, patch.diff, epoch=run.epoch)
    context.patch, context.patch_kept = patch, True
    for note in patch.notes:
        yield StatusUpdate(event="patch.noted", message=note, type=EventType.WARNING)
    yield _patch_made(run.id, patch)


def _memory(context: RunContext, sandbox: Sandbox) -> RunMemory:
    return RunMemory(
        run=context.run,
        store=context.services.store,
        sandbox=sandbox,
        commit=require(context.commit),
        kept=context.kept,
    )


def _told(context: RunContext, update: AgentUpdate) -> StatusUpdate:
    context.waiting_for = _busy_with(update)
    usage = update.data.get("usage")
    if isinstance(usage, Mapping):
        context.usage = Usage.from_json(usage)
    return StatusUpdate(
        event=update.event, message=update.message, type=update.type, data=update.data
    )


def _busy_with(update: AgentUpdate) -> str:
    tool = update.data.get("tool")
    return f"the tool {tool}" if update.event == "agent.tool_called" and tool else "the agent"


def _ended(context: RunContext, result: AgentResult) -> StatusUpdate:
    context.usage = result.usage
    context.agent_message = result.message
    usage = context.usage.as_json()
    if result.outcome is Outcome.CHANGED:
        return StatusUpdate(
            event="agent.finished", message=result.message, progress=85, data={"usage": usage}
        )
    context.outcome = result.outcome
    event = RUN_REFUSED if result.outcome is Outcome.REFUSED else RUN_BUDGET_EXHAUSTED
    return trouble(
        event,
        result.message,
        code=result.outcome.value,
        retryable=False,
        remedy="Narrow the prompt, or raise the run's limits.",
        type_=EventType.WARNING,
        details={"usage": usage},
    )


def _patch_made(run_id: str, patch: Patch) -> StatusUpdate:
    added = sum(change.added or 0 for change in patch.changes)
    removed = sum(change.removed or 0 for change in patch.changes)
    names = ", ".join(printable(change.path) for change in patch.changes[:3])
    more = f" and {len(patch.changes) - 3} more" if len(patch.changes) > 3 else ""  # noqa: PLR2004 - as many as are named
    message = (
        f"Patch made: {counted(len(patch.changes), 'file')}, +{added} -{removed} ({names}{more})"
        if patch.changes
        else "Nothing was changed"
    )
    return StatusUpdate(
        event=PATCH_MADE,
        message=message,
        type=EventType.INFO if patch.empty else EventType.SUCCESS,
        progress=88,
        data={
            "files_modified": len(patch.changes),
            "lines_added": added,
            "lines_removed": removed,
            "size_bytes": len(patch.diff),
            "files": [change.as_json() for change in patch.changes[:MAX_LISTED_FILES]],
            "patch": f"/runs/{run_id}/patch",
        },
        key=PATCH_MADE,
    )


def found(context: RunContext) -> JsonObject:
    """Return what the patch changes; the patch itself is in the store."""
    return {"changes": [change.as_json() for change in require(context.patch).changes]}


async def restore(context: RunContext, found: Found) -> None:
    """Put back what `found` returned, and the patch."""
    diff = await context.services.store.get_patch(context.run.id)
    changes = tuple(_change_of(change) for change in found["changes"])
    context.patch, context.patch_kept = Patch(diff=diff or b"", changes=changes), True


def _change_of(data: Found) -> FileChange:
    return FileChange(
        path=data["path"],
        kind=ChangeKind(data["kind"]),
        added=data["added"],
        removed=data["removed"],
        old_path=data["old_path"],
    )
