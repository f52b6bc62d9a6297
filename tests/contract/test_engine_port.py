"""What every engine promises (`patchkiln.ports.engine.Engine`), over each of them."""

import asyncio
import sqlite3
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from patchkiln.engines.dbos import DbosEngine
from patchkiln.engines.memory import MemoryEngine
from patchkiln.errors import StoreError
from patchkiln.ports.engine import Engine, Journal, Standing, Workflow

NAMES = ("one", "two", "three")
LONG_S = 300.0


@pytest.fixture(params=["memory", "dbos"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Engine]:
    """Lend an engine of each kind, not yet open."""
    made: Engine = (
        MemoryEngine()
        if request.param == "memory"
        else DbosEngine(tmp_path / "data" / "engine.db", version="wf1")
    )
    yield made
    await made.close()


class Worker:
    """A workflow of three steps, and what it did. ``hooks`` are called in place of a step."""

    def __init__(self) -> None:
        """Have done nothing."""
        self.did: list[str] = []
        self.results: list[str] = []
        self.ended = asyncio.Event()
        self.hooks: dict[str, Callable[[], Awaitable[None]]] = {}

    async def workflow(self, run_id: str, journal: Journal) -> None:
        """Do the steps that are not yet done."""
        results: list[str] = []
        for name in NAMES:

            async def work(name: str = name) -> str:
                self.did.append(name)
                if name in self.hooks:
                    await self.hooks[name]()
                return f"{run_id} {name}"

            results.append(await journal.step(name, work))
        self.results = results
        self.ended.set()

    async def end(self) -> None:
        """Wait until a workflow has ended."""
        async with asyncio.timeout(20):
            await self.ended.wait()


async def until_over(engine: Engine, run_id: str) -> None:
    """Wait until a run's workflow is over."""
    async with asyncio.timeout(20):
        while await engine.standing(run_id) is not Standing.OVER:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)


async def open_with(engine: Engine, workflow: Workflow) -> None:
    """Open an engine within its time."""
    async with asyncio.timeout(30):
        await engine.open(workflow)


async def hang() -> None:
    """Never end by itself."""
    await asyncio.sleep(LONG_S)


async def test_a_started_run_goes_through_its_steps_once(engine: Engine) -> None:
    """Each step is done once and in order, though the run is started twice; then it is over."""
    worker = Worker()
    await open_with(engine, worker.workflow)
    assert await engine.standing("run_1") is Standing.UNKNOWN
    await engine.start("run_1")
    await engine.start("run_1")
    await worker.end()
    await until_over(engine, "run_1")
    assert worker.did == list(NAMES)
    assert worker.results == [f"run_1 {name}" for name in NAMES]
    assert await engine.finished_steps("run_1") == {name: f"run_1 {name}" for name in NAMES}
    assert list(await engine.finished_steps("run_1")) == list(NAMES)


async def test_a_stopped_run_goes_on_at_its_unfinished_step(engine: Engine) -> None:
    """After a stop in the middle of a step, finished ones are told from their records."""
    first, second = Worker(), Worker()
    reached = asyncio.Event()

    async def stall() -> None:
        reached.set()
        await hang()

    first.hooks["two"] = stall
    await open_with(engine, first.workflow)
    await engine.start("run_1")
    async with asyncio.timeout(20):
        await reached.wait()
    assert await engine.standing("run_1") is Standing.UNDER_WAY
    await engine.close()
    assert first.did == ["one", "two"]
    await open_with(engine, second.workflow)
    await second.end()
    await until_over(engine, "run_1")
    assert second.did == ["two", "three"]
    assert second.results == [f"run_1 {name}" for name in NAMES]


async def test_a_workflow_that_raises_is_left_unfinished(engine: Engine) -> None:
    """Neither the failed step nor the run has an end; both begin again at the next start."""
    first, second = Worker(), Worker()
    raised = asyncio.Event()

    async def fail() -> None:
        raised.set()
        raise ValueError("a fault")

    first.hooks["two"] = fail
    await open_with(engine, first.workflow)
    await engine.start("run_1")
    async with asyncio.timeout(20):
        await raised.wait()
    assert await engine.standing("run_1") is Standing.UNDER_WAY
    assert list(await engine.finished_steps("run_1")) == ["one"]
    await engine.close()
    await open_with(engine, second.workflow)
    await second.end()
    assert second.did == ["two", "three"]


async def test_the_work_of_a_step_is_in_the_task_of_its_workflow(engine: Engine) -> None:
    """So a workflow can cancel and bound its steps, and it may end after a cancelled one."""
    ended = asyncio.Event()

    async def workflow(run_id: str, journal: Journal) -> None:
        async def work() -> str:
            await hang()
            return ""

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await journal.step("one", work)
        ended.set()

    await open_with(engine, workflow)
    await engine.start("run_1")
    async with asyncio.timeout(20):
        await ended.wait()
    await until_over(engine, "run_1")
    assert await engine.finished_steps("run_1") == {}


async def test_runs_go_side_by_side(engine: Engine) -> None:
    """One that hangs holds no other up, and a large record comes back as it was."""
    record = "x" * 90_000
    ended: set[str] = set()
    done = asyncio.Event()

    async def workflow(run_id: str, journal: Journal) -> None:
        async def work() -> str:
            if run_id == "run_0":
                await hang()
            return record

        assert await journal.step("one", work) == record
        ended.add(run_id)
        if len(ended) == 9:
            done.set()

    await open_with(engine, workflow)
    for number in range(10):
        await engine.start(f"run_{number}")
    async with asyncio.timeout(20):
        await done.wait()
    assert ended == {f"run_{number}" for number in range(1, 10)}
    assert (await engine.finished_steps("run_3"))["one"] == record
    assert await engine.finished_steps("run_0") == {}


async def test_a_forgotten_run_is_unknown(engine: Engine) -> None:
    """What is over can be forgotten, any number of times; what is under way can not."""
    worker = Worker()
    await open_with(engine, worker.workflow)
    await engine.start("run_1")
    await worker.end()
    await until_over(engine, "run_1")
    worker.hooks["one"] = hang
    await engine.start("run_2")
    for run_id in ("run_1", "run_1", "run_2", "run_no"):
        await engine.forget(run_id)
    assert await engine.standing("run_1") is Standing.UNKNOWN
    assert await engine.standing("run_2") is Standing.UNDER_WAY
    assert await engine.finished_steps("run_1") == {}


async def test_closing_twice_does_nothing(engine: Engine) -> None:
    """An engine that was never opened, or is closed, can be closed."""
    await engine.close()
    await open_with(engine, Worker().workflow)
    await engine.close()
    await engine.close()


async def test_what_another_version_began_waits_for_it(tmp_path: Path) -> None:
    """DBOS alone outlives an update: a run of other steps is known, and is not carried out."""
    path = tmp_path / "data" / "engine.db"
    old, new, again = (DbosEngine(path, version=version) for version in ("wf1", "wf2", "wf1"))
    first, second, third = Worker(), Worker(), Worker()
    reached = asyncio.Event()

    async def stall() -> None:
        reached.set()
        await hang()

    first.hooks["two"] = stall
    try:
        await open_with(old, first.workflow)
        await old.start("run_1")
        async with asyncio.timeout(20):
            await reached.wait()
        await old.close()
        await open_with(new, second.workflow)
        assert await new.standing("run_1") is Standing.OTHER_VERSION
        await new.start("run_2")
        await second.end()
        assert second.did == list(NAMES)
        await new.close()
        await open_with(again, third.workflow)
        await third.end()
        assert third.did == ["two", "three"]
    finally:
        for engine in (old, new, again):
            await engine.close()


async def test_the_database_is_opened_as_a_crash_asks_for(tmp_path: Path) -> None:
    """For this user's eyes alone, with a log ahead, and with nothing pickled in it."""
    path = tmp_path / "data" / "engine.db"
    engine = DbosEngine(path, version="wf1")
    worker = Worker()
    try:
        await open_with(engine, worker.workflow)
        await engine.start("run_1")
        await worker.end()
        await until_over(engine, "run_1")
        modes = {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    finally:
        await engine.close()
    assert modes == {0o600}
    with closing(sqlite3.connect(path)) as connection:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        kinds = connection.execute(
            "SELECT DISTINCT serialization FROM workflow_status "
            "UNION SELECT DISTINCT serialization FROM operation_outputs"
        ).fetchall()
    assert mode == "wal"
    assert kinds == [("portable_json",)]


async def test_dbos_says_nothing_of_its_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Its log holds stack traces; what there is to tell, the engine above tells."""
    engine, worker = DbosEngine(tmp_path / "engine.db", version="wf1"), Worker()

    async def fail() -> None:
        raise ValueError("a secret detail")

    worker.hooks["one"] = fail
    try:
        await open_with(engine, worker.workflow)
        await engine.start("run_1")
        async with asyncio.timeout(20):
            while not worker.did:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.01)
    finally:
        await engine.close()
    assert capfd.readouterr() == ("", "")
    assert "dbos" not in caplog.text


async def test_asking_a_closed_engine_is_an_error(tmp_path: Path) -> None:
    """What cannot be kept is not promised."""
    engine = DbosEngine(tmp_path / "engine.db", version="wf1")
    with pytest.raises(StoreError, match="closed"):
        await engine.start("run_1")
