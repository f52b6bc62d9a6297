"""The page that shows how to add a step is true."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

from patchkiln.domain.event import StatusUpdate
from patchkiln.domain.project import Project
from patchkiln.domain.run import Run
from patchkiln.pipeline import runner
from patchkiln.pipeline.context import RunContext, Services
from patchkiln.pipeline.record import StepRecord
from patchkiln.pipeline.step import Step
from patchkiln.stores.memory import MemoryStore
from tests.support.clones import git_source, local_sandboxes
from tests.support.runs import REQUEST

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to-add-a-step.md"


async def test_the_step_of_the_page_runs(tmp_path: Path) -> None:
    """Its code, as printed, is told with its event, its end and its progress."""
    code, listed = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    licence = ModuleType("licence")
    exec(code, licence.__dict__)  # noqa: S102 - the page is ours
    steps: dict[str, Any] = {"Step": Step, "licence": licence}
    exec(listed, steps)  # noqa: S102 - as above
    step: Step = steps["STEPS"][1]
    told: list[StatusUpdate] = []

    async def tell(update: StatusUpdate) -> None:
        told.append(update)

    async with local_sandboxes(tmp_path) as provider:
        services = Services(
            store=MemoryStore(),
            repositories=git_source(provider, tmp_path),
            sandboxes={"local": provider},
            agents={},
        )
        project = Project(paths=("LICENSE", "app.py"))
        context = RunContext(run=Run.new(REQUEST), services=services, project=project)
        record = await runner.perform(step, context, tell)
        await runner.complete(step, StepRecord.read(record.text()), tell)
    assert [update.event for update in told] == ["licence.found", "step.completed"]
    assert told[0].message == "Licence: LICENSE"
    assert {update.step for update in told} == {"licence"}
    assert told[-1].progress == 62
