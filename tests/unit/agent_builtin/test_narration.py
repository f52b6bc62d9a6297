"""The stream of a model's events becomes few, short updates."""

from pydantic_ai.messages import (
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ToolCallPart,
    ToolReturnPart,
)

from patchkiln.agent.builtin.conversation import Item, Retried
from patchkiln.agent.builtin.meter import Meter
from patchkiln.agent.builtin.narration import MAX_TEXT_CHARS, TEXT_PAUSE_S, Narrator
from patchkiln.agent.builtin.redaction import Redactor
from patchkiln.agent.builtin.workbench import Notes
from patchkiln.domain.event import EventType
from patchkiln.domain.usage import Limits, Usage
from patchkiln.ports.agent import AgentUpdate

SECRETS = ("my-vllm-token", "token-of-another")


class Told:
    """A narrator with a clock that the test moves, and everything it has told."""

    def __init__(self) -> None:
        """Start at zero seconds."""
        self.now_s = 0.0
        self.notes = Notes()
        self.meter = Meter(limits=Limits())
        self.narrator = Narrator(
            self.notes, self.meter, redactor=Redactor(SECRETS), clock=lambda: self.now_s
        )
        self.updates: list[AgentUpdate] = []

    def hear(self, *items: Item) -> None:
        """Give items to the narrator."""
        for item in items:
            self.updates.extend(self.narrator.updates(item))

    def texts(self) -> list[str]:
        """Return the texts that were told."""
        return [
            str(update.data["text"]) for update in self.updates if update.event == "agent.message"
        ]


def _delta(text: str) -> Item:
    return PartDeltaEvent(index=0, delta=TextPartDelta(content_delta=text))


def _end(text: str) -> Item:
    return PartEndEvent(index=0, part=TextPart(content=text))


def test_tokens_of_one_moment_are_one_message() -> None:
    """A thousand pieces in no time are one event, and nothing of them is lost."""
    told = Told()
    told.hear(PartStartEvent(index=0, part=TextPart(content="a")), *[_delta("b")] * 999, _end(""))
    assert told.texts() == ["a" + "b" * 999]


def test_a_slow_answer_is_told_while_it_comes() -> None:
    """Text is told every half second, not only at its end."""
    told = Told()
    told.hear(PartStartEvent(index=0, part=TextPart(content="first ")))
    told.now_s += TEXT_PAUSE_S
    told.hear(_delta("half"))
    assert told.texts() == ["first half"]
    told.hear(_delta(" and rest"), _end(""))
    assert told.texts() == ["first half", " and rest"]


def test_a_long_answer_is_told_in_bounded_pieces() -> None:
    """No single event grows with the answer."""
    told = Told()
    told.hear(*[_delta("x" * 100)] * 200, _end(""))
    assert all(len(text) <= MAX_TEXT_CHARS for text in told.texts())
    assert sum(len(text) for text in told.texts()) == 20_000


def test_long_arguments_are_told_short() -> None:
    """A file that the model writes is not repeated in the event."""
    told = Told()
    call = ToolCallPart("write_file", {"path": "a.py", "content": "x" * 10**6}, "call_1")
    told.hear(FunctionToolCallEvent(call))
    arguments = told.updates[0].data["arguments"]
    assert isinstance(arguments, dict)
    assert arguments["path"] == "a.py"
    assert len(str(told.updates[0].data)) < 1000


def test_arguments_that_are_no_json_are_told_as_they_came() -> None:
    """A broken call is seen as the broken call that it is."""
    told = Told()
    told.hear(FunctionToolCallEvent(ToolCallPart("shell", '{"command": "ec', "call_1")))
    assert told.updates[0].data["arguments"] == {"raw": '{"command": "ec'}


def test_a_tools_notes_come_before_its_end() -> None:
    """What a call did is told between its start and its end, once, with its duration."""
    told = Told()
    told.notes.add("call_1", AgentUpdate(event="agent.file_edited", message="Edited a.py"))
    told.notes.durations_ms["call_1"] = 12
    result = FunctionToolResultEvent(ToolReturnPart("edit_file", "x" * 10**5, "call_1"))
    told.hear(result)
    assert [update.event for update in told.updates] == ["agent.file_edited", "agent.tool_finished"]
    assert told.updates[1].data["duration_ms"] == 12
    assert told.updates[1].data["ok"] is True
    assert len(str(told.updates[1].data["result_tail"])) < 3000
    told.hear(result)
    assert [update.event for update in told.updates[2:]] == ["agent.tool_finished"]


def test_usage_is_told_once_a_turn_with_planning_in_it() -> None:
    """The run's row follows these events, so they count from the run's first request."""
    told = Told()
    told.meter.spent = Usage(turns=1, input_tokens=10, output_tokens=1, cost_usd=0.5)
    told.meter.usage = Usage(turns=1, input_tokens=20, output_tokens=2, cost_usd=0.25)
    told.hear(_delta("a"), _delta("b"))
    usage = [update for update in told.updates if update.event == "agent.usage_updated"]
    assert [update.data for update in usage] == [
        {
            "turn": 2,
            "usage": {"turns": 2, "input_tokens": 30, "output_tokens": 3, "cost_usd": 0.75},
        }
    ]


def test_an_unknown_price_is_told_once() -> None:
    """A dollar limit that cannot hold is no secret, and cost stays unknown, not zero."""
    told = Told()
    for turn in (1, 2):
        told.meter.usage = Usage(turns=turn, cost_usd=None)
        told.hear(_delta("a"))
    events = [update.event for update in told.updates]
    assert events == ["agent.price_unknown", "agent.usage_updated", "agent.usage_updated"]
    assert told.updates[0].type is EventType.WARNING
    usage = told.updates[1].data["usage"]
    assert isinstance(usage, dict)
    assert usage["cost_usd"] is None


def test_what_came_before_a_break_is_told() -> None:
    """Half an answer is told before the warning that it broke off, and what was left at the end."""
    told = Told()
    told.hear(_delta("half"), Retried(attempt=1, pause_s=0.5, reason="it fell silent"))
    assert [update.event for update in told.updates] == ["agent.message", "agent.model_retried"]
    told.hear(_delta("rest"))
    assert [update.data["text"] for update in told.narrator.rest()] == ["rest"]


def test_a_secret_is_not_told_in_two_halves() -> None:
    """What may be the beginning of one waits for the next piece, and is told where it is none."""
    told = Told()
    told.hear(_delta("It is "))
    told.now_s = 1.0
    told.hear(_delta("my-vllm-"))
    told.now_s = 2.0
    told.hear(_delta("token, my-v"), _delta("ery own."), _end(""))
    assert "".join(told.texts()) == "It is [...], my-very own."
