"""What a run may cost and what it has cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from patchkiln.domain.event import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Upper bounds of one run. A request can only lower the server's own."""

    usd: float = 5.0
    tokens: int = 2_000_000
    turns: int = 80
    minutes: float = 60.0

    def lowered_by(
        self,
        *,
        usd: float | None = None,
        tokens: int | None = None,
        turns: int | None = None,
        minutes: float | None = None,
    ) -> "Limits":
        """Return the smaller of each pair; None leaves this one's."""
        return Limits(
            usd=self.usd if usd is None else min(self.usd, usd),
            tokens=self.tokens if tokens is None else min(self.tokens, tokens),
            turns=self.turns if turns is None else min(self.turns, turns),
            minutes=self.minutes if minutes is None else min(self.minutes, minutes),
        )

    def as_json(self) -> dict[str, JsonValue]:
        """Return the object of the contract's ``limits``."""
        return {
            "usd": self.usd,
            "tokens": self.tokens,
            "turns": self.turns,
            "minutes": self.minutes,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the model was asked for. ``cost_usd`` is None where the price is not known."""

    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0

    def __add__(self, other: Self) -> "Usage":
        """Add up; an unknown cost on either side stays unknown."""
        known = self.cost_usd is not None and other.cost_usd is not None
        return Usage(
            turns=self.turns + other.turns,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost_usd=(self.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None,
        )

    @classmethod
    def from_json(cls, data: Mapping[str, JsonValue]) -> "Usage":
        """Read what `as_json` wrote; what is missing or of another type counts as nothing."""
        cost = data.get("cost_usd")
        return cls(
            turns=_count(data, "turns"),
            input_tokens=_count(data, "input_tokens"),
            output_tokens=_count(data, "output_tokens"),
            cost_usd=float(cost) if isinstance(cost, int | float) else None,
        )

    def as_json(self) -> dict[str, JsonValue]:
        """Return the object that events and runs carry as ``usage``."""
        return {
            "turns": self.turns,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost_usd": self.cost_usd,
        }


def _count(data: Mapping[str, JsonValue], name: str) -> int:
    value = data.get(name)
    return value if isinstance(value, int) else 0
