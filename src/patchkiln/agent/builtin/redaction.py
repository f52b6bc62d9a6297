"""The operator's secrets, taken out of whatever a model's server sends.

A server may quote the key it was given, in an error or in an answer. The values are known, so they
are found exactly, whatever they look like.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from patchkiln.domain.event import JsonValue
from patchkiln.ports.agent import AgentUpdate

REDACTED = "[...]"
# What is shorter stands for "no key": taken out, it would tear every text apart and hide nothing.
MIN_SECRET_CHARS = 4


class Redactor:
    """Replaces secrets in text by ``[...]``."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Take the values themselves; those below `MIN_SECRET_CHARS` are left alone."""
        values = {secret for secret in secrets if len(secret) >= MIN_SECRET_CHARS}
        # The longest first: one secret may hold another.
        self._secrets = sorted(values, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._secrets)) or r"(?!)")

    def text(self, text: str) -> str:
        """Return the text without the secrets. To be called before anything is cut from it."""
        return self._pattern.sub(REDACTED, text)

    def begun(self, text: str) -> int:
        """Return how many characters at the end of a text may be the beginning of a secret."""
        return max((_overlap(text, secret) for secret in self._secrets), default=0)

    def update(self, update: AgentUpdate) -> AgentUpdate:
        """Return the update without the secrets in its message and its data."""
        data = {name: self._value(value) for name, value in update.data.items()}
        return replace(update, message=self.text(update.message), data=data)

    def _value(self, value: JsonValue) -> JsonValue:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(name): self._value(inner) for name, inner in value.items()}
        if isinstance(value, Sequence):
            return [self._value(inner) for inner in value]
        return value


def _overlap(text: str, secret: str) -> int:
    longest = min(len(text), len(secret) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(secret[:n])), 0)
