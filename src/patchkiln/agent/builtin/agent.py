"""The agent itself: the port's two methods over one conversation each."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing

from pydantic_ai import Agent, ModelSettings
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models import Model
from pydantic_ai_harness.compaction import ClampOversizedMessages, ClearToolResults

from patchkiln.agent.builtin.checkpoints import Checkpoints, remembered
from patchkiln.agent.builtin.clipping import clip
from patchkiln.agent.builtin.conversation import Conversation, Finished, Retries
from patchkiln.agent.builtin.meter import Meter
from patchkiln.agent.builtin.narration import Narrator
from patchkiln.agent.builtin.planning import read_plan
from patchkiln.agent.builtin.prompts import (
    IMPLEMENTING,
    PLANNING,
    implementing_prompt,
    planning_prompt,
)
from patchkiln.agent.builtin.redaction import Redactor
from patchkiln.agent.builtin.toolset import BoundedArguments, toolset
from patchkiln.agent.builtin.workbench import Workbench
from patchkiln.agent.builtin.workspace import SandboxWorkspace
from patchkiln.domain.plan import Plan, Refusal
from patchkiln.domain.run import Outcome
from patchkiln.domain.usage import Usage
from patchkiln.errors import AgentError, BudgetExhausted, InvalidRequest, ModelNotConfigured
from patchkiln.ports.agent import AgentResult, AgentUpdate, Task
from patchkiln.ports.sandbox import Sandbox

MAX_SUMMARY_CHARS = 4000
DEFAULT_IDLE_TIMEOUT_S = 180.0
TOOL_RETRIES = 5
OUTPUT_RETRIES = 3
# Old results are blanked before the model's window is full, and a runaway answer is not sent back.
CONTEXT_SHARE = 0.7
MAX_ANSWER_PART_CHARS = 100_000


class BuiltinAgent:
    """A tool-calling loop. It runs here, outside the sandbox; its tools act inside of it alone."""

    def __init__(
        self,
        model_for: Callable[[str | None], Model],
        *,
        secrets: Iterable[str] = (),
        retries: Retries | None = None,
        idle_timeout_s: float = DEFAULT_IDLE_TIMEOUT_S,
    ) -> None:
        """Take what makes a model of a name, None for the server's own.

        ``model_for`` raises `ModelNotConfigured` and `InvalidRequest`. No text that comes from a
        model's server is told with one of the ``secrets`` in it.``idle_timeout_s`` is how
        long a model may send nothing before its answer counts as lost.
        """
        self._model_for = model_for
        self._redactor = Redactor(secrets)
        self._retries = retries or Retries()
        self._idle_timeout_s = idle_timeout_s

    @property
    def name(self) -> str:
        """Return ``builtin``."""
        return "builtin"

    async def plan(self, task: Task, sandbox: Sandbox) -> Plan:
        """Ask the model once, without tools. Without a model the plan is a refusal."""
        try:
            model = await self._model(task)
        except (ModelNotConfigured, InvalidRequest) as error:
            return _refused(error.code, error.message, error.remedy)
        bench, meter = Workbench(sandbox=sandbox), Meter(limits=task.limits)
        agent = self._agent(model, PLANNING, meter)
        finished = await self._talk(agent, bench, meter).answer(planning_prompt(task))
        if finished.refused:
            remedy = "Reword the prompt, or choose another model."
            return _refused("model_refused", finished.text, remedy, meter.usage)
        return read_plan(finished.text, meter.usage)

    async def implement(
        self, task: Task, plan: Plan, sandbox: Sandbox
    ) -> AsyncGenerator[AgentUpdate | AgentResult]:
        """Let the model work until it is done, a limit is reached or it fails for good."""
        known, bench = remembered(task.memory), Workbench(sandbox=sandbox)
        meter = Meter(limits=task.limits, spent=known.spent or plan.usage)
        if known.answer is not None:
            yield _result(Finished(text=self._redactor.text(known.answer)), meter)
            return
        keeping = [] if task.memory is None else [Checkpoints(task.memory, meter)]
        agent = self._agent(await self._model(task), IMPLEMENTING, meter, *keeping, tools=True)
        narrator = Narrator(bench.notes, meter, redactor=self._redactor)
        talk = self._talk(agent, bench, meter, known.messages)
        work = talk.run(implementing_prompt(task, plan))
        try:
            async with aclosing(work) as items:
                async for item in items:
                    for update in narrator.updates(item):
                        yield update
                    if isinstance(item, Finished):
                        yield _result(item, meter)
        except AgentError as error:
            for update in narrator.rest():
                yield update
            if not isinstance(error, BudgetExhausted):
                raise
            yield AgentResult(
                outcome=Outcome.BUDGET_EXHAUSTED, message=error.message, usage=meter.total
            )

    async def _model(self, task: Task) -> Model:
        # A client loads its certificates when it is made, 80 ms in which no stream would move.
        return await asyncio.to_thread(self._model_for, task.model)

    def _agent(
        self,
        model: Model,
        instructions: str,
        meter: Meter,
        *keeping: Checkpoints,
        tools: bool = False,
    ) -> Agent[Workbench, str]:
        return Agent(
            model,
            name="patchkiln",
            deps_type=Workbench,
            instructions=instructions,
            retries={"tools": TOOL_RETRIES, "output": OUTPUT_RETRIES},
            model_settings=ModelSettings(timeout=self._idle_timeout_s, cache=True),
            toolsets=[toolset()] if tools else [],
            capabilities=[
                BoundedArguments(),
                ClampOversizedMessages[Workbench](max_part_chars=MAX_ANSWER_PART_CHARS),
                ClearToolResults[Workbench](max_fraction=CONTEXT_SHARE),
                # Answers pass from the last to the first: what is kept has been counted.
                *keeping,
                meter,
            ],
        )

    def _talk(
        self,
        agent: Agent[Workbench, str],
        bench: Workbench,
        meter: Meter,
        history: Sequence[ModelMessage] = (),
    ) -> Conversation:
        return Conversation(
            agent,
            bench=bench,
            workspace=SandboxWorkspace(bench.sandbox),
            meter=meter,
            retries=self._retries,
            redactor=self._redactor,
            history=history,
        )


def _result(item: Finished, meter: Meter) -> AgentResult:
    return AgentResult(
        outcome=Outcome.REFUSED if item.refused else Outcome.CHANGED,
        message=clip(item.text, MAX_SUMMARY_CHARS),
        usage=meter.total,
    )


def _refused(code: str, reason: str, remedy: str, usage: Usage | None = None) -> Plan:
    return Plan(
        intent="Nothing will be changed",
        refusal=Refusal(code=code, reason=reason, remedy=remedy),
        usage=usage or Usage(),
    )
