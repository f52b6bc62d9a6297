"""What is kept of a finished step, so that a later process can go on after it.

A record is JSON text, ASCII alone. Every field is named here: no change of a class changes
unnoticed what an earlier process has kept.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from patchkiln.domain.event import EventType, JsonObject, JsonValue, StatusUpdate
from patchkiln.domain.run import Outcome
from patchkiln.domain.usage import Usage

# What a step found, as it was read back from its record.
Found: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a run ended before its time, and the update that tells it."""

    outcome: Outcome
    told: StatusUpdate


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One finished step. ``milestones`` are told once it is kept; an ``ending`` ends the run."""

    duration_ms: int = 0
    found: JsonObject = field(default_factory=dict[str, JsonValue])
    milestones: tuple[StatusUpdate, ...] = ()
    outcome: Outcome | None = None
    agent_message: str = ""
    usage: Usage = field(default_factory=Usage)
    ending: Ending | None = None

    def text(self) -> str:
        """Return the record as JSON."""
        ending = self.ending
        return json.dumps(
            {
                "duration_ms": self.duration_ms,
                "found": self.found,
                "milestones": [_update_json(update) for update in self.milestones],
                "outcome": self.outcome,
                "agent_message": self.agent_message,
                "usage": self.usage.as_json(),
                "ending": None
                if ending is None
                else {"outcome": ending.outcome, "told": _update_json(ending.told)},
            },
            separators=(",", ":"),
        )

    @classmethod
    def read(cls, text: str) -> "StepRecord":
        """Read what `text` wrote."""
        data: dict[str, Any] = json.loads(text)
        outcome, ending = data["outcome"], data["ending"]
        return cls(
            duration_ms=data["duration_ms"],
            found=data["found"],
            milestones=tuple(_update_of(update) for update in data["milestones"]),
            outcome=None if outcome is None else Outcome(outcome),
            agent_message=data["agent_message"],
            usage=Usage.from_json(data["usage"]),
            ending=None
            if ending is None
            else Ending(outcome=Outcome(ending["outcome"]), told=_update_of(ending["told"])),
        )


def _update_json(update: StatusUpdate) -> dict[str, JsonValue]:
    return {
        "event": update.event,
        "message": update.message,
        "type": update.type,
        "step": update.step,
        "progress": update.progress,
        "data": update.data,
        "key": update.key,
    }


def _update_of(data: dict[str, Any]) -> StatusUpdate:
    return StatusUpdate(
        event=data["event"],
        message=data["message"],
        type=EventType(data["type"]),
        step=data["step"],
        progress=data["progress"],
        data=data["data"],
        key=data["key"],
    )
