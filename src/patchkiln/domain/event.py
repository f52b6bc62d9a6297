"""Events: the immutable facts of a run, and how they look on the wire.

A step yields a `StatusUpdate`; the store gives it its place in the run and makes it an `Event`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

JsonValue: TypeAlias = (
    str | int | float | bool | Sequence["JsonValue"] | Mapping[str, "JsonValue"] | None
)
JsonObject: TypeAlias = Mapping[str, JsonValue]

# JSON allows them inside a string, but readers that split with `str.splitlines` (httpx among them)
# would cut a frame there.
_LINE_BREAKS = re.compile("[\x85\u2028\u2029]")


class EventType(StrEnum):
    """The contract's ``type``: how a person should take the event."""

    INFO = "info"
    SUCCESS = "success"
    WARNING = "warning"
    ERROR = "error"
    SUMMARY = "summary"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusUpdate:
    """What a step has to tell, before it has a place in the run.

    ``event`` is a dotted name in the past tense, ``message`` one sentence for a person and
    ``data`` a JSON object whose shape ``event`` fixes. ``progress`` (0 to 100) may be left out:
    it stays where it was. ``summary`` belongs to the last update of a run alone. ``key`` names a
    milestone: of one run's updates with the same key, only the first becomes an event.
    """

    event: str
    message: str
    type: EventType = EventType.INFO
    step: str = ""
    progress: int | None = None
    data: JsonObject = field(default_factory=dict[str, JsonValue])
    summary: JsonObject | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A fact of a run: ``seq`` counts 1, 2, 3 without a gap, ``timestamp_ms`` since the epoch."""

    run_id: str
    seq: int
    timestamp_ms: int
    event: str
    message: str
    type: EventType
    step: str
    progress: int
    data: JsonObject
    summary: JsonObject | None = None

    def payload(self) -> str:
        """Return the JSON object of the contract's section 2, on one line.

        A lone surrogate, as a file name that is no UTF-8 brings one, becomes ``?``: it can be
        neither sent nor stored.
        """
        body: dict[str, JsonValue] = {
            "type": self.type.value,
            "message": self.message,
            "step": self.step,
            "progress": self.progress,
            "timestamp": self.timestamp_ms,
            "run_id": self.run_id,
            "seq": self.seq,
            "event": self.event,
            "data": self.data,
        }
        if self.summary is not None:
            body["summary"] = self.summary
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        return _LINE_BREAKS.sub(_escaped, text.encode(errors="replace").decode())


def _escaped(character: re.Match[str]) -> str:
    return f"\\u{ord(character[0]):04x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An event as the log keeps it: its ``seq`` and the JSON text that every client is sent.

    ``key`` is its milestone's; clients never see it.
    """

    seq: int
    payload: str
    last: bool
    key: str | None = field(default=None, compare=False)

    @classmethod
    def of(cls, event: Event, *, key: str | None = None) -> "StoredEvent":
        """Encode an event; this happens once, at append."""
        return cls(seq=event.seq, payload=event.payload(), last=event.summary is not None, key=key)

    def frame(self) -> bytes:
        """Return the event as one Server-Sent Events frame (WHATWG HTML, section 9.2)."""
        return f"id: {self.seq}\ndata: {self.payload}\n\n".encode()
