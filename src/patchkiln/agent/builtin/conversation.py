"""One conversation with a model, from the first request to the last answer.

A request that fails in a way that may pass is made again, from the messages so far, after a pause;
each time is told. Time is limited here, everything else by the `Meter`.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeAlias

from pydantic_ai import Agent, AgentRunResultEvent, UsageLimits
from pydantic_ai.exceptions import (
    AgentRunError,
    ContentFilterError,
    ModelAPIError,
    RunTimedOut,
    UserError,
)
from pydantic_ai.messages import AgentStreamEvent, ModelMessage, ModelResponse
from pydantic_ai.models import Model
from pydantic_ai.workspaces import WorkspaceBackend, WorkspaceUnavailableError

from patchkiln.agent.builtin.failures import model_error, reason, retryable
from patchkiln.agent.builtin.meter import Meter
from patchkiln.agent.builtin.redaction import Redactor
from patchkiln.agent.builtin.workbench import Workbench
from patchkiln.errors import BudgetExhausted, ModelError, SandboxLost

MAX_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often one request is made again, and the first pause, which doubles each time."""

    times: int = 3
    pause_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """A request is going to be made again."""

    attempt: int
    pause_s: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The model's last answer, or that it would not answer."""

    text: str
    refused: bool = False


Item: TypeAlias = AgentStreamEvent | Retried | Finished


class Conversation:
    """Drives an agent to its answer. Used once."""

    def __init__(
        self,
        agent: Agent[Workbench, str],
        *,
        bench: Workbench,
        workspace: WorkspaceBackend,
        meter: Meter,
        retries: Retries,
        redactor: Redactor,
        history: Sequence[ModelMessage] = (),
    ) -> None:
        """Take the agent, what its tools act on, and the meter that the agent carries.

        With a ``history`` the conversation goes on from there, with the tools of its last answer
        where they have not run.
        """
        self._agent = agent
        self._bench = bench
        self._workspace = workspace
        self._meter = meter
        self._retries = retries
        self._redactor = redactor
        self._ends_s = time.monotonic() + meter.limits.minutes * 60
        self._history: Sequence[ModelMessage] = history

    async def run(self, prompt: str) -> AsyncGenerator[Item]:
        """Yield what happens while it happens, `Finished` as the last item.

        Raises `ModelError` (retryable, `ModelRejected` excepted), `BudgetExhausted` and
        `SandboxLost` (retryable).
        """
        failures = 0
        async with self._agent:
            while True:
                turns = self._meter.usage.turns
                try:
                    async with aclosing(self._attempt(prompt)) as items:
                        async for item in items:
                            yield item
                except AgentRunError as error:
                    failures = failures + 1 if self._meter.usage.turns == turns else 1
                    retried = self._retried(error, failures)
                    yield retried
                    await asyncio.sleep(retried.pause_s)
                else:
                    return

    async def answer(self, prompt: str) -> Finished:
        """Return the last answer alone. Raises as `run` does."""
        async with aclosing(self.run(prompt)) as items:
            async for item in items:
                if isinstance(item, Finished):
                    return item
        raise ModelError("The model gave no answer.")

    async def _attempt(self, prompt: str) -> AsyncGenerator[AgentStreamEvent | Finished]:
        stream = self._agent.run_stream_events(
            None if self._history else prompt,
            message_history=self._history or None,
            deps=self._bench,
            workspace=self._workspace,
            timeout=max(self._ends_s - time.monotonic(), 0.001),
            # The meter's limits are the run's; the library's own default would end it at 50 turns.
            usage_limits=UsageLimits(request_limit=None),
        )
        async with stream as events:
            try:
                async for event in events:
                    if isinstance(event, AgentRunResultEvent):
                        yield Finished(text=self._redactor.text(event.result.output))
                    else:
                        yield event
            except RunTimedOut as error:
                minutes = self._meter.limits.minutes
                raise BudgetExhausted(
                    f"The run reached its limit of {minutes:g} minutes."
                ) from error
            except WorkspaceUnavailableError as error:
                raise SandboxLost("The sandbox ended under the agent.") from error
            except UserError as error:
                raise self._told(error) from error
            except ContentFilterError:
                yield Finished(text="The model's provider refused the task.", refused=True)
            except AgentRunError:
                self._history = _unanswered(events.all_messages())
                raise

    def _told(self, error: AgentRunError | UserError) -> ModelError:
        model = self._agent.model
        system = model.system if isinstance(model, Model) else "model"
        return model_error(error, system=system, redactor=self._redactor)

    def _retried(self, error: AgentRunError, failures: int) -> Retried:
        """Say when to try again. Raises `ModelError` where there is no sense in it."""
        if failures > self._retries.times or not retryable(error):
            raise self._told(error) from error
        asked = error.retry_after if isinstance(error, ModelAPIError) else None
        pause_s = self._retries.pause_s * 2 ** (failures - 1) if asked is None else asked
        return Retried(attempt=failures, pause_s=min(pause_s, MAX_PAUSE_S), reason=reason(error))


def _unanswered(messages: list[ModelMessage]) -> list[ModelMessage]:
    """Drop the half of an answer, so that the same request is made again."""
    while messages and isinstance(messages[-1], ModelResponse):
        messages = messages[:-1]
    return messages
