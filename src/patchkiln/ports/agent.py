"""Who plans and makes the change."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

from patchkiln.domain.check import CheckResult
from patchkiln.domain.event import EventType, JsonObject, JsonValue
from patchkiln.domain.plan import Plan
from patchkiln.domain.project import Project
from patchkiln.domain.run import Outcome
from patchkiln.domain.usage import Limits, Usage
from patchkiln.ports.sandbox import Sandbox


class Memory(Protocol):
    """What an agent keeps of its work, so that it can go on in another process.

    With a ``state`` an earlier process has kept it, and the workspace is as it was then: the agent
    goes on from there. Agents that begin anew every time need none.
    """

    @property
    def state(self) -> bytes | None:
        """Return what was kept last in an earlier process, None where there is nothing."""
        ...

    async def keep(self, state: bytes, *, changed: bool) -> None:
        """Keep a state together with the workspace as it is now.

        ``changed``: the workspace may have changed since the last time. Call it while no tool is
        under way. What is too large is not kept, and what was kept before stays.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What an agent is given: the prompt and what is known of the repository.

    ``baseline`` are the checks on the untouched base. ``model`` is ``provider:name``, None for the
    server's own. ``memory`` is for `Agent.implement`.
    """

    prompt: str
    repository: str
    project: Project
    limits: Limits
    model: str | None = None
    baseline: tuple[CheckResult, ...] = ()
    memory: Memory | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentUpdate:
    """Something the agent did: a message, a tool call, an edit, a command, a rule applied.

    A ``usage`` in ``data`` is `Usage.as_json` of planning and all that was done so far.
    """

    event: str
    message: str
    type: EventType = EventType.INFO
    data: JsonObject = field(default_factory=dict[str, JsonValue])


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentResult:
    """How the agent ended. ``outcome`` is CHANGED, REFUSED or BUDGET_EXHAUSTED.

    CHANGED says that the agent finished; whether anything did change, the patch tells. ``usage``
    counts planning too.
    """

    outcome: Outcome
    message: str
    usage: Usage = field(default_factory=Usage)


class Agent(Protocol):
    """Plans and makes a change in a sandbox. Runs outside of it, its tools act inside."""

    @property
    def name(self) -> str:
        """Return the name that requests use: ``builtin``, ``recipes``."""
        ...

    async def plan(self, task: Task, sandbox: Sandbox) -> Plan:
        """Return what would be done, changing nothing.

        A plan with a ``refusal`` ends the run as refused. Raises `AgentError` and its kin.
        """
        ...

    def implement(
        self, task: Task, plan: Plan, sandbox: Sandbox
    ) -> AsyncGenerator[AgentUpdate | AgentResult]:
        """Yield what is done while doing it, and an `AgentResult` as the last item.

        Raises `AgentError` and its kin, `ModelError` (retryable) among them. A limit that is
        reached is a result with BUDGET_EXHAUSTED, not an error.
        """
        ...
