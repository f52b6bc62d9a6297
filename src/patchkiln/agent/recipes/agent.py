"""The agent itself: the port's two methods over a survey of the repository."""

from collections import OrderedDict
from collections.abc import AsyncGenerator

from patchkiln.agent.recipes import telling
from patchkiln.agent.recipes.registry import recognise
from patchkiln.agent.recipes.survey import (
    MAX_FILE_BYTES,
    FileEdit,
    LeftAlone,
    Survey,
    Surveyor,
    digest,
)
from patchkiln.domain.plan import Plan
from patchkiln.domain.run import Outcome
from patchkiln.errors import SandboxFileError
from patchkiln.ports.agent import AgentResult, AgentUpdate, Task
from patchkiln.ports.sandbox import Sandbox

MAX_KEPT_SURVEYS = 16
MAX_KEPT_BYTES = 4 << 20


class RecipesAgent:
    """Deterministic rewrites for the prompts that its recipes know; no model."""

    def __init__(self) -> None:
        """Start with nothing kept."""
        self._surveys = _KeptSurveys()

    @property
    def name(self) -> str:
        """Return ``recipes``."""
        return "recipes"

    async def plan(self, task: Task, sandbox: Sandbox) -> Plan:
        """Work out every edit and tell it, changing nothing.

        A prompt that no recipe knows, a file that is not there and a repository without Python
        are refusals.
        """
        known = recognise(task.prompt)
        if known is None:
            return telling.refused(telling.prompt_not_recognised())
        recipe, request = known
        survey = await Surveyor(recipe, task.project, sandbox).survey(request)
        refusal = telling.nowhere_to_look(task.project, request, survey)
        if refusal is not None:
            return telling.refused(refusal)
        self._surveys.keep(sandbox.id, survey)
        return telling.plan_of(recipe, survey)

    async def implement(
        self, task: Task, plan: Plan, sandbox: Sandbox
    ) -> AsyncGenerator[AgentUpdate | AgentResult]:
        """Write what the plan told; a file that has changed since is worked out anew."""
        known = recognise(task.prompt)
        if plan.refusal is not None or known is None:
            refusal = plan.refusal or telling.prompt_not_recognised()
            yield AgentResult(outcome=Outcome.REFUSED, message=refusal.reason)
            return
        recipe, request = known
        surveyor = Surveyor(recipe, task.project, sandbox)
        survey = self._surveys.take(sandbox.id) or await surveyor.survey(request)
        for update in telling.caveats(survey):
            yield update
        done: list[FileEdit] = []
        for planned in survey.edits:
            item = await _current(surveyor, planned, sandbox)
            if isinstance(item, FileEdit):
                await sandbox.write(item.path, item.after)
                done.append(item)
                yield telling.edited(item)
            elif item is not None:
                yield telling.skipped(item)
        yield AgentResult(outcome=Outcome.CHANGED, message=telling.last_word(survey, done))


async def _current(
    surveyor: Surveyor, planned: FileEdit, sandbox: Sandbox
) -> FileEdit | LeftAlone | None:
    """Return a planned edit where the file is still as it was, else what holds of it now."""
    try:
        data = await sandbox.read(planned.path, max_bytes=MAX_FILE_BYTES)
    except SandboxFileError:
        return LeftAlone(path=planned.path, reason="it can no longer be read")
    if digest(data) == planned.before:
        return planned
    (item,) = await surveyor.edits([planned.path])
    return item


class _KeptSurveys:
    """Surveys between a plan and its implementation, few and small; the others are made again."""

    def __init__(self) -> None:
        self._by_sandbox: OrderedDict[str, Survey] = OrderedDict()

    def keep(self, sandbox_id: str, survey: Survey) -> None:
        self._by_sandbox.pop(sandbox_id, None)
        if survey.size_bytes <= MAX_KEPT_BYTES:
            self._by_sandbox[sandbox_id] = survey
        while len(self._by_sandbox) > MAX_KEPT_SURVEYS:
            self._by_sandbox.popitem(last=False)

    def take(self, sandbox_id: str) -> Survey | None:
        return self._by_sandbox.pop(sandbox_id, None)
