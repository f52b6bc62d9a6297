"""What the model was asked for so far, and the limits of the run that it must keep."""

from dataclasses import dataclass, field

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse
from pydantic_ai.models import ModelRequestContext
from typing_extensions import override

from patchkiln.agent.builtin.workbench import Workbench
from patchkiln.domain.usage import Limits, Usage
from patchkiln.errors import BudgetExhausted

# Servers that report no usage must not switch the token limit off.
CHARS_PER_TOKEN = 4


@dataclass
class Meter(AbstractCapability[Workbench]):
    """Counts every answer of the model, and lets no request go out once a limit is reached.

    A limit is looked at before a request and not after an answer, so that the tool calls of the
    last paid turn still run: one turn may overshoot it. Where the price is not known the dollar
    limit cannot hold, and turns, tokens and minutes do. ``spent`` is what planning used.
    """

    limits: Limits
    spent: Usage = field(default_factory=Usage)
    usage: Usage = field(default_factory=Usage)

    @property
    def total(self) -> Usage:
        """Return what planning and this conversation used."""
        return self.spent + self.usage

    @override
    async def before_model_request(
        self, ctx: RunContext[Workbench], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Let the request pass. Raises `BudgetExhausted`."""
        reached = self._reached()
        if reached is not None:
            raise BudgetExhausted(f"The run reached its limit of {reached}.")
        return request_context

    @override
    async def after_model_request(
        self,
        ctx: RunContext[Workbench],
        *,
        request_context: ModelRequestContext,
        response: ModelResponse,
    ) -> ModelResponse:
        """Count an answer."""
        self.usage += _used(request_context.messages, response)
        return response

    def _reached(self) -> str | None:
        total, limits = self.total, self.limits
        tokens = total.input_tokens + total.output_tokens
        if total.turns >= limits.turns:
            return f"{limits.turns} turns"
        if tokens >= limits.tokens:
            return f"{limits.tokens} tokens, with {tokens} used"
        if total.cost_usd is not None and total.cost_usd >= limits.usd:
            return f"{limits.usd:g} US dollars, with {total.cost_usd:.4f} spent"
        return None


def _used(request: list[ModelMessage], response: ModelResponse) -> Usage:
    usage = response.usage
    if usage.unmeasured_requests:
        return Usage(
            turns=1,
            input_tokens=_estimated(request),
            output_tokens=_estimated([response]),
            cost_usd=None,
        )
    return Usage(
        turns=1,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=None if usage.cost is None else float(usage.cost),
    )


def _estimated(messages: list[ModelMessage]) -> int:
    return len(ModelMessagesTypeAdapter.dump_json(messages)) // CHARS_PER_TOKEN
