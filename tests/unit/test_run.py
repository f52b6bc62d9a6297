"""Runs: how updates become events, how events become a run's state, and what a run may cost."""

import dataclasses
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchkiln.domain.check import Verdict
from patchkiln.domain.event import EventType, JsonValue, StatusUpdate
from patchkiln.domain.run import (
    PATCH_MADE,
    RUN_CANCEL_REQUESTED,
    RUN_FAILED,
    RUN_FINISHED,
    RUN_REFUSED,
    RUN_STARTED,
    SANDBOX_CHOSEN,
    Outcome,
    Run,
    RunRequest,
    RunStatus,
)
from patchkiln.domain.usage import Limits, Usage

SUMMARY: Mapping[str, JsonValue] = {
    "outcome": "changed",
    "verdict": "verified",
    "files_modified": 3,
}
COSTS = st.none() | st.floats(min_value=0, max_value=1e6)
COUNTS = st.integers(min_value=0, max_value=10**12)
USAGES = st.builds(Usage, turns=COUNTS, input_tokens=COUNTS, output_tokens=COUNTS, cost_usd=COSTS)
BOUNDS = st.none() | st.floats(min_value=0, max_value=1e6)


def a_run() -> Run:
    """Return a queued run."""
    return Run.new(RunRequest(repo_url="https://example.org/a/b", repository="b", prompt="Do it"))


def told(run: Run, *updates: StatusUpdate, now_ms: int = 1000) -> Run:
    """Return the run after updates."""
    for update in updates:
        run = run.after(run.next_event(update, now_ms=now_ms))
    return run


def update(event: str, **data: JsonValue) -> StatusUpdate:
    """Return an update with data."""
    return StatusUpdate(event=event, message="Something happened", data=data)


def ending(summary: Mapping[str, JsonValue] = SUMMARY, event: str = RUN_FINISHED) -> StatusUpdate:
    """Return a last update."""
    return StatusUpdate(event=event, message="Done", type=EventType.SUMMARY, summary=summary)


def test_new_run_waits_with_an_id_of_its_own() -> None:
    """A new run is queued, has told nothing, and no other run has its id."""
    first, second = a_run(), a_run()
    assert first.id != second.id
    assert (first.status, first.last_seq, first.progress) == (RunStatus.QUEUED, 0, 0)
    assert first.id[4:16] == f"{first.created_at_ms:012x}"


def test_ids_sort_by_time_of_creation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later run has the greater id."""
    times = iter([10**18, 10**18 + 10**6, 2 * 10**18])
    monkeypatch.setattr("time.time_ns", lambda: next(times))
    ids = [a_run().id for _ in range(3)]
    assert ids == sorted(ids)


def test_update_becomes_the_next_event() -> None:
    """An event carries what the update says, the next ``seq`` and the time it is given."""
    run = dataclasses.replace(a_run(), last_seq=41, step="clone", progress=20)
    said = StatusUpdate(
        event="step.completed",
        message="Planned",
        type=EventType.SUCCESS,
        step="planning",
        progress=60,
        data={"a": 1},
    )
    event = run.next_event(said, now_ms=1234)
    assert (event.run_id, event.seq, event.timestamp_ms) == (run.id, 42, 1234)
    assert (event.event, event.message, event.type) == (said.event, said.message, said.type)
    assert (event.step, event.progress, event.data) == ("planning", 60, {"a": 1})
    after = run.after(event)
    assert (after.last_seq, after.step, after.progress) == (42, "planning", 60)


def test_update_without_step_or_progress_keeps_the_runs() -> None:
    """What an update leaves out stays as it was."""
    run = dataclasses.replace(a_run(), step="analysis", progress=55)
    event = run.next_event(update("agent.said"), now_ms=1)
    assert (event.step, event.progress) == ("analysis", 55)


@given(st.lists(st.none() | st.integers(min_value=-50, max_value=200)))
def test_progress_never_goes_back(steps: list[int | None]) -> None:
    """Whatever steps claim, progress stays between 0 and 100, does not fall, and ``seq`` counts."""
    run, seen = a_run(), [0]
    for number, progress in enumerate(steps, start=1):
        said = StatusUpdate(event="step.moved", message="On", progress=progress)
        event = run.next_event(said, now_ms=1)
        assert event.seq == number
        assert seen[-1] <= event.progress <= 100
        if progress is not None and seen[-1] <= progress <= 100:
            assert event.progress == progress
        seen.append(event.progress)
        run = run.after(event)


def test_start_is_noted_with_its_time() -> None:
    """A started run is running since the event's time."""
    run = told(a_run(), update(RUN_STARTED), now_ms=777)
    assert (run.status, run.started_at_ms, run.finished) == (RunStatus.RUNNING, 777, False)


def test_facts_of_events_become_fields() -> None:
    """Sandbox, count of files, request to cancel and failure are read off their events."""
    run = told(
        a_run(),
        update(SANDBOX_CHOSEN, sandbox_id="sbx_1"),
        update(PATCH_MADE, files_modified=4),
        update(RUN_CANCEL_REQUESTED),
        update(RUN_FAILED, code="clone_failed", retryable=False),
    )
    assert (run.sandbox_id, run.files_modified, run.cancel_requested) == ("sbx_1", 4, True)
    assert run.error == {"code": "clone_failed", "retryable": False}
    assert not run.finished


def test_refusal_leaves_its_reason() -> None:
    """A refused run carries the refusal's data as its error."""
    assert told(a_run(), update(RUN_REFUSED, code="refused")).error == {"code": "refused"}


def test_facts_of_the_wrong_type_are_not_believed() -> None:
    """Data of another shape leaves a field empty; it breaks nothing."""
    run = told(
        a_run(), update(SANDBOX_CHOSEN, sandbox_id=7), update(PATCH_MADE, files_modified="x")
    )
    assert (run.sandbox_id, run.files_modified) == (None, 0)


@pytest.mark.parametrize("event", [RUN_FINISHED, "run.named_otherwise"])
def test_summary_ends_the_run(event: str) -> None:
    """The summary ends a run, whatever its event is called, as it ends the stream."""
    run = told(a_run(), update(RUN_STARTED), ending(event=event), now_ms=99)
    assert (run.status, run.finished, run.finished_at_ms) == (RunStatus.FINISHED, True, 99)
    assert (run.outcome, run.verdict) == (Outcome.CHANGED, Verdict.VERIFIED)
    assert run.files_modified == 3


def test_event_of_the_end_without_summary_ends_nothing() -> None:
    """A run without its summary goes on, since every stream waits for that."""
    assert not told(a_run(), update(RUN_FINISHED)).finished


@pytest.mark.parametrize("wrong", [{}, {"outcome": "great"}, {"verdict": None}])
def test_summary_with_unknown_outcome_or_verdict_is_refused(wrong: dict[str, JsonValue]) -> None:
    """A summary that says nothing known is an error, not a finished run."""
    summary = {**SUMMARY, **wrong} if wrong else {}
    with pytest.raises(ValueError, match="is not a valid"):
        told(a_run(), ending(summary))


def test_outcomes_and_verdicts_are_the_contracts() -> None:
    """Clients match on these words."""
    assert {outcome.value for outcome in Outcome} == {
        "changed",
        "no_change",
        "refused",
        "budget_exhausted",
        "cancelled",
        "failed",
    }
    assert {verdict.value for verdict in Verdict} == {
        "verified",
        "regressed",
        "unverified",
        "skipped",
    }


@given(USAGES)
def test_usage_is_carried_by_events(usage: Usage) -> None:
    """The newest ``usage`` of an event is the run's, an unknown cost included."""
    run = told(a_run(), update("agent.turn_ended", usage=usage.as_json()), update("agent.said"))
    assert run.usage == usage


def test_usage_of_another_shape_counts_as_nothing() -> None:
    """What is missing or of another type is no usage; text in its place leaves the run's."""
    assert Usage.from_json({"turns": "many"}) == Usage(cost_usd=None)
    assert told(a_run(), update("agent.turn_ended", usage="much")).usage == Usage()


@given(USAGES, USAGES)
def test_usage_adds_up_in_any_order(one: Usage, other: Usage) -> None:
    """Counts add up, order does not matter, and an unknown cost makes the sum unknown."""
    total = one + other
    assert total == other + one
    assert total.turns == one.turns + other.turns
    assert total.input_tokens == one.input_tokens + other.input_tokens
    assert total.output_tokens == one.output_tokens + other.output_tokens
    if one.cost_usd is None or other.cost_usd is None:
        assert total.cost_usd is None
    else:
        assert total.cost_usd == one.cost_usd + other.cost_usd


@given(usd=BOUNDS, minutes=BOUNDS, tokens=st.none() | COUNTS, turns=st.none() | COUNTS)
def test_limits_are_only_lowered(
    usd: float | None, minutes: float | None, tokens: int | None, turns: int | None
) -> None:
    """A request gets what it asks for or the server's limit, whichever is less."""
    server = Limits()
    asked = {"usd": usd, "minutes": minutes, "tokens": tokens, "turns": turns}
    lowered = server.lowered_by(usd=usd, minutes=minutes, tokens=tokens, turns=turns)
    for name, wish in asked.items():
        most = getattr(server, name)
        assert getattr(lowered, name) == (most if wish is None else min(wish, most))


def test_limits_are_told_by_their_names_in_the_contract() -> None:
    """The run's ``limits`` are the four of the request."""
    assert Limits(usd=1.5, tokens=2, turns=3, minutes=4.0).as_json() == {
        "usd": 1.5,
        "tokens": 2,
        "turns": 3,
        "minutes": 4.0,
    }
