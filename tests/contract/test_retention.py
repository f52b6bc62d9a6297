"""Forgetting what ended long ago, in the background of a server."""

import asyncio
import time
from collections.abc import Callable

import pytest

from patchkiln.domain.run import Run
from patchkiln.engine import retention as module
from patchkiln.engine.retention import retention, sweep
from patchkiln.errors import StoreError
from patchkiln.stores.memory import MemoryStore
from tests.support.runs import CREATED, DONE, REQUEST, said

DAY_NS = 86_400 * 10**9


@pytest.fixture
def days_go_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return what sets the clock forward."""
    now_ns = time.time_ns()

    def go_by(days: int) -> None:
        monkeypatch.setattr(time, "time_ns", lambda: now_ns + days * DAY_NS)

    return go_by


async def ended_run(store: MemoryStore) -> Run:
    """Create a run of a thousand events and end it."""
    run, _ = await store.create_run(Run.new(REQUEST), CREATED)
    await store.append(run.id, [said("a.b")] * 998)
    await store.append(run.id, [DONE])
    return run


async def held(store: MemoryStore, run: Run) -> int:
    """Return how many events of a run there are."""
    return len(await store.events(run.id, after=0, limit=10_000))


async def test_sweep_forgets_what_is_older_than_its_days(
    days_go_by: Callable[[int], None],
) -> None:
    """A day too early nothing goes, then all but the summary, in batches."""
    store = MemoryStore()
    run = await ended_run(store)
    days_go_by(29)
    assert await sweep(store, days=30) == 0
    assert await held(store, run) == 1000
    days_go_by(31)
    assert await sweep(store, days=30) == 2
    assert await held(store, run) == 1
    assert await sweep(store, days=30) == 0


@pytest.mark.parametrize(("days", "left"), [(30, 1), (0, 1000)])
async def test_a_server_sweeps_by_itself(
    days_go_by: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, days: int, left: int
) -> None:
    """Again and again, also after a failure; with 0 days never."""
    monkeypatch.setattr(module, "SWEEP_S", 0.001)
    store = MemoryStore()
    run = await ended_run(store)
    failures = [StoreError("The database failed.")]
    prune = store.prune

    async def failing(*, ended_before_ms: int, limit: int) -> bool:
        if failures:
            raise failures.pop()
        return await prune(ended_before_ms=ended_before_ms, limit=limit)

    monkeypatch.setattr(store, "prune", failing)
    async with retention(store, days=days):
        await asyncio.sleep(0.05)
        assert await held(store, run) == 1000
        days_go_by(31)
        for _ in range(200):
            await asyncio.sleep(0.01)
            if await held(store, run) == left:
                break
    assert await held(store, run) == left
