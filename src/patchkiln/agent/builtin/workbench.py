"""What the tools of one run share."""

from dataclasses import dataclass, field

from patchkiln.ports.agent import AgentUpdate
from patchkiln.ports.sandbox import Sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Workbench:
    """What the tools of one run share: the sandbox, and notes by the id of the tool call."""

    sandbox: Sandbox
    updates: dict[str, list[AgentUpdate]] = field(default_factory=dict[str, list[AgentUpdate]])
    durations_ms: dict[str, int] = field(default_factory=dict[str, int])

    def note(self, call_id: str | None, update: AgentUpdate) -> None:
        """Keep something to be told when the call is over."""
        self.updates.setdefault(call_id or "", []).append(update)
