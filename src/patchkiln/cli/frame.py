"""An event as it comes off the stream: data of another party, read with care."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from patchkiln.domain.event import JsonObject, JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The fields of one event that a person is shown; what is missing is empty.

    ``payload`` is the event's JSON text as it came.
    """

    type: str = "info"
    message: str = ""
    step: str = ""
    progress: int = 0
    seq: int = 0
    event: str = ""
    data: JsonObject
    summary: JsonObject | None = None
    payload: str = ""

    @classmethod
    def parse(cls, payload: str) -> "Frame":
        """Read an event's JSON text. Raises `ValueError` where it is no JSON object."""
        body: JsonValue = json.loads(payload)
        if not isinstance(body, Mapping):
            raise ValueError("An event is a JSON object.")  # noqa: TRY004 - the text is wrong, not its type
        return cls.of(body, payload)

    @classmethod
    def of(cls, body: JsonObject, payload: str | None = None) -> "Frame":
        """Read an event's JSON object."""
        summary = body.get("summary")
        return cls(
            type=text(body, "type"),
            message=text(body, "message"),
            step=text(body, "step"),
            progress=number(body, "progress"),
            seq=number(body, "seq"),
            event=text(body, "event"),
            data=mapping(body, "data"),
            summary=summary if isinstance(summary, Mapping) else None,
            payload=json.dumps(body, ensure_ascii=False) if payload is None else payload,
        )


def text(body: JsonObject, name: str) -> str:
    """Return a string field, empty where it is missing or something else."""
    value = body.get(name)
    return value if isinstance(value, str) else ""


def number(body: JsonObject, name: str) -> int:
    """Return a number field as an integer, 0 where it is missing or something else."""
    value = body.get(name)
    return int(value) if isinstance(value, int | float) else 0


def mapping(body: JsonObject, name: str) -> JsonObject:
    """Return an object field, empty where it is missing or something else."""
    value = body.get(name)
    return value if isinstance(value, Mapping) else {}


def items(body: JsonObject, name: str) -> list[JsonValue]:
    """Return an array field, empty where it is missing or something else."""
    value = body.get(name)
    return list(value) if isinstance(value, list | tuple) else []
