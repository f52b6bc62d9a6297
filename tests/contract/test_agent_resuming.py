"""What a run keeps of its agent's work when the server ends in the middle of it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from patchkiln.agent.builtin import BuiltinAgent
from patchkiln.domain.run import RUN_CANCEL_REQUESTED, Run, RunRequest
from patchkiln.engine import RunEngine
from patchkiln.engines.memory import MemoryEngine
from patchkiln.models import Models
from patchkiln.stores.memory import MemoryStore
from tests.support.engine import Event, engine_over, events_named, follow, follow_until
from tests.support.repositories import make_repository
from tests.support.runs import said
from tests.support.scripted_model import Call, Calls, Fail, Hang, Say, ScriptedModel, Turn

Begin: TypeAlias = Callable[[Sequence[Turn]], AbstractAsyncContextManager["Server"]]
WRITE = Calls(Call("write_file", path="new.txt", content="hi\n"))
DONE = Say("I wrote it.")


class Server:
    """An engine with the builtin agent, and the model that it talks to."""

    def __init__(self, engine: RunEngine, model: ScriptedModel) -> None:
        """Take both."""
        self.engine = engine
        self.model = model

    def asked(self) -> list[list[dict[str, Any]]]:
        """Return the messages of each request for a turn of work."""
        return [request.messages for request in self.model.requests if not request.planning]


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    """Return what starts a server over the same store, with a model that has its own script."""
    repository = make_repository(tmp_path / "greeting", {"greeting.py": "print('hi')\n"})
    store, carrier = MemoryStore(), MemoryEngine()

    @asynccontextmanager
    async def begun(turns: Sequence[Turn]) -> AsyncGenerator[Server]:
        with ScriptedModel(turns) as model:
            models = Models(
                default="openai:scripted", keys={"OPENAI_API_KEY": "k"}, base_url=model.base_url
            )
            async with engine_over(
                tmp_path / "data",
                BuiltinAgent(models.model),
                allow=(f"file://{repository}",),
                store=store,
                carrier=carrier,
            ) as engine:
                yield Server(engine, model)

    return begun


async def start(server: Server, tmp_path: Path) -> Run:
    """Start a run without checks."""
    request = RunRequest(
        repo_url=f"file://{tmp_path / 'greeting'}",
        repository="greeting",
        prompt="Say hello",
        agent="scripted",
        checks=(),
    )
    return (await server.engine.submit(request))[0]


async def until_asked(server: Server, times: int) -> None:
    """Wait until the model was asked for so many turns of work."""
    async with asyncio.timeout(30):
        while len(server.asked()) < times:  # noqa: ASYNC110 - the model has no event for it
            await asyncio.sleep(0.01)


def usage_of(events: Sequence[Event]) -> dict[str, Any]:
    """Return what the summary says of the usage."""
    usage: dict[str, Any] = events[-1]["summary"]["usage"]
    return usage


async def test_finished_turns_are_not_paid_again(begin: Begin, tmp_path: Path) -> None:
    """The conversation goes on after the last tool's answer, on the workspace as it was then."""
    async with begin([WRITE, Hang(DONE)]) as server:
        run = await start(server, tmp_path)
        await until_asked(server, 2)
    async with begin([DONE]) as server:
        events = await follow(server.engine, run)
        (asked,) = server.asked()
        diff = await server.engine.store.get_patch(run.id)
        assert len(server.model.requests) == 1
    assert [message["role"] for message in asked][-2:] == ["assistant", "tool"]
    (replaced,) = events_named(events, "sandbox.replaced")
    assert replaced["type"] == "warning"
    assert replaced["data"]["patch_bytes"] > 0
    assert diff is not None
    assert diff.count(b"+hi") == 1
    assert events[-1]["summary"]["outcome"] == "changed"
    # The plan, the turn that wrote, and the one that ended it.
    assert usage_of(events)["turns"] == 3


async def test_a_tool_that_was_under_way_is_repeated_on_what_was_before_it(
    begin: Begin, tmp_path: Path
) -> None:
    """Its half of a change is not in the new sandbox, and the model is not asked for it again."""
    slow = Calls(Call("shell", command="cat new.txt >> log.txt; sleep 1.5"))
    async with begin([WRITE, slow]) as server:
        run = await start(server, tmp_path)
        await until_asked(server, 2)
        await until_tools(server.engine, run, 2)
    async with begin([DONE]) as server:
        events = await follow(server.engine, run)
        assert len(server.model.requests) == 1
        diff = await server.engine.store.get_patch(run.id)
    assert diff is not None
    # Once in each of the two files.
    assert diff.count(b"+hi") == 2
    assert usage_of(events)["turns"] == 4
    assert events[-1]["summary"]["outcome"] == "changed"


async def until_tools(engine: RunEngine, run: Run, count: int) -> None:
    """Wait until so many tools were called."""
    seen = 0
    async with asyncio.timeout(30):
        async for batch in engine.follow(run.id):
            seen += sum('"agent.tool_called"' in event.payload for event in batch)
            if seen >= count:
                return


async def test_a_retry_goes_on_with_the_conversation(begin: Begin, tmp_path: Path) -> None:
    """A model that was out of order for long costs none of the turns before."""
    async with begin([WRITE, Fail(400, "no")]) as server:
        run = await start(server, tmp_path)
        failed = await follow(server.engine, run)
        assert failed[-1]["summary"]["outcome"] == "failed"
    async with begin([DONE]) as server:
        retry, _ = await server.engine.retry(run.id)
        events = await follow(server.engine, retry)
        assert len(server.model.requests) == 1
        diff = await server.engine.store.get_patch(retry.id)
    assert events[-1]["summary"]["outcome"] == "changed"
    assert diff is not None
    assert b"+hi" in diff


async def test_a_cancel_after_the_stop_keeps_what_the_agent_had_done(
    begin: Begin, tmp_path: Path
) -> None:
    """The patch of the last turn is the run's, though no sandbox of it lives."""
    async with begin([WRITE, Hang(DONE)]) as server:
        run = await start(server, tmp_path)
        await until_asked(server, 2)
        await server.engine.store.append(run.id, [said(RUN_CANCEL_REQUESTED)])
    async with begin([]) as server:
        events = await follow(server.engine, run)
        diff = await server.engine.store.get_patch(run.id)
        assert server.model.requests == []
    assert events[-1]["summary"]["outcome"] == "cancelled"
    assert events[-1]["summary"]["files_modified"] == 1
    assert diff is not None
    assert b"+hi" in diff


async def test_a_background_process_outlives_what_is_kept(begin: Begin, tmp_path: Path) -> None:
    """A server that the agent has started is still there at its next turn."""
    serve = Calls(Call("shell", command="(sleep 60 & echo $! > pid.txt) >/dev/null 2>&1"))
    look = Calls(Call("shell", command="kill -0 $(cat pid.txt) && echo alive > seen.txt"))
    async with begin([serve, WRITE, look, DONE]) as server:
        run = await start(server, tmp_path)
        await follow_until(server.engine, run, "run.finished")
        diff = await server.engine.store.get_patch(run.id)
    assert diff is not None
    assert b"+alive" in diff
