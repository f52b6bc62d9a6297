"""The steps of every run, in their order. To add one, write its module and list it here.

A run that is under way when the server is replaced goes on by this list: a change of it, or of what
a step keeps, needs a new `WORKFLOW_VERSION`.
"""

from patchkiln.pipeline import (
    analysis,
    clone,
    complete,
    implementation,
    init,
    planning,
    validation,
)
from patchkiln.pipeline.step import Step

WORKFLOW_VERSION = "wf1"

STEPS: tuple[Step, ...] = (
    Step(name="init", run=init.run, progress=10, found=init.found, restore=init.restore),
    Step(name="validation", run=validation.run, progress=20),
    Step(name="clone", run=clone.run, progress=50, found=clone.found, restore=clone.restore),
    Step(
        name="analysis",
        run=analysis.run,
        progress=60,
        found=analysis.found,
        restore=analysis.restore,
    ),
    Step(
        name="planning",
        run=planning.run,
        progress=70,
        found=planning.found,
        restore=planning.restore,
    ),
    Step(
        name="implementation",
        run=implementation.run,
        progress=90,
        found=implementation.found,
        restore=implementation.restore,
    ),
    Step(
        name="complete",
        run=complete.run,
        progress=100,
        found=complete.found,
        restore=complete.restore,
    ),
)
