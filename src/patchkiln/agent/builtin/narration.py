"""Tells what the agent does: pydantic-ai's stream of events as the product's updates.

The names and the shape of their data stand in the package's docstring. Text comes from the model in
hundreds of pieces and is told in a few a second; arguments and results are told short.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

from pydantic_ai.messages import (
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ToolCallPart,
)

from patchkiln.agent.builtin.clipping import MAX_LINE_CHARS, clip, one_line, tail
from patchkiln.agent.builtin.conversation import Finished, Item, Retried
from patchkiln.agent.builtin.meter import Meter
from patchkiln.agent.builtin.redaction import Redactor
from patchkiln.agent.builtin.workbench import Notes
from patchkiln.domain.event import EventType, JsonValue
from patchkiln.ports.agent import AgentUpdate

TEXT_PAUSE_S = 0.5
MAX_TEXT_CHARS = 4000
MAX_ARGUMENT_CHARS = 500
MAX_ARGUMENTS = 16


class Narrator:
    """Turns one conversation's items into updates. ``clock`` gives seconds, for tests."""

    def __init__(
        self,
        notes: Notes,
        meter: Meter,
        *,
        redactor: Redactor,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the notes of the tools, the meter of the conversation, and what hides secrets."""
        self._notes = notes
        self._meter = meter
        self._redactor = redactor
        self._clock = clock
        self._text = ""
        self._began_s = 0.0
        self._turn = 0

    def updates(self, item: Item) -> Iterator[AgentUpdate]:
        """Yield what there is to tell of an item."""
        yield from map(self._redactor.update, self._updates(item))

    def _updates(self, item: Item) -> Iterator[AgentUpdate]:
        yield from self._usage()
        match item:
            case PartStartEvent(part=TextPart(content=piece)):
                yield from self._said(piece)
            case PartDeltaEvent(delta=TextPartDelta(content_delta=piece)):
                yield from self._said(piece)
            case PartEndEvent(part=TextPart()):
                yield from self._flush()
            case FunctionToolCallEvent(part=part):
                yield _called(part)
            case FunctionToolResultEvent():
                yield from self._returned(item)
            case Retried():
                yield from self._flush()
                yield _retried(item)
            case Finished():
                yield from self._flush()
            case _:
                pass

    def rest(self) -> Iterator[AgentUpdate]:
        """Yield what is still untold when a conversation breaks off."""
        yield from self._flush()
        yield from self._usage()

    def _said(self, piece: str) -> Iterator[AgentUpdate]:
        if not self._text:
            self._began_s = self._clock()
        self._text += piece
        if self._clock() - self._began_s >= TEXT_PAUSE_S or len(self._text) >= MAX_TEXT_CHARS:
            yield from self._flush(keep=self._redactor.begun(self._text))

    def _flush(self, *, keep: int = 0) -> Iterator[AgentUpdate]:
        """Tell the text, but for ``keep`` characters: a secret must not pass in two halves."""
        end = len(self._text) - keep
        text, self._text = self._redactor.text(self._text[:end]), self._text[end:]
        self._began_s = self._clock()
        if text.strip():
            yield AgentUpdate(
                event="agent.message",
                message=one_line(text),
                data={"text": clip(text, MAX_TEXT_CHARS), "turn": self._meter.total.turns + 1},
            )

    def _usage(self) -> Iterator[AgentUpdate]:
        total = self._meter.total
        if self._meter.usage.turns == self._turn:
            return
        first, self._turn = self._turn == 0, self._meter.usage.turns
        if first and total.cost_usd is None:
            yield _unpriced()
        tokens = total.input_tokens + total.output_tokens
        cost = "" if total.cost_usd is None else f", {total.cost_usd:.4f} US dollars"
        yield AgentUpdate(
            event="agent.usage_updated",
            message=f"Turn {total.turns}: {tokens} tokens so far{cost}",
            data={"usage": total.as_json(), "turn": total.turns},
        )

    def _returned(self, event: FunctionToolResultEvent) -> Iterator[AgentUpdate]:
        call_id, part = event.part.tool_call_id, event.part
        yield from self._notes.updates.pop(call_id, [])
        ok = part.outcome == "success"
        answer = part.model_response_str(wrap_if_error=False)
        yield AgentUpdate(
            event="agent.tool_finished",
            message=f"{_name(part.tool_name)} {'finished' if ok else 'failed'}",
            data={
                "tool": _name(part.tool_name),
                "call_id": call_id[:MAX_ARGUMENT_CHARS],
                "ok": ok,
                "duration_ms": self._notes.durations_ms.pop(call_id, 0),
                "result_tail": tail(answer, MAX_LINE_CHARS),
            },
        )


def _called(part: ToolCallPart) -> AgentUpdate:
    arguments = _arguments(part)
    subject = next((str(value) for value in arguments.values()), "")
    return AgentUpdate(
        event="agent.tool_called",
        message=f"{_name(part.tool_name)} {one_line(subject, 80)}".rstrip(),
        data={
            "tool": _name(part.tool_name),
            "call_id": part.tool_call_id[:MAX_ARGUMENT_CHARS],
            "arguments": arguments,
        },
    )


def _arguments(part: ToolCallPart) -> dict[str, JsonValue]:
    """Return the arguments, long ones cut; those that are no JSON object as ``raw`` text."""
    try:
        given = part.args_as_dict(raise_if_invalid=True)
    except (ValueError, AssertionError):
        return {"raw": clip(str(part.args), MAX_ARGUMENT_CHARS)}
    return {name[:80]: _short(value) for name, value in list(given.items())[:MAX_ARGUMENTS]}


def _short(value: Any) -> JsonValue:
    if value is None or isinstance(value, bool | int):
        return value
    return clip(value if isinstance(value, str) else str(value), MAX_ARGUMENT_CHARS)


def _name(tool: str) -> str:
    return one_line(tool, 80)


def _retried(item: Retried) -> AgentUpdate:
    return AgentUpdate(
        event="agent.model_retried",
        message=f"The model's server failed: {item.reason}; trying again in {item.pause_s:g} s",
        type=EventType.WARNING,
        data={"attempt": item.attempt, "pause_s": item.pause_s, "reason": item.reason},
    )


def _unpriced() -> AgentUpdate:
    return AgentUpdate(
        event="agent.price_unknown",
        message="The model's price is not known: its cost cannot be told or limited, tokens are",
        type=EventType.WARNING,
    )
