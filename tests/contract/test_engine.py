"""What the engine promises about runs, on a real sandbox and real git."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from patchkiln.domain.plan import Plan, Refusal
from patchkiln.domain.run import Outcome, Run, RunRequest, RunStatus
from patchkiln.domain.usage import Limits
from patchkiln.engine import RunEngine
from patchkiln.errors import Conflict, ModelError, NotFound, TooManyRuns
from patchkiln.pipeline.steps import STEPS
from patchkiln.ports.agent import AgentResult, AgentUpdate
from patchkiln.ports.sandbox import Sandbox
from patchkiln.ports.store import IdempotencyKey
from tests.support.engine import engine_over, events_named, follow, follow_until
from tests.support.repositories import make_repository
from tests.support.scripted_agent import DONE, ScriptedAgent

OpenEngine: TypeAlias = Callable[..., AbstractAsyncContextManager[RunEngine]]

FILES: dict[str, bytes | str] = {
    "greeting.py": "print('hi')\n",
    "test_greeting.py": "def test_it():\n    assert True\n",
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository with one green test."""
    return make_repository(tmp_path / "greeting", FILES)


@pytest.fixture
def open_engine(tmp_path: Path, repository: Path) -> OpenEngine:
    """Return what opens an engine with one scripted agent, allowed to clone the repository."""
    return partial(engine_over, tmp_path / "data", allow=(f"file://{repository}",))


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


async def test_a_run_is_told_gapless_from_its_creation_to_one_summary(
    open_engine: OpenEngine, repository: Path
) -> None:
    """Every step starts and ends, seq counts from 1, progress never goes back, summary is last."""
    async with open_engine() as engine:
        run, created = await engine.submit(request(repository))
        events = await follow(engine, run)
        finished = await engine.store.get_run(run.id)
    assert created
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    progress = [event["progress"] for event in events]
    assert progress == sorted(progress)
    assert progress[-1] == 100
    for name in ("step.started", "step.completed"):
        assert [event["step"] for event in events_named(events, name)] == [s.name for s in STEPS]
    assert [event["type"] for event in events].count("summary") == 1
    summary = events[-1]["summary"]
    assert (summary["outcome"], summary["verdict"]) == ("changed", "verified")
    assert summary["files_modified"] == 1
    assert finished.status is RunStatus.FINISHED
    assert finished.outcome is Outcome.CHANGED
    assert finished.sandbox_id == summary["sandbox_id"]


async def test_the_patch_is_what_the_agent_changed(
    open_engine: OpenEngine, repository: Path
) -> None:
    """The stored patch adds the agent's file and nothing that the checks left behind."""
    async with open_engine() as engine:
        run, _ = await engine.submit(request(repository))
        await follow(engine, run)
        diff = await engine.store.get_patch(run.id)
    assert diff is not None
    assert diff.count(b"diff --git") == 1
    assert b"+hello" in diff


async def test_one_file_is_not_told_as_many(tmp_path: Path) -> None:
    """A repository of one file and a patch of one are told in the singular."""
    single = make_repository(tmp_path / "single", {"greeting.py": "print('hi')\n"})
    async with engine_over(tmp_path / "data", allow=(f"file://{single}",)) as engine:
        run, _ = await engine.submit(request(single))
        events = await follow(engine, run)
    (analysed,) = events_named(events, "repository.analysed")
    (made,) = events_named(events, "patch.made")
    assert analysed["message"].startswith("1 file (")
    assert made["message"].startswith("Patch made: 1 file, ")


async def test_a_follower_that_comes_late_or_again_sees_the_same_events(
    open_engine: OpenEngine, repository: Path
) -> None:
    """Live, late and from the middle: the same facts, none lost, none doubled."""
    async with open_engine() as engine:
        run, _ = await engine.submit(request(repository))
        live = await follow(engine, run)
        assert await follow(engine, run) == live
        assert await follow(engine, run, after=5) == live[5:]
        assert await follow(engine, run, after=len(live)) == []
        with pytest.raises(NotFound):
            await follow(engine, Run.new(request(repository)))


async def test_a_follower_that_leaves_does_not_stop_the_run(
    open_engine: OpenEngine, repository: Path
) -> None:
    """A run belongs to the server."""
    async with open_engine() as engine:
        run, _ = await engine.submit(request(repository))
        await follow_until(engine, run, "run.created")
        events = await follow(engine, run)
    assert events[-1]["summary"]["outcome"] == "changed"


async def test_an_agent_that_changes_nothing_ends_as_no_change(
    open_engine: OpenEngine, repository: Path
) -> None:
    """An empty patch is told as what it is, and judged by nothing."""

    async def idle(_sandbox: Sandbox) -> AsyncGenerator[AgentUpdate | AgentResult]:
        yield DONE

    async with open_engine(ScriptedAgent(idle)) as engine:
        run, _ = await engine.submit(request(repository))
        summary = (await follow(engine, run))[-1]["summary"]
    assert (summary["outcome"], summary["verdict"]) == ("no_change", "skipped")


async def test_a_change_that_breaks_a_test_is_told_as_regressed(
    open_engine: OpenEngine, repository: Path
) -> None:
    """The verdict comes from the checks on base and result, not from the agent."""

    async def sabotage(sandbox: Sandbox) -> AsyncGenerator[AgentUpdate | AgentResult]:
        await sandbox.write("test_greeting.py", b"def test_it():\n    assert False\n")
        yield DONE

    async with open_engine(ScriptedAgent(sabotage)) as engine:
        run, _ = await engine.submit(request(repository))
        events = await follow(engine, run)
    assert events[-1]["summary"]["verdict"] == "regressed"
    phases = [event["data"]["phase"] for event in events_named(events, "check.finished")]
    assert phases == ["base", "result"]


async def test_an_agent_that_fakes_the_tools_does_not_fake_the_verdict(
    open_engine: OpenEngine, repository: Path
) -> None:
    """Checks run on the patch in a fresh sandbox; what the agent left in its own counts nothing."""

    async def cheat(sandbox: Sandbox) -> AsyncGenerator[AgentUpdate | AgentResult]:
        await sandbox.write("test_greeting.py", b"def test_it():\n    assert False\n")
        site = "/home/user/.local/lib/python3.{}/site-packages/usercustomize.py"
        for minor in range(9, 16):
            await sandbox.write(site.format(minor), b"import os\nos._exit(0)\n")
        yield DONE

    async with open_engine(ScriptedAgent(cheat)) as engine:
        run, _ = await engine.submit(request(repository))
        assert (await follow(engine, run))[-1]["summary"]["verdict"] == "regressed"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("conftest.py", "import os\nos._exit(0)\n"),
        ("pytest.ini", "[pytest]\naddopts = -k nothing\n"),
        ("pytest.py", "print('1 passed in 0.01s')\n"),
    ],
)
async def test_a_patch_that_switches_its_judges_off_is_not_silently_verified(
    open_engine: OpenEngine, repository: Path, name: str, content: str
) -> None:
    """Cut-short suites verify nothing; where only the patch's own word is left, that is told."""

    async def cheat(sandbox: Sandbox) -> AsyncGenerator[AgentUpdate | AgentResult]:
        await sandbox.write("test_greeting.py", b"def test_it():\n    assert False\n")
        await sandbox.write(name, content.encode())
        yield DONE

    async with open_engine(ScriptedAgent(cheat)) as engine:
        run, _ = await engine.submit(request(repository))
        events = await follow(engine, run)
    (reached,) = events_named(events, "verdict.reached")
    assert reached["type"] == "warning"
    assert name in reached["data"]["changed_judges"]
    assert reached["data"]["verdict"] != "verified" or name in reached["data"]["reason"]


async def test_a_refusal_changes_nothing_and_says_what_to_do(
    open_engine: OpenEngine, repository: Path
) -> None:
    """A refused plan is told by an error frame with a remedy, then the summary."""
    refusal = Refusal(code="not_mine", reason="Not my prompt.", remedy="Ask another.")
    agent = ScriptedAgent(plan=Plan(intent="Nothing", refusal=refusal))
    async with open_engine(agent) as engine:
        run, _ = await engine.submit(request(repository))
        events = await follow(engine, run)
        finished = await engine.store.get_run(run.id)
    (told,) = events_named(events, "run.refused")
    assert told["type"] == "error"
    assert told["data"] == {"code": "not_mine", "retryable": False, "remedy": "Ask another."}
    assert events[-1]["summary"]["outcome"] == "refused"
    assert finished.error is not None


async def test_cancel_ends_the_run_soon_and_keeps_what_it_had(
    open_engine: OpenEngine, repository: Path
) -> None:
    """A cancelled run keeps the agent's unfinished work; a second cancel is no error."""
    async with open_engine(ScriptedAgent(write_then_sleep)) as engine:
        run, _ = await engine.submit(request(repository))
        await follow_until(engine, run, "agent.file_edited")
        await engine.cancel(run.id)
        await engine.cancel(run.id)
        events = await follow(engine, run)
        diff = await engine.store.get_patch(run.id)
        assert (await engine.cancel(run.id)).outcome is Outcome.CANCELLED
    assert len(events_named(events, "run.cancel_requested")) == 1
    assert events[-1]["summary"]["outcome"] == "cancelled"
    assert diff is not None
    assert b"+half" in diff


async def test_a_run_that_waits_for_a_slot_can_be_cancelled(
    open_engine: OpenEngine, repository: Path
) -> None:
    """The queue is told, and its runs end like others."""
    async with open_engine(ScriptedAgent(write_then_sleep), running=1) as engine:
        first, _ = await engine.submit(request(repository))
        await follow_until(engine, first, "agent.file_edited")
        second, _ = await engine.submit(request(repository))
        await follow_until(engine, second, "run.queued")
        await engine.cancel(second.id)
        assert (await follow(engine, second))[-1]["summary"]["outcome"] == "cancelled"
        await engine.cancel(first.id)
        await follow(engine, first)


async def test_the_limit_of_minutes_ends_the_run_with_its_partial_patch(
    open_engine: OpenEngine, repository: Path
) -> None:
    """A spent budget is its own outcome, told before the summary."""
    limits = Limits(minutes=4 / 60)
    async with open_engine(ScriptedAgent(write_then_sleep)) as engine:
        run, _ = await engine.submit(request(repository, limits=limits, checks=()))
        events = await follow(engine, run)
        diff = await engine.store.get_patch(run.id)
    assert events_named(events, "run.budget_exhausted")
    assert events[-1]["summary"]["outcome"] == "budget_exhausted"
    assert diff is not None
    assert b"+half" in diff


async def test_a_failure_of_the_agent_is_told_with_code_and_remedy(
    open_engine: OpenEngine, repository: Path
) -> None:
    """A known error keeps its code, its retryable flag and its remedy."""

    async def fail(_sandbox: Sandbox) -> AsyncGenerator[AgentUpdate | AgentResult]:
        yield AgentUpdate(event="agent.message", message="Trying")
        raise ModelError("The model answered nothing.")

    async with open_engine(ScriptedAgent(fail)) as engine:
        run, _ = await engine.submit(request(repository))
        events = await follow(engine, run)
    (told,) = events_named(events, "run.failed")
    assert (told["type"], told["step"]) == ("error", "implementation")
    assert told["data"]["code"] == "model_error"
    assert told["data"]["retryable"] is True
    assert events[-1]["summary"]["outcome"] == "failed"


async def test_an_unforeseen_error_ends_the_run_without_its_trace(
    open_engine: OpenEngine, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The stream has one sentence, the log kind and place; neither has the error's own text."""

    async def crash(_sandbox: Sandbox) -> AsyncGenerator[AgentUpdate | AgentResult]:
        yield AgentUpdate(event="agent.message", message="Trying")
        raise ZeroDivisionError("a secret detail")

    async with open_engine(ScriptedAgent(crash)) as engine:
        run, _ = await engine.submit(request(repository))
        events = await follow(engine, run)
    assert "a secret detail" not in json.dumps(events)
    assert "a secret detail" not in caplog.text
    assert f"ZeroDivisionError in {run.id} at patchkiln.engine.execution" in caplog.text
    assert events[-1]["summary"]["outcome"] == "failed"


async def test_a_caller_with_too_many_runs_is_told_to_wait(
    open_engine: OpenEngine, repository: Path
) -> None:
    """The bound is a caller's own; the same idempotency key still re-attaches."""
    async with open_engine(ScriptedAgent(write_then_sleep), room=1) as engine:
        key = IdempotencyKey(caller="anonymous", key="k", fingerprint="f")
        run, _ = await engine.submit(request(repository), idempotency=key)
        with pytest.raises(TooManyRuns):
            await engine.submit(request(repository))
        again, created = await engine.submit(request(repository), idempotency=key)
        assert (again.id, created) == (run.id, False)
        with pytest.raises(Conflict):
            await engine.submit(
                request(repository), idempotency=replace(key, fingerprint="another")
            )
        other, _ = await engine.submit(request(repository, caller="other"))
        for each in (run, other):
            await engine.cancel(each.id)
            await follow(engine, each)


async def test_draining_ends_streams_without_a_summary(
    open_engine: OpenEngine, repository: Path
) -> None:
    """A client whose stream ends so knows that it must come back."""
    async with open_engine(ScriptedAgent(write_then_sleep)) as engine:
        run, _ = await engine.submit(request(repository))
        await follow_until(engine, run, "agent.file_edited")
        stream = asyncio.create_task(follow(engine, run))
        await asyncio.sleep(0)
        engine.drain()
        events = await stream
    assert events
    assert all(event["type"] != "summary" for event in events)
