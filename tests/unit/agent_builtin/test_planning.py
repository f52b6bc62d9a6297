"""Plans are read out of whatever a model answers."""

import json

import pytest

from patchkiln.agent.builtin.planning import MAX_ENTRIES, MAX_ENTRY_CHARS, read_plan
from patchkiln.domain.usage import Usage

ANSWER = {
    "intent": "Fix add()",
    "steps": ["Read", "Change"],
    "files": ["calc.py"],
    "risks": ["callers"],
}
USAGE = Usage(turns=1, input_tokens=7, output_tokens=3, cost_usd=None)


@pytest.mark.parametrize(
    "answer",
    [
        json.dumps(ANSWER),
        f"```json\n{json.dumps(ANSWER, indent=2)}\n```",
        f"Here {{is}} my plan:\n{json.dumps(ANSWER)}\nShall I?",
    ],
)
def test_a_json_plan_is_read_alone_fenced_or_among_words(answer: str) -> None:
    """The object counts, not what a model puts around it; the usage comes along."""
    plan = read_plan(answer, USAGE)
    assert plan.intent == "Fix add()"
    assert plan.steps == ("Read", "Change")
    assert plan.files == ("calc.py",)
    assert plan.risks == ("callers",)
    assert plan.usage == USAGE


def test_plain_words_become_a_plan() -> None:
    """Without JSON the first line is the intent and lists are the steps."""
    plan = read_plan("## Plan\nSome words.\n1. Read it\n2) Change it\n- Test it\n", USAGE)
    assert plan.intent == "Plan"
    assert plan.steps == ("Read it", "Change it", "Test it")


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "{",
        "[1, 2]",
        '{"intent": 5}',
        '{"intent": ""}',
        '{"intent": "x", "steps": "no list", "files": null, "risks": 3}',
        '{"intent": "x", "steps": [null, {"step": "Read", "why": "to know"}, ["a"]]}',
        "{" * 10_000,
        '{"a":' * 5_000,
    ],
)
def test_no_answer_breaks_the_plan(answer: str) -> None:
    """Whatever comes, a plan with an intent comes out."""
    assert read_plan(answer, USAGE).intent


def test_a_step_that_is_an_object_is_told_by_its_words() -> None:
    """Models like to make objects of steps."""
    plan = read_plan('{"intent": "x", "steps": [{"step": "Read", "why": "to know"}]}', USAGE)
    assert plan.steps == ("Read to know",)


def test_a_plan_is_bounded() -> None:
    """A plan of megabytes does not become an event of megabytes."""
    plan = read_plan(json.dumps({"intent": "y" * 10**6, "steps": ["x" * 10**5] * 50}), USAGE)
    assert len(plan.intent) <= MAX_ENTRY_CHARS
    assert len(plan.steps) == MAX_ENTRIES
    assert all(len(step) <= MAX_ENTRY_CHARS for step in plan.steps)
