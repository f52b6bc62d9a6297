"""An agent whose work is a function of the test; everything around it is real."""

from collections.abc import AsyncGenerator, Callable

from patchkiln.domain.plan import Plan
from patchkiln.domain.run import Outcome
from patchkiln.ports.agent import AgentResult, AgentUpdate, Task
from patchkiln.ports.sandbox import Sandbox

Work = Callable[[Sandbox], AsyncGenerator[AgentUpdate | AgentResult]]

DONE = AgentResult(outcome=Outcome.CHANGED, message="Done.")


async def write_hello(sandbox: Sandbox) -> AsyncGenerator[AgentUpdate | AgentResult]:
    """Write one new file and finish."""
    await sandbox.write("hello.txt", b"hello\n")
    yield AgentUpdate(event="agent.file_edited", message="Wrote hello.txt")
    yield DONE


class ScriptedAgent:
    """Implements the `Agent` port: plans at once, then does the given work."""

    name = "scripted"

    def __init__(self, work: Work = write_hello, plan: Plan | None = None) -> None:
        """Take the work, and a plan where the test needs another."""
        self._work = work
        self._plan = plan or Plan(intent="Do what the test says")

    async def plan(self, task: Task, sandbox: Sandbox) -> Plan:
        """Return the plan."""
        return self._plan

    def implement(
        self, task: Task, plan: Plan, sandbox: Sandbox
    ) -> AsyncGenerator[AgentUpdate | AgentResult]:
        """Do the work."""
        return self._work(sandbox)
