"""The steps of every run, in their order. To add one, write its module and list it here."""

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

STEPS: tuple[Step, ...] = (
    Step(name="init", run=init.run, progress=10),
    Step(name="validation", run=validation.run, progress=20),
    Step(name="clone", run=clone.run, progress=50),
    Step(name="analysis", run=analysis.run, progress=60),
    Step(name="planning", run=planning.run, progress=70),
    Step(name="implementation", run=implementation.run, progress=90),
    Step(name="complete", run=complete.run, progress=100),
)
