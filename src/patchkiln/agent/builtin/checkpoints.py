"""Keeps the conversation at the two moments at which nothing acts in the workspace.

Before a request goes out, every tool of the turn before has ended; after its answer came, none of
the new turn has begun. Who goes on from either pays for no answer twice, and repeats tool calls
only on a workspace that is as it was before them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError
from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    ToolReturnPart,
)
from pydantic_ai.models import ModelRequestContext
from typing_extensions import override

from patchkiln.agent.builtin.meter import Meter
from patchkiln.agent.builtin.workbench import Workbench
from patchkiln.domain.usage import Usage
from patchkiln.ports.agent import Memory

# What these do leaves the workspace as it is; any other tool may have changed it.
READING_TOOLS = frozenset({"read_file", "list_files", "grep"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """A conversation as it was kept: its messages, and what it had cost with its planning."""

    messages: Sequence[ModelMessage] = ()
    spent: Usage | None = None

    @property
    def answer(self) -> str | None:
        """Return the last answer where it ended the conversation: asked again, it would cost."""
        last = self.messages[-1] if self.messages else None
        return last.text if isinstance(last, ModelResponse) and not last.tool_calls else None


@dataclass
class Checkpoints(AbstractCapability[Workbench]):
    """Has a memory keep the conversation before each request and after each answer."""

    memory: Memory
    meter: Meter
    changed: bool = field(default=False)

    @override
    async def before_model_request(
        self, ctx: RunContext[Workbench], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Keep what the tools of the last turn have brought."""
        messages = request_context.messages
        if len(messages) > 1:
            await self._keep(messages, changed=_may_have_changed(messages[-1]))
        return request_context

    @override
    async def after_model_request(
        self,
        ctx: RunContext[Workbench],
        *,
        request_context: ModelRequestContext,
        response: ModelResponse,
    ) -> ModelResponse:
        """Keep the answer, before its tools run."""
        await self._keep([*request_context.messages, response], changed=False)
        return response

    async def _keep(self, messages: Sequence[ModelMessage], *, changed: bool) -> None:
        state = {
            "messages": ModelMessagesTypeAdapter.dump_python(list(messages), mode="json"),
            "spent": self.meter.total.as_json(),
        }
        await self.memory.keep(json.dumps(state).encode(), changed=changed)


def remembered(memory: Memory | None) -> Remembered:
    """Return what a memory holds of a conversation; of one that cannot be read, nothing."""
    if memory is None or memory.state is None:
        return Remembered()
    try:
        data = json.loads(memory.state)
        messages = ModelMessagesTypeAdapter.validate_python(data["messages"])
    except (ValueError, KeyError, ValidationError):
        return Remembered()
    return Remembered(messages=messages, spent=Usage.from_json(data["spent"]))


def _may_have_changed(message: ModelMessage) -> bool:
    return isinstance(message, ModelRequest) and any(
        isinstance(part, ToolReturnPart) and part.tool_name not in READING_TOOLS
        for part in message.parts
    )
