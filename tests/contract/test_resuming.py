"""What the engine promises of runs whose process ends before they do, over every carrier."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from patchkiln.domain.run import RUN_CANCEL_REQUESTED, Outcome, Run, RunRequest, RunStatus
from patchkiln.domain.usage import Limits
from patchkiln.engine import RunEngine, records, silence
from patchkiln.engines.dbos import DbosEngine
from patchkiln.engines.memory import MemoryEngine
from patchkiln.errors import Conflict, ModelError, NotFound
from patchkiln.pipeline import runner
from patchkiln.pipeline.steps import STEPS, WORKFLOW_VERSION
from patchkiln.ports.agent import AgentResult, AgentUpdate
from patchkiln.ports.engine import Engine, Standing
from patchkiln.ports.sandbox import Sandbox
from patchkiln.sandboxes.local.provider import LocalSandboxes
from patchkiln.stores.memory import MemoryStore
from tests.support.engine import Event, engine_over, events_named, follow, follow_until
from tests.support.repositories import git, make_repository
from tests.support.runs import CREATED, said
from tests.support.scripted_agent import DONE, ScriptedAgent, write_hello

MILESTONES = {"step.completed", "patch.made", "verdict.reached", "run.finished"}
OpenEngine: TypeAlias = Callable[..., AbstractAsyncContextManager[RunEngine]]

FILES: dict[str, bytes | str] = {
    "greeting.py": "print('hi')\n",
    "test_greeting.py": "def test_it():\n    assert True\n",
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository with one green test."""
    return make_repository(tmp_path / "greeting", FILES)


@pytest.fixture(params=["memory"])
async def open_engine(
    request: pytest.FixtureRequest, tmp_path: Path, repository: Path
) -> AsyncGenerator[OpenEngine]:
    """Lend what opens an engine; each opening goes on with what the one before left."""
    store, memory = MemoryStore(), MemoryEngine()
    data_dir = tmp_path / "data"
    sandboxes = LocalSandboxes(data_dir)

    def carrier() -> Engine:
        if request.param == "memory":
            return memory
        return DbosEngine(data_dir / "engine.db", version="wf1")

    @asynccontextmanager
    async def opened(*agents: ScriptedAgent, **changes: Any) -> AsyncGenerator[RunEngine]:
        allow = (f"file://{repository}",)
        given = {"store": store, "carrier": carrier(), "provider": sandboxes, **changes}
        async with engine_over(data_dir, *agents, allow=allow, **given) as engine:
            yield engine

    yield opened
    await sandboxes.close()


# What the carriers promise is tested of each (`test_engine_port`); here a few runs are enough.
over_each_carrier = pytest.mark.parametrize("open_engine", ["memory", "dbos"], indirect=True)


def request(repository: Path, **changes: Any) -> RunRequest:
    """Return a request for the repository with the scripted agent."""
    values: dict[str, Any] = {
        "repo_url": f"file://{repository}",
        "repository": "greeting",
        "prompt": "Say hello",
        "agent": "scripted",
        **changes,
    }
    return RunRequest(**values)


async def write_then_sleep(sandbox: Sandbox) -> AsyncGenerator[AgentUpdate | AgentResult]:
    """Leave a file behind, then hang in a command."""
    await sandbox.write("partial.txt", b"half\n")
    yield AgentUpdate(event="agent.file_edited", message="Wrote partial.txt")
    await (await sandbox.exec(["sleep", "300"])).wait()
    yield DONE


async def fail(_sandbox: Sandbox) -> AsyncGenerator[AgentUpdate | AgentResult]:
    """Fail as a model does."""
    yield AgentUpdate(event="agent.message", message="Trying")
    raise ModelError("The model answered nothing.")


def check_whole(events: list[Event]) -> None:
    """Assert what holds for every log: no gap, one summary, no milestone twice."""
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["type"] for event in events].count("summary") == 1
    assert events[-1]["type"] == "summary"
    for name in ("run.started", "patch.made", "verdict.reached", "run.finished"):
        assert len(events_named(events, name)) <= 1, name
    for restarted in (event for event in events if event["event"] == "step.restarted"):
        # What counts no more holds no milestone.
        begun = int(restarted["data"]["supersedes_from_seq"])
        assert MILESTONES.isdisjoint(
            event["event"] for event in events[begun : restarted["seq"] - 1]
        )
    for name in ("step.started", "step.completed"):
        steps = [event["step"] for event in events_named(events, name)]
        assert len(steps) == len(set(steps)), name


@over_each_carrier
async def test_a_run_goes_on_at_the_step_in_which_the_server_stopped(
    open_engine: OpenEngine, repository: Path
) -> None:
    """What was done is not done again; what was begun is told to begin again, and from where."""
    async with open_engine(ScriptedAgent(write_then_sleep)) as engine:
        run, _ = await engine.submit(request(repository))
        await follow_until(engine, run, "agent.file_edited")
    async with open_engine() as engine:
        events = await follow(engine, run)
        diff = await engine.store.get_patch(run.id)
        finished = await engine.store.get_run(run.id)
    check_whole(events)
    assert [event["step"] for event in events_named(events, "step.completed")] == [
        step.name for step in STEPS
    ]
    (suspended,) = events_named(events, "run.suspended")
    (restarted,) = events_named(events, "step.restarted")
    begun = events[int(restarted["data"]["supersedes_from_seq"]) - 1]
    assert (begun["event"], begun["step"]) == ("step.started", "implementation")
    assert restarted["data"]["step"] == "implementation"
    assert suspended["seq"] < restarted["seq"]
    summary = events[-1]["summary"]
    assert (summary["outcome"], summary["verdict"]) == ("changed", "verified")
    assert summary["files_modified"] == 1
    assert summary["commit"] == git(repository, "rev-parse", "HEAD").strip()
    assert len(summary["checks"]["base"]) == len(summary["checks"]["result"]) == 1
    (replaced,) = events_named(events, "sandbox.replaced")
    assert replaced["type"] == "warning"
    assert replaced["data"]["sandbox_id"] == summary["sandbox_id"] == finished.sandbox_id
    assert diff is not None
    assert b"+hello" in diff
    assert b"half" not in diff


async def test_a_run_that_stood_before_its_verdict_needs_no_agent_again(
    open_engine: OpenEngine, repository: Path
) -> None:
    """The patch of the finished step is taken from the store, and judged."""
    hang_on_result = ("test ! -e hello.txt || test -e /tmp/never || sleep 300",)
    async with open_engine() as engine:
        run, _ = await engine.submit(
            request(repository, checks=hang_on_result, limits=Limits(minutes=5))
        )
        async with asyncio.timeout(60):
            await follow_until(engine, run, "patch.made")
            await until_check_of_result(engine, run)
    async with open_engine(ScriptedAgent(fail), check_timeout_s=1.0) as engine:
        events = await follow(engine, run)
        assert await engine.store.get_patch(run.id)
    check_whole(events)
    (restarted,) = events_named(events, "step.restarted")
    assert restarted["data"]["step"] == "complete"
    assert events[-1]["summary"]["files_modified"] == 1
    assert events[-1]["summary"]["patch"] == f"/runs/{run.id}/patch"
    assert not events_named(events, "sandbox.replaced")


async def until_check_of_result(engine: RunEngine, run: Run) -> None:
    """Wait until the check on the result has begun."""
    async for batch in engine.follow(run.id):
        for event in batch:
            body = json.loads(event.payload)
            if body["event"] == "check.started" and body["data"]["phase"] == "result":
                return


@over_each_carrier
async def test_a_cancel_of_before_the_stop_holds_after_it(
    open_engine: OpenEngine, repository: Path
) -> None:
    """The next process does no step of it any more; the finished ones are in its summary."""
    async with open_engine(ScriptedAgent(write_then_sleep)) as engine:
        run, _ = await engine.submit(request(repository))
        await follow_until(engine, run, "agent.file_edited")
        # Asked for in the log, and not yet heeded: the process dies in between.
        await engine.store.append(run.id, [said(RUN_CANCEL_REQUESTED)])
    async with open_engine() as engine:
        events = await follow(engine, run)
        assert (await engine.store.get_run(run.id)).outcome is Outcome.CANCELLED
    check_whole(events)
    assert not events_named(events, "step.restarted")
    assert events_named(events, "run.cancelled")
    assert len(events[-1]["summary"]["checks"]["base"]) == 1


async def test_the_limit_of_minutes_counts_over_a_restart(
    open_engine: OpenEngine, repository: Path
) -> None:
    """A run whose time has passed while no server was there ends so, and does nothing more."""
    limits = Limits(minutes=3 / 60)
    async with open_engine(ScriptedAgent(write_then_sleep)) as engine:
        run, _ = await engine.submit(request(repository, limits=limits, checks=()))
        await follow_until(engine, run, "run.started")
    await asyncio.sleep(3)
    async with open_engine() as engine:
        events = await follow(engine, run)
    check_whole(events)
    assert events_named(events, "run.budget_exhausted")
    assert events[-1]["summary"]["outcome"] == "budget_exhausted"
    assert not events_named(events, "step.restarted")


async def test_a_run_that_waited_for_a_slot_goes_on_too(
    open_engine: OpenEngine, repository: Path
) -> None:
    """What had not begun begins after the restart, and nothing is told to begin again."""
    async with open_engine(ScriptedAgent(write_then_sleep), running=1) as engine:
        first, _ = await engine.submit(request(repository))
        await follow_until(engine, first, "agent.file_edited")
        second, _ = await engine.submit(request(repository))
        await follow_until(engine, second, "run.queued")
    async with open_engine(running=1) as engine:
        logs = [await follow(engine, run) for run in (first, second)]
    for events in logs:
        check_whole(events)
        assert events[-1]["summary"]["outcome"] == "changed"
    assert not events_named(logs[1], "step.restarted")


async def test_a_failed_run_is_retried_at_the_failed_step(
    open_engine: OpenEngine, repository: Path
) -> None:
    """The retry is a run with a log of its own, which begins where the other one failed."""
    async with open_engine(ScriptedAgent(fail)) as engine:
        run, _ = await engine.submit(request(repository))
        failed = await follow(engine, run)
    async with open_engine() as engine:
        retry, created = await engine.retry(run.id)
        events = await follow(engine, retry)
        again = await engine.retry(run.id)
        assert (again[0].id, again[1]) == (retry.id, False)
        with pytest.raises(Conflict):
            await engine.retry(retry.id)
        with pytest.raises(NotFound):
            await engine.retry("run_no")
        diff = await engine.store.get_patch(retry.id)
        assert await follow(engine, run) == failed
    assert created
    assert retry.parent_run_id == run.id
    check_whole(events)
    assert events[0]["data"]["parent_run_id"] == run.id
    (taken,) = events_named(events, "steps.taken_over")
    assert taken["data"]["steps"] == ["init", "validation", "clone", "analysis", "planning"]
    assert [event["step"] for event in events_named(events, "step.started")] == [
        "implementation",
        "complete",
    ]
    summary = events[-1]["summary"]
    assert (summary["outcome"], summary["verdict"]) == ("changed", "verified")
    assert summary["commit"] == git(repository, "rev-parse", "HEAD").strip()
    assert len(summary["checks"]["base"]) == 1
    assert diff is not None
    assert b"+hello" in diff


@over_each_carrier
async def test_a_retry_that_fails_is_retried_in_its_turn(
    open_engine: OpenEngine, repository: Path
) -> None:
    """Steps that were taken over are taken over again, though the server was restarted."""
    async with open_engine(ScriptedAgent(fail)) as engine:
        first, _ = await engine.submit(request(repository))
        await follow(engine, first)
        second, _ = await engine.retry(first.id)
        await follow(engine, second)
    async with open_engine() as engine:
        third, _ = await engine.retry(second.id)
        events = await follow(engine, third)
    check_whole(events)
    (taken,) = events_named(events, "steps.taken_over")
    assert "planning" in taken["data"]["steps"]
    assert events[-1]["summary"]["outcome"] == "changed"


async def test_a_retry_goes_on_though_its_parent_is_deleted(
    open_engine: OpenEngine, repository: Path
) -> None:
    """Nothing but its time is lost: what cannot be taken over is done again."""
    async with open_engine(ScriptedAgent(fail)) as engine:
        run, _ = await engine.submit(request(repository))
        await follow(engine, run)
    async with open_engine(ScriptedAgent(write_hello)) as engine:
        retry, _ = await engine.retry(run.id)
        await engine.delete(run.id)
        events = await follow(engine, retry)
    check_whole(events)
    assert events[-1]["summary"]["outcome"] == "changed"


async def test_a_retry_of_what_is_half_forgotten_begins_anew(
    open_engine: OpenEngine, repository: Path
) -> None:
    """Once the events and the patch of a run are forgotten, its steps are too."""
    async with open_engine(ScriptedAgent(fail)) as engine:
        run, _ = await engine.submit(request(repository, checks=()))
        await follow(engine, run)
        assert await engine.store.prune(ended_before_ms=10**15, limit=5)
    async with open_engine() as engine:
        retry, _ = await engine.retry(run.id)
        events = await follow(engine, retry)
    check_whole(events)
    assert events_named(events, "steps.taken_over")[0]["data"]["steps"] == []
    assert len(events_named(events, "step.completed")) == len(STEPS)
    assert events[-1]["summary"]["outcome"] == "changed"


async def test_a_large_record_is_kept_beside_the_journal(
    open_engine: OpenEngine, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too large for the engine comes back from the store, for a retry too."""
    monkeypatch.setattr(records, "MAX_JOURNALED_CHARS", 300)
    async with open_engine(ScriptedAgent(fail)) as engine:
        run, _ = await engine.submit(request(repository))
        await follow(engine, run)
        assert await engine.store.kept(run.id, "step-analysis")
    async with open_engine(ScriptedAgent(write_then_sleep)) as engine:
        retry, _ = await engine.retry(run.id)
        await follow_until(engine, retry, "agent.file_edited")
    async with open_engine() as engine:
        events = await follow(engine, retry)
    check_whole(events)
    assert "analysis" in events_named(events, "steps.taken_over")[0]["data"]["steps"]
    assert len(events[-1]["summary"]["checks"]["base"]) == 1
    assert events[-1]["summary"]["verdict"] == "verified"


async def test_only_what_failed_is_retried(open_engine: OpenEngine, repository: Path) -> None:
    """A run that is under way, was cancelled or has succeeded is a conflict."""
    async with open_engine(ScriptedAgent(write_then_sleep)) as engine:
        run, _ = await engine.submit(request(repository))
        await follow_until(engine, run, "agent.file_edited")
        with pytest.raises(Conflict):
            await engine.retry(run.id)
        await engine.cancel(run.id)
        await follow(engine, run)
        with pytest.raises(Conflict):
            await engine.retry(run.id)


async def test_a_run_that_was_created_and_never_started_is_started(
    open_engine: OpenEngine, repository: Path
) -> None:
    """A process may die between the creation and the start; the next one sees to it."""
    async with open_engine() as engine:
        run = Run.new(request(repository))
        await engine.store.create_run(run, CREATED)
    async with open_engine() as engine:
        events = await follow(engine, run)
        assert (await engine.store.get_run(run.id)).status is RunStatus.FINISHED
    check_whole(events)
    assert events[-1]["summary"]["outcome"] == "changed"


async def test_stops_in_good_order_are_no_failed_attempts(
    open_engine: OpenEngine, repository: Path
) -> None:
    """However often the server is updated under a run, it is not given up for that."""
    async with open_engine(ScriptedAgent(write_then_sleep)) as engine:
        run, _ = await engine.submit(request(repository, checks=()))
        await follow_until(engine, run, "agent.file_edited")
    for seen in range(2, 6):
        async with open_engine(ScriptedAgent(write_then_sleep)) as engine:
            await until_edited(engine, run, seen)
    async with open_engine() as engine:
        events = await follow(engine, run)
    check_whole(events)
    assert len(events_named(events, "run.suspended")) == 5
    assert len(events_named(events, "step.restarted")) == 5
    assert events[-1]["summary"]["outcome"] == "changed"


async def until_edited(engine: RunEngine, run: Run, times: int) -> None:
    """Wait until the agent has told of so many edits."""
    seen = 0
    async with asyncio.timeout(30):
        async for batch in engine.follow(run.id):
            seen += sum('"agent.file_edited"' in event.payload for event in batch)
            if seen >= times:
                return


async def test_who_was_taken_over_tells_nothing_more(
    open_engine: OpenEngine, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that is stopped and comes back finds its run claimed, and leaves it alone."""
    async with open_engine(ScriptedAgent(write_then_sleep)) as engine:
        run, _ = await engine.submit(request(repository))
        await follow_until(engine, run, "agent.file_edited")
        taken = await engine.store.claim(run.id)
        await engine.cancel(run.id)
        async with asyncio.timeout(20):
            while run.id in engine.metrics.running:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.01)
        found = await engine.store.get_run(run.id)
    assert not found.finished
    assert found.epoch == taken.epoch
    assert "taken this run over" in caplog.text


class StrangeEngine(MemoryEngine):
    """An engine to which every run is of another version, or was given up."""

    def __init__(self, standing: Standing) -> None:
        """Take what it says of every run."""
        super().__init__()
        self._standing = standing

    async def standing(self, run_id: str) -> Standing:
        """Return it."""
        return self._standing


async def test_a_run_of_another_version_says_so_and_can_be_cancelled(
    open_engine: OpenEngine, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once, however often the server starts, and nobody has to wait for ever."""
    async with open_engine(ScriptedAgent(write_then_sleep)) as engine:
        run, _ = await engine.submit(request(repository))
        await follow_until(engine, run, "agent.file_edited")
    for _ in range(2):
        async with open_engine(carrier=StrangeEngine(Standing.OTHER_VERSION)) as engine:
            assert not (await engine.store.get_run(run.id)).finished
            await engine.store.check()
    async with open_engine(carrier=StrangeEngine(Standing.OTHER_VERSION)) as engine:
        cancelled = await engine.cancel(run.id)
        events = await follow(engine, run)
    check_whole(events)
    assert len(events_named(events, "run.stranded")) == 1
    assert events_named(events, "run.stranded")[0]["data"]["remedy"]
    assert cancelled.outcome is Outcome.CANCELLED
    assert f"run {run.id} waits for the version" in caplog.text


async def test_a_run_that_was_given_up_ends_failed(
    open_engine: OpenEngine, repository: Path
) -> None:
    """Every run comes to an end, though the engine never brings it there."""
    async with open_engine(ScriptedAgent(write_then_sleep)) as engine:
        run, _ = await engine.submit(request(repository))
        await follow_until(engine, run, "agent.file_edited")
    async with open_engine(carrier=StrangeEngine(Standing.OVER)) as engine:
        events = await follow(engine, run)
    check_whole(events)
    (failed,) = events_named(events, "run.failed")
    assert failed["data"]["code"] == "interrupted"
    assert events[-1]["summary"]["outcome"] == "failed"


async def test_a_fault_of_the_engine_itself_ends_the_run(
    open_engine: OpenEngine, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What breaks outside of every step is told as a failure, and the run does not hang."""

    async def broken(*_: object) -> None:
        raise ZeroDivisionError("a secret detail")

    monkeypatch.setattr(runner, "complete", broken)
    async with open_engine() as engine:
        run, _ = await engine.submit(request(repository, checks=()))
        events = await follow(engine, run)
    check_whole(events)
    assert "a secret detail" not in json.dumps(events)
    assert events_named(events, "run.failed")
    assert events[-1]["summary"]["outcome"] == "failed"


async def test_silence_is_explained(
    open_engine: OpenEngine, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that takes long says that it is what the run waits for, again and again."""
    monkeypatch.setattr(silence, "SILENCE_S", 0.2)
    async with open_engine() as engine:
        run, _ = await engine.submit(request(repository, checks=("sleep 1.1",)))
        events = await follow(engine, run)
    waiting = events_named(events, "step.waiting")
    assert {"the check 'sleep 1.1'"} <= {event["data"]["waiting_for"] for event in waiting}
    in_analysis = [event for event in waiting if event["step"] == "analysis"]
    assert len(in_analysis) >= 3
    silent = [event["data"]["silent_s"] for event in in_analysis]
    assert silent == sorted(silent)
    assert silent[-1] - silent[0] > 0.3
    # Of the check alone, not of the run.
    assert silent[0] < 0.4
    check_whole(events)


def test_steps_and_version_belong_together() -> None:
    """A change of the steps strands runs that are under way, unless the version tells."""
    steps = ["init", "validation", "clone", "analysis", "planning", "implementation", "complete"]
    assert (WORKFLOW_VERSION, [step.name for step in STEPS]) == ("wf1", steps)
