"""What the tools of one run share."""

from dataclasses import dataclass, field

from patchkiln.ports.agent import AgentUpdate
from patchkiln.ports.sandbox import Sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What tool calls did beyond their answers, by the id of the call, until it is told."""

    updates: dict[str, list[AgentUpdate]] = field(default_factory=dict[str, list[AgentUpdate]])
    durations_ms: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, call_id: str | None, update: AgentUpdate) -> None:
        """Keep something to be told when the call is over."""
        self.updates.setdefault(call_id or "", []).append(update)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workbench:
    """The sandbox that the tools act in, and where they note what they did."""

    sandbox: Sandbox
    notes: Notes = field(default_factory=Notes)
