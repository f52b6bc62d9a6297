"""Step 4: see what the repository is made of, and run its own checks on the untouched base."""

from collections.abc import AsyncGenerator

from patchkiln.domain.check import Check, CheckResult
from patchkiln.domain.event import JsonObject, StatusUpdate
from patchkiln.domain.project import Project
from patchkiln.domain.wording import counted
from patchkiln.pipeline.context import RunContext
from patchkiln.pipeline.judging import BASE, judge
from patchkiln.pipeline.keeping import check_json, check_of, result_json, result_of
from patchkiln.pipeline.record import Found
from patchkiln.pipeline.survey import analyse


async def run(context: RunContext) -> AsyncGenerator[StatusUpdate]:
    """Yield ``repository.analysed`` and the checks on the base."""
    context.project = await analyse(await context.workspace())
    context.checks = _chosen_checks(context)
    yield _analysed(context.project, context.checks, off=context.run.request.checks == ())
    if not context.checks:
        return
    results: list[CheckResult] = []
    sandbox = await context.fresh_sandbox()
    try:
        async for item in judge(context, sandbox, BASE):
            if isinstance(item, CheckResult):
                results.append(item)
            else:
                yield item
    finally:
        await sandbox.destroy()
    context.baseline = tuple(results)


def _chosen_checks(context: RunContext) -> tuple[Check, ...]:
    commands = context.run.request.checks
    if commands is None:
        return context.project.checks
    return tuple(Check(command=command, source="request") for command in commands)


def _analysed(project: Project, checks: tuple[Check, ...], *, off: bool) -> StatusUpdate:
    languages = ", ".join(f"{name} {share:.0%}" for name, share in project.languages[:3])
    commands = ", ".join(f"'{check.command}'" for check in checks)
    found = commands or ("switched off" if off else "none found")
    files = counted(project.file_count, "file")
    return StatusUpdate(
        event="repository.analysed",
        message=f"{files} ({languages or 'no known language'}); checks: {found}",
        progress=54,
        data={
            **project.as_json(),
            "checks": [{"command": check.command, "source": check.source} for check in checks],
        },
    )


def found(context: RunContext) -> JsonObject:
    """Return the project, the run's checks and how they ended on the base."""
    project = context.project
    return {
        "languages": [[name, share] for name, share in project.languages],
        "file_count": project.file_count,
        "paths": project.paths,
        "detected": [check_json(check) for check in project.checks],
        "checks": [check_json(check) for check in context.checks],
        "baseline": [result_json(result) for result in context.baseline],
    }


async def restore(context: RunContext, found: Found) -> None:
    """Put back what `found` returned."""
    context.project = Project(
        languages=tuple((name, share) for name, share in found["languages"]),
        file_count=found["file_count"],
        paths=tuple(found["paths"]),
        checks=tuple(check_of(check) for check in found["detected"]),
    )
    context.checks = tuple(check_of(check) for check in found["checks"])
    context.baseline = tuple(result_of(result) for result in found["baseline"])
