"""What an agent intends to do before it does it."""

from dataclasses import dataclass, field

from patchkiln.domain.event import JsonValue
from patchkiln.domain.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why an agent will not start: a stable code, the reason and what the user can do."""

    code: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Intent, steps and files. With a ``refusal`` nothing will be changed."""

    intent: str
    steps: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    risks: tuple[str, ...] = ()
    refusal: Refusal | None = None
    usage: Usage = field(default_factory=Usage)

    def text(self) -> str:
        """Return the plan as a person would read it."""
        lines = [self.intent]
        lines += [f"{number}. {step}" for number, step in enumerate(self.steps, 1)]
        lines += [f"Risk: {risk}" for risk in self.risks]
        return "\n".join(lines)

    def as_json(self) -> dict[str, JsonValue]:
        """Return the plan as data, as the ``plan.made`` event carries it."""
        return {
            "intent": self.intent,
            "steps": list(self.steps),
            "files": list(self.files),
            "risks": list(self.risks),
            "text": self.text(),
        }
